"""What single calls cost, without a host: requests to storage, and processor time."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from statistics import fmean, median
from typing import Any

import msgspec
import pytest

from shared import gateway as composition
from shared.config import settings
from shared.routes import content, videos
from shared.routes.calls import Call, Request, pieces
from tests.fakes.round_trips import round_trips

_TIMES = 20
_AT_ONCE = 32
_ROUNDS = 9
_ADDITIONS = 100_000
_VIDEOS = 5


class Cost(msgspec.Struct, frozen=True):
    """The least processor time of some rounds, and the median of how many loops it was in each: a
    shared machine may be half as fast for a while, and then the loop is, too.
    """

    milliseconds: float
    loops: float


async def table_operations_per_status(given: Mapping[str, str], key: str, video_id: str) -> float:
    """The handler itself, in this process, on the app's own storage: the mean over a few calls in a
    row.
    """
    async with _calling(given, key) as call:
        await videos.get_video(call("GET"), video_id)  # the first call of a process also makes sure that the table exists
        with pytest.MonkeyPatch.context() as patched, round_trips(patched) as found:
            for _ in range(_TIMES):
                await videos.get_video(call("GET"), video_id)
    return found.requests / _TIMES


async def processor_per_call(given: Mapping[str, str], key: str, video_id: str, prompt: str) -> dict[str, Cost]:
    """The processor time of one call of each kind, in the same way. Creates are of this prompt; the
    app's sweep finds them.
    """
    async with _calling(given, key) as call:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "create": lambda: videos.create_video(_create(call, prompt)),
            "status": lambda: videos.get_video(call("GET"), video_id),
            "list of 20": lambda: videos.list_videos(call("GET")),
            "redirect to content": lambda: content.get_content(call("GET"), video_id),
        }
        took = {name: await _processor(each) for name, each in calls.items()}
        at_once = await _processor(lambda: asyncio.gather(*(calls["create"]() for _ in range(_AT_ONCE))), times=1)
    return took | {f"create, {_AT_ONCE} at once": Cost(at_once.milliseconds / _AT_ONCE, at_once.loops / _AT_ONCE)}


async def processor_per_activity(given: Mapping[str, str], key: str, prompt: str) -> dict[str, float]:
    """The same of what the engine calls in a video's life: the mean over a few videos, after one
    that imports what they need. A check goes on until the film is saved.
    """
    async with _calling(given, key) as call:
        lives = [await _life(call, prompt) for _ in range(1 + _VIDEOS)]
    return {name: fmean(life[name] for life in lives[1:]) for name in lives[0]}


async def _life(call: Callable[..., Call], prompt: str) -> dict[str, float]:
    video_id = (await videos.create_video(_create(call, prompt))).body["id"]
    steps = call("GET").gateway.steps
    took = {"submit": await _processor_of(lambda: steps.submit(video_id))}
    took["check, until it is saved"] = await _processor_of(lambda: steps.check(video_id))
    took["finish"] = await _processor_of(lambda: steps.finish({"video": video_id, "failure": None}))
    return took


async def _processor_of(activity: Callable[[], Awaitable[Any]]) -> float:
    begun = time.process_time()
    while outcome := await activity():
        if "again" not in outcome:
            break
        await asyncio.sleep(outcome["again"])
    return (time.process_time() - begun) * 1000


def _create(call: Callable[..., Call], prompt: str) -> Call:
    body = msgspec.json.encode({"prompt": prompt, "seconds": "4"})
    return call("POST", {"content-length": str(len(body))}, body=pieces(body))


async def _processor(call: Callable[[], Awaitable[object]], times: int = _TIMES) -> Cost:
    await call()
    rounds = []
    for _ in range(_ROUNDS):
        loop = loop_milliseconds()
        begun = time.process_time()
        for _ in range(times):
            await call()
        milliseconds = (time.process_time() - begun) / times * 1000
        rounds.append(Cost(milliseconds, milliseconds / loop))
    return Cost(min(each.milliseconds for each in rounds), median(each.loops for each in rounds))


def loop_milliseconds() -> float:
    """Processor time of a fixed loop, by which figures of two machines can be compared: the least
    of three.
    """
    rounds = []
    for _ in range(3):
        begun, total = time.process_time(), 0
        for number in range(_ADDITIONS):
            total += number
        rounds.append(time.process_time() - begun)
    return min(rounds) * 1000


@asynccontextmanager
async def _calling(given: Mapping[str, str], key: str) -> AsyncIterator[Callable[..., Call]]:
    """Makes calls of a gateway with these app settings. As in the app, the collector of cycles
    leaves out what was loaded before.
    """
    gateway = composition.build(settings.load(given))
    gc.collect()
    gc.freeze()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}

    def call(method: str, also: Mapping[str, str] | None = None, **more: Any) -> Call:
        return Call(gateway, Request(method, headers | dict(also or {}), **more), None, "bench")

    try:
        yield call
    finally:
        gc.unfreeze()
        await gateway.close()
