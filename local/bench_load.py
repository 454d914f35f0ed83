"""Traffic for the benchmark: requests one after the other, many callers at once, and downloads that are checked."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from local.bench_report import percentile

_LOOK_AGAIN_SECONDS = 0.1
_PATIENCE_SECONDS = 90.0

Send = Callable[[], Awaitable[httpx.Response]]


class BenchError(Exception):
    """What was measured did not do its job, so its speed says nothing."""


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


async def one_by_one(send: Send, times: int) -> Load:
    """One caller, who asks again as soon as it is answered."""
    begun = time.perf_counter()
    took = [await _timed(send) for _ in range(times)]
    return Load(times / (time.perf_counter() - begun), took)


async def at_once(send: Send, callers: int, seconds: float) -> Load:
    """So many callers for so long, each of whom asks again as soon as it is answered."""
    begun = time.perf_counter()

    async def caller() -> list[float]:
        took = []
        while time.perf_counter() < begun + seconds:
            took.append(await _timed(send))
        return took

    took = [each for one in await asyncio.gather(*(caller() for _ in range(callers))) for each in one]
    return Load(len(took) / (time.perf_counter() - begun), took)


async def _timed(send: Send) -> float:
    begun = time.perf_counter()
    accepted(await send())
    return (time.perf_counter() - begun) * 1000


def accepted(response: httpx.Response) -> httpx.Response:
    """The response, unless it is an error. Raises BenchError."""
    if not response.is_success:
        raise BenchError(
            f"{response.request.method} {response.request.url} was answered {response.status_code}: {response.text}"
        )
    return response


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Look until it is so. Raises BenchError after a minute and a half."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not await condition():  # noqa: ASYNC110 - what is waited for happens in another process
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    except TimeoutError:
        raise BenchError(f"{what}: not after {_PATIENCE_SECONDS:g} s") from None


async def ended(client: httpx.AsyncClient, video_ids: list[str]) -> None:
    """Wait until the videos are completed. Raises BenchError when one fails."""

    async def all_completed() -> bool:
        videos = [accepted(await client.get(f"/videos/{video_id}")).json() for video_id in video_ids]
        if failed := next((video for video in videos if video["status"] == "failed"), None):
            raise BenchError(f"video {failed['id']} failed: {failed['error']}")
        return all(video["status"] == "completed" for video in videos)

    await until(all_completed, f"{len(video_ids)} videos completed")


async def digest(client: httpx.AsyncClient, video_id: str) -> str:
    """Download a video, wherever that leads; the SHA-256 of its bytes."""
    found = hashlib.sha256()
    async with client.stream("GET", f"/videos/{video_id}/content", follow_redirects=True) as response:
        if not response.is_success:
            await response.aread()
        async for chunk in accepted(response).aiter_raw():
            found.update(chunk)
    return found.hexdigest()


async def digest_in_pieces(client: httpx.AsyncClient, video_id: str) -> str:
    """The same by range requests, each of which is answered with as much as the gateway gives at once."""
    found, at, total = hashlib.sha256(), 0, 1
    while at < total:
        response = accepted(await client.get(f"/videos/{video_id}/content", headers={"range": f"bytes={at}-"}))
        total = int(response.headers["content-range"].rpartition("/")[2])
        found.update(response.content)
        at += len(response.content)
    return found.hexdigest()


async def timed(work: Awaitable[Any]) -> tuple[float, Any]:
    """How many seconds something took, and what came of it."""
    begun = time.perf_counter()
    result = await work
    return time.perf_counter() - begun, result
