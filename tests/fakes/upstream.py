"""A scripted upstream: a small, honest /videos service in memory told what to say, which remembers
what it was asked.
"""

import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.parser import BytesParser
from email.policy import HTTP
from email.utils import format_datetime
from functools import partial
from typing import Any

import httpx

from shared.clock import Clock
from tests.fakes.films import small_film

Reply = httpx.Response | Exception


@dataclass
class ScriptedUpstream:
    """Hand `transport()` to the real client. `script(operation, reply, …)` decides the next answers
    of one operation.

    Operations: create, get, list, content, delete. A scripted create that is an exception after
    acceptance is `accept_then(...)`. `jobs` holds what was accepted, by id; `asked` every operation
    in order. Its clock is `ahead` of the gateway's by so many seconds; where it `dates` its lists,
    they tell.
    """

    clock: Clock
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    film: bytes = field(default_factory=small_film)
    ahead: float = 0.0
    dates: bool = False
    _before: Callable[[httpx.Request], httpx.Response | None] | None = None
    _meanwhile: Callable[[httpx.Request], Awaitable[None]] | None = None
    _scripts: dict[str, list[Callable[[httpx.Request], Reply]]] = field(default_factory=dict)

    def script(self, operation: str, *replies: Reply) -> None:
        for reply in replies:
            self._scripts.setdefault(operation, []).append(partial(_say, reply))

    def accept_then(self, failure: Exception) -> None:
        """The next create is accepted, but its answer never arrives."""

        def reply(request: httpx.Request) -> Reply:
            self._accept(request)
            return failure

        self._scripts.setdefault("create", []).append(reply)

    def before(self, say: Callable[[httpx.Request], httpx.Response | None]) -> None:
        """What is said to a request instead of everything else, where it is something."""
        self._before = say

    def meanwhile(self, happen: Callable[[httpx.Request], Awaitable[None]]) -> None:
        """What happens while a request is on its way."""
        self._meanwhile = happen

    def run(self, progress: int) -> None:
        """Every job is so far, in percent."""
        for job in self.jobs.values():
            job |= {"status": "in_progress", "progress": progress}

    def end(self, status: str = "completed", error: dict[str, Any] | None = None) -> None:
        """Every job comes to its end."""
        for job in self.jobs.values():
            job |= {"status": status, "progress": 100 if status == "completed" else job["progress"], "error": error}

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        if self._meanwhile is not None:
            await self._meanwhile(request)
        if self._before is not None and (said := self._before(request)) is not None:
            return unread(said)
        operation = _operation(request)
        self.asked.append(operation)
        scripted = self._scripts.get(operation)
        reply = scripted.pop(0)(request) if scripted else self._honest(operation, request)
        if isinstance(reply, Exception):
            raise reply
        return unread(reply)

    def _honest(self, operation: str, request: httpx.Request) -> httpx.Response:
        if operation == "create":
            return httpx.Response(200, json=self._accept(request), headers={"apim-request-id": "apim-1"})
        if operation == "list":
            return httpx.Response(200, json=self._page(request), headers=self._dated())
        job = self.jobs.get(request.url.path.split("/videos/")[1].split("/")[0])
        if job is None:
            return error(404, "The video does not exist.", type="invalid_request_error")
        if operation == "content":
            return content(self.film)
        return httpx.Response(200, json=job)

    def _page(self, request: httpx.Request) -> dict[str, Any]:
        newest_first = sorted(self.jobs.values(), key=lambda job: -job["created_at"])
        ids = [job["id"] for job in newest_first]
        after, limit = request.url.params.get("after"), int(request.url.params["limit"])
        start = ids.index(after) + 1 if after in ids else 0
        data = newest_first[start : start + limit]
        return {"object": "list", "data": data, "has_more": len(ids) > start + limit}

    def _now(self) -> datetime:
        return self.clock.now() + timedelta(seconds=self.ahead)

    def _dated(self) -> dict[str, str]:
        return {"date": format_datetime(self._now(), usegmt=True)} if self.dates else {}

    def _accept(self, request: httpx.Request) -> dict[str, Any]:
        job: dict[str, Any] = {
            "id": f"video_{secrets.token_hex(8)}",
            "object": "video",
            "status": "queued",
            "progress": 0,
            "created_at": int(self._now().timestamp()),
            **self._ordered(request),
        }
        self.jobs[job["id"]] = job
        return job

    def _ordered(self, request: httpx.Request) -> dict[str, Any]:
        """What a create says in its form; of a remix, what its source is, with the new prompt."""
        if not request.url.path.endswith("/remix"):
            return form_texts(request)
        source = self.jobs[request.url.path.split("/")[-2]]
        kept: dict[str, Any] = {name: source[name] for name in ("model", "seconds", "size") if name in source}
        return {**kept, "prompt": json.loads(request.read())["prompt"], "remixed_from_video_id": source["id"]}


def unread(reply: httpx.Response) -> httpx.Response:
    """The same answer with its body still to be read, as a server gives it."""
    if not reply.is_closed:
        return reply
    return httpx.Response(reply.status_code, headers=reply.headers, stream=httpx.ByteStream(reply.content))


def _say(reply: Reply, _: httpx.Request) -> Reply:
    return reply


def error(status: int, message: str, *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    """An answer in the OpenAI envelope."""
    body = {"message": message, "type": "video_generation_user_error", "param": None, "code": None, **more}
    return httpx.Response(status, content=json.dumps({"error": body}), headers=headers)


def content(body: bytes) -> httpx.Response:
    """A download that has not been read yet."""
    headers = {"content-type": "video/mp4", "content-length": str(len(body))}
    return httpx.Response(200, stream=httpx.ByteStream(body), headers=headers)


def form_texts(request: httpx.Request) -> dict[str, str]:
    """The text parts of a multipart request."""
    head = b"Content-Type: " + request.headers["content-type"].encode() + b"\r\n\r\n"
    message = BytesParser(policy=HTTP).parsebytes(head + request.read())
    texts = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if part.get_filename() is None:
            payload = part.get_payload(decode=True)
            texts[str(name)] = payload.decode() if isinstance(payload, bytes) else ""
    return texts


def _operation(request: httpx.Request) -> str:
    if "/videos" not in request.url.path:
        return "file"
    rest = request.url.path.split("/videos", 1)[1].strip("/")
    if not rest:
        return "create" if request.method == "POST" else "list"
    if rest.endswith("/remix"):
        return "create"
    if rest.endswith("/content"):
        return "content"
    return {"GET": "get", "DELETE": "delete"}[request.method]
