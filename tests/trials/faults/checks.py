"""The client of the fault matrix, and what it and everybody else may expect of a video whatever
happens upstream.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared.gateway import Gateway
from shared.media.video import Video
from shared.routes import paths
from shared.storage.tables import partition_of
from tests.fakes.asking import ask, request
from tests.trials.left_over import left_over


@dataclass
class Client:
    """Whoever asked for the video. `said` is every answer, with its headers; `wrong` what should
    have been another.
    """

    gateway: Gateway
    key_id: str
    secret: str
    said: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    async def ask(self, status: int, method: str, path: str, body: Any = None) -> Any:
        """A request as the host would hand it to the catch-all route; it should be answered with
        this status.
        """
        headers = {"authorization": f"Bearer {self.secret}", "content-type": "application/json"}
        data = msgspec.json.encode(body) if body is not None else b""
        reply = await ask(request(method, data, headers, path=path), paths.other_path, self.gateway)
        text = reply.body.decode()
        self.said.append(f"{reply.status} {reply.headers} {text}")
        if reply.status != status:
            self.wrong.append(f"{method} {path} was answered {self.said[-1]}, not {status}")
        return msgspec.json.decode(text) if text else None

    async def delete(self, video_id: str) -> None:
        answer = await self.ask(200, "DELETE", f"v1/videos/{video_id}")
        if answer != {"id": video_id, "object": "video.deleted", "deleted": True}:
            self.wrong.append(f"DELETE was answered {answer}")


async def ends_well(client: Client, video: Video, length: int) -> AsyncIterator[str]:
    """Whether its client is told how it ended, and can fetch all `length` bytes where it completed,
    and nothing where not.
    """
    there = video.status == "completed" and not video.deleted
    told = await client.ask(404 if video.deleted else 200, "GET", f"v1/videos/{video.id}")
    await client.ask(302 if there else 404 if video.deleted else 409, "GET", f"v1/videos/{video.id}/content")
    stored = await client.gateway.archive.length(video)
    if stored != (length if there else None):
        yield f"{stored} bytes are stored"
    reason = {"code": video.error_code, "message": video.error_message, "upstream_request_id": video.upstream_request_id}
    if not video.deleted and told["error"] != (reason if video.status == "failed" else None):
        yield f"its client is told {told['error']}"
    if video.status == "failed" and not video.error_message:
        yield "it failed without a message"


async def not_returned(client: Client, made: Iterable[Video]) -> AsyncIterator[str]:
    """What should be back when its videos have ended; and that no more was spent than they cost."""
    videos = list(made)
    async for each in left_over(client.gateway, {video.model for video in videos}, [client.key_id]):
        yield f"left over: {each}"
    account = await client.gateway.ledger.account(client.key_id)
    spend, cost = account.spend if account else 0, sum(video.spent for video in videos)
    if spend != cost:
        yield f"{spend} was spent, not {cost}"


async def leaks(client: Client, video: Video, secret: Iterable[str], log: Iterable[str]) -> AsyncIterator[str]:
    """Where a secret has come out. A caller's own prompt is part of its video and of what it is
    told, and nobody else's.
    """
    tables = client.gateway.tables
    pools, mine = tables.pools.scan(partition_of(video.model)), tables.gateway.scan(client.key_id)
    records = [str(row) for rows in (pools, mine) for row in [each async for each in rows]]
    words = [*secret, client.secret]
    for where, texts in (("an answer", client.said), ("a record", records), ("the log", log)):
        for each in _holding(words, texts):
            yield f"{where} holds {each}"
    for each in _holding([video.prompt], log):
        yield f"the log holds {each}"


def _holding(words: Iterable[str], texts: Iterable[str]) -> Iterator[str]:
    return (f"{word!r}: {text}" for text in texts for word in words if word in text)
