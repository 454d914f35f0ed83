"""Traffic for the benchmark: requests by turns, many callers at once, and downloads that are
checked.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.trials.bench.report import percentile

_LOOK_AGAIN_SECONDS = 0.1
_PATIENCE_SECONDS = 90.0
_REST_SECONDS = 300.0
_TIMEOUT = aiohttp.ClientTimeout(total=120)
_CHUNK = 1024 * 1024  # bytes

Send = Callable[[], Awaitable[Any]]


class BenchError(Exception):
    """What was measured did not do its job, so its speed says nothing."""


class Client:
    """Requests to one server, on aiohttp: with 32 callers httpx would take longer for a request
    than what is measured.

    Any answer but success raises BenchError.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._session = aiohttp.ClientSession(
            headers=headers, timeout=_TIMEOUT, connector=aiohttp.TCPConnector(limit=0), requote_redirect_url=False
        )

    async def get(self, path: str) -> Any:
        """An answer's JSON."""
        return await self._json("GET", path)

    async def post(self, path: str, **body: Any) -> Any:
        return await self._json("POST", path, **body)

    async def delete(self, path: str) -> Any:
        return await self._json("DELETE", path)

    async def _json(self, method: str, path: str, **body: Any) -> Any:
        async with self._session.request(method, self._url + path, **body) as response:
            await _check(response)
            return await response.json()

    async def digest(self, path: str) -> str:
        """Download, wherever that leads; the SHA-256 of the bytes."""
        found = hashlib.sha256()
        async with self._session.get(self._url + path) as response:
            await _check(response)
            async for chunk in response.content.iter_chunked(_CHUNK):
                found.update(chunk)
        return found.hexdigest()

    async def first_byte(self, path: str) -> None:
        """Begin a download, and leave when the first bytes have come."""
        async with self._session.get(self._url + path) as response:
            await _check(response)
            await response.content.readany()
            response.close()

    async def location(self, path: str) -> str:
        """Where a download is redirected to."""
        async with self._session.get(self._url + path, allow_redirects=False) as response:
            return response.headers["location"]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()


async def _check(response: aiohttp.ClientResponse) -> None:
    if not response.ok:
        raise BenchError(f"{response.method} {response.url} was answered {response.status}: {await response.text()}")


@dataclass(frozen=True)
class Load:
    """How many requests were answered per second, and how long each took in milliseconds."""

    per_second: float
    milliseconds: list[float]

    @property
    def p50(self) -> float:
        return percentile(self.milliseconds, 0.5)

    @property
    def p99(self) -> float:
        return percentile(self.milliseconds, 0.99)


async def by_turns(sends: Sequence[Send], times: int, rest: Client | None = None) -> list[list[float]]:
    """One caller, who sends each of these in turn, so that a busy moment hits all: how long each
    took, in milliseconds. With `rest`, this gateway comes to rest before each turn.
    """
    rounds = []
    for _ in range(times):
        if rest is not None:
            await at_rest(rest)
        rounds.append([await _milliseconds(send) for send in sends])
    return [list(took) for took in zip(*rounds, strict=True)]


async def at_once(send: Send, callers: int, seconds: float) -> Load:
    """So many callers for so long, each of whom asks again as soon as it is answered."""
    begun = time.perf_counter()

    async def caller() -> list[float]:
        took = []
        while time.perf_counter() < begun + seconds:
            took.append(await _milliseconds(send))
        return took

    took = [each for one in await asyncio.gather(*(caller() for _ in range(callers))) for each in one]
    return Load(len(took) / (time.perf_counter() - begun), took)


async def _milliseconds(send: Send) -> float:
    seconds, _ = await timed(send())
    return seconds * 1000


async def timed(work: Awaitable[Any]) -> tuple[float, Any]:
    """How many seconds something took, and what came of it."""
    begun = time.perf_counter()
    result = await work
    return time.perf_counter() - begun, result


async def until(condition: Callable[[], Awaitable[bool]], what: str, patience: float = _PATIENCE_SECONDS) -> None:
    """Look until it is so. Raises BenchError after `patience` seconds."""
    try:
        async with asyncio.timeout(patience):
            while not await condition():  # noqa: ASYNC110 - what is waited for happens in another process
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    except TimeoutError:
        raise BenchError(f"{what}: not after {patience:g} s") from None


async def ended(client: Client, video_ids: list[str]) -> None:
    """Wait until the videos are completed. Raises BenchError when one fails."""

    async def all_completed() -> bool:
        videos = [await client.get(f"/videos/{video_id}") for video_id in video_ids]
        if failed := next((video for video in videos if video["status"] == "failed"), None):
            raise BenchError(f"video {failed['id']} failed: {failed['error']}")
        return all(video["status"] == "completed" for video in videos)

    await until(all_completed, f"{len(video_ids)} videos completed")


async def at_rest(gateway: Client) -> None:
    """Wait until no video is under way: a second for each dozen that were created. Raises
    BenchError.
    """

    async def nothing_is_under_way() -> bool:
        pages = [await gateway.get(f"/videos?status={status}&limit=1") for status in ("queued", "in_progress")]
        return not any(page["data"] for page in pages)

    await until(nothing_is_under_way, "what was created has ended", _REST_SECONDS)
