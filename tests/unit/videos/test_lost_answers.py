"""Every write of a video's life, each once with its answer lost: the write worked, storage was
asked again, and its caller meets a conflict with itself.
"""

from collections.abc import Awaitable, Callable, Sequence

import pytest

from shared.media.video import GATEWAY_OWNER, Video
from shared.storage.tables import Write, WriteConflict, key_of
from shared.videos.step_result import StepResult
from tests.fakes.world import World, world

pytestmark = pytest.mark.anyio


class Loss:
    """Loses the answer to one write. `lost` are the keys of its rows, none before it came."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.lost: list[str] = []

    def __call__(self, writes: Sequence[Write]) -> None:
        self._left -= 1
        if self._left == 0:
            self.lost = [key_of(write) for write in writes]
            raise WriteConflict("lost")


async def test_no_lost_answer_of_storage_is_paid_twice_told_twice_or_left_over(azurite: str) -> None:
    """One video, one job, one price, one event of each kind, and nothing in the way of the next."""
    number, losing = 0, True
    while losing:
        number += 1
        async with world(azurite, real_tables=False, budget=10**9, sinks=("datadog",)) as it:
            it.faults.after = loss = Loss(number)
            video = await lived(it)
            await it.delivered()
            losing = bool(loss.lost)
            assert (video.status, await money(it)) == ("completed", (video.cost, 0, 0, video.cost, 0, 0)), loss.lost
            assert sorted(it.receivers.seen["datadog"]) == [f"{video.id}.ended", f"{video.id}.started"], loss.lost
            assert len(it.upstream.jobs) == 1, loss.lost
            assert not [each async for each, _ in it.gateway.pool.unfinished(it.model)], loss.lost
            assert not await it.gateway.pool.holders(it.model), loss.lost
    assert number > 20


async def lived(it: World) -> Video:
    """A video from its request to its end, by the steps that the engine runs."""
    reply = await it.send("POST", "/v1/videos", secret=it.secret, body={"prompt": "A cat", "seconds": "4"})
    video_id, steps = reply.json["id"], it.gateway.steps
    await done(it, lambda: steps.submit(video_id))
    it.upstream.end()
    await done(it, lambda: steps.check(video_id))
    if await steps.finish({"video": video_id, "failure": None}):
        await steps.leave(video_id)
    return await it.video(video_id)


async def done(it: World, step: Callable[[], Awaitable[StepResult]]) -> None:
    for _ in range(100):
        outcome = await step()
        if "again" not in outcome:
            break
        await it.clock.sleep(outcome["again"])
    assert "again" not in outcome
    assert "failed" not in outcome


async def money(it: World) -> tuple[int, ...]:
    """Spent, reserved and running: of the key, and of the whole gateway."""
    both = [await it.gateway.ledger.account(owner) for owner in (it.owner, GATEWAY_OWNER)]
    return tuple(number for each in both if each for number in (each.spend, each.reserved, each.running))
