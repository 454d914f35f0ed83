"""How the two watches take turns, on the stand-in engine and the real SDK."""

from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from shared.videos.watch import EVERY, FIRST_WATCH, LOOK, SECOND_WATCH, WATCH, watch
from tests.fakes.clock import VirtualClock
from tests.fakes.engine import Rig, running

pytestmark = pytest.mark.anyio

TIMER_SET = 10  # the type of event


class Looks:
    """The watches of a hub, of which each look starts the missing one, as the sweep does."""

    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock()
        self.rig = Rig(folder, self.clock, {WATCH: watch}, (LOOK,))
        self._began = self.clock.now()

    async def next(self, *, unfinished: bool = True) -> float:
        """Seconds since the beginning at which the next look comes."""
        dues = [await self._due(each) for each in (FIRST_WATCH, SECOND_WATCH) if await self._lives(each)]
        await self.clock.advance((min(dues) - self.clock.now()).total_seconds())
        call = await self.rig.called()
        if unfinished:
            await self._keep()
        call.returns(unfinished)
        return (self.clock.now() - self._began).total_seconds()

    async def _due(self, instance: str) -> datetime:
        """When its wait ends, once it waits."""
        await self.rig.until(instance, lambda _: TIMER_SET in self.rig.kinds(instance)[-2:])
        waits = [each for each in self.rig.hub.history(instance) if each["EventType"] == TIMER_SET]
        return datetime.fromisoformat(waits[-1]["FireAt"])

    async def _keep(self) -> None:
        for each in (FIRST_WATCH, SECOND_WATCH):
            if not await self._lives(each):
                await self.rig.hub.start(WATCH, each)

    async def _lives(self, instance: str) -> bool:
        status = await self.rig.hub.status(instance)
        return status is not None and status["runtimeStatus"] in ("Pending", "Running", "ContinuedAsNew")


async def test_two_watches_look_every_half_minute_in_turn(tmp_path: Path) -> None:
    """Create starts the first; its look starts the second, half a turn later."""
    looks = Looks(tmp_path)
    async with running(looks.rig) as it:
        await it.hub.start(WATCH, FIRST_WATCH)
        times = [await looks.next() for _ in range(6)]
        gaps = [after - before for before, after in pairwise(times)]
        assert all(abs(gap - EVERY.total_seconds()) <= 2 for gap in gaps), gaps


async def test_a_watch_that_is_lost_is_started_by_the_other(tmp_path: Path) -> None:
    """Nobody looks for a minute at most, and then every half minute again."""
    looks = Looks(tmp_path)
    async with running(looks.rig) as it:
        await it.hub.start(WATCH, FIRST_WATCH)
        before = [await looks.next() for _ in range(4)][-1]
        await it.hub.terminate(FIRST_WATCH, "lost")
        await it.ended(FIRST_WATCH)
        times = [before, *[await looks.next() for _ in range(4)]]
        gaps = [after - before for before, after in pairwise(times)]
        assert max(gaps) <= 62
        assert max(gaps[1:]) <= 32


async def test_both_end_when_nothing_is_unfinished(tmp_path: Path) -> None:
    looks = Looks(tmp_path)
    async with running(looks.rig) as it:
        await it.hub.start(WATCH, FIRST_WATCH)
        await looks.next()
        for each in (SECOND_WATCH, FIRST_WATCH):
            await looks.next(unfinished=False)
            assert (await it.ended(each))["runtimeStatus"] == "Completed"
