"""How the two watches take turns, on the stand-in engine and the real SDK."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.videos.watch import FIRST_WATCH, LOOK, SECOND_WATCH, WATCH, WATCHES, _next_turn, next_watch, watch
from tests.fakes.clock import VirtualClock
from tests.fakes.engine import Rig, running

pytestmark = pytest.mark.anyio

TIMER_SET = 10  # the type of event


class Looks:
    """The watches of a hub, of which each look starts the missing one, as the sweep does. The clock
    begins ten seconds after a full minute.
    """

    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock(datetime(2026, 11, 22, 12, 0, 10, tzinfo=UTC))
        self.rig = Rig(folder, self.clock, {WATCH: watch}, (LOOK,))
        self.began = self.clock.now()

    async def next(self, *, unfinished: bool = True) -> float:
        """Seconds since the beginning at which the next look comes."""
        dues = [await self.due(each) for each in WATCHES if await self._lives(each)]
        await self.clock.advance((min(dues) - self.clock.now()).total_seconds())
        call = await self.rig.called()
        if unfinished:
            await self.keep()
        call.returns(unfinished)
        return (self.clock.now() - self.began).total_seconds()

    async def due(self, instance: str) -> datetime:
        """When its wait ends, once it waits."""
        await self.rig.until(instance, lambda _: TIMER_SET in self.rig.kinds(instance)[-2:])
        waits = [each for each in self.rig.hub.history(instance) if each["EventType"] == TIMER_SET]
        return datetime.fromisoformat(waits[-1]["FireAt"])

    async def until(self, instance: str) -> datetime:
        """What its custom status says."""
        status = await self.rig.hub.status(instance)
        assert status is not None
        return datetime.fromisoformat(status["customStatus"]["until"])

    async def keep(self) -> None:
        for each in WATCHES:
            if not await self._lives(each):
                await self.rig.hub.start(WATCH, each)

    async def _lives(self, instance: str) -> bool:
        status = await self.rig.hub.status(instance)
        return status is not None and status["runtimeStatus"] in ("Pending", "Running", "ContinuedAsNew")


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[Looks]:
    """Both watches, started as a create does."""
    looks = Looks(folder)
    async with running(looks.rig):
        await looks.keep()
        yield looks


async def test_two_watches_look_every_twenty_seconds_in_turn(tmp_path: Path) -> None:
    """At times of their own, whenever they were started."""
    async with watching(tmp_path) as looks:
        assert [await looks.next() for _ in range(5)] == [10, 30, 50, 70, 90]


async def test_the_watch_that_a_create_starts_looks_first_and_starts_the_other(tmp_path: Path) -> None:
    looks = Looks(tmp_path)
    async with running(looks.rig):
        await looks.rig.hub.start(WATCH, next_watch(looks.clock.now()))
        assert [await looks.next() for _ in range(4)] == [10, 30, 50, 70]


@pytest.mark.parametrize("second", range(40))
def test_the_watch_that_is_next_has_not_just_looked(second: int) -> None:
    """Else it might end right after it was found running. Its turn comes within half a minute."""
    now = datetime(2026, 11, 22, 12, 0, second, tzinfo=UTC)
    due = _next_turn(next_watch(now), now)
    assert timedelta(seconds=5) <= due - now <= timedelta(seconds=25)


async def test_a_watch_that_is_lost_is_started_by_the_other(tmp_path: Path) -> None:
    """Nobody looks for 40 seconds, and then every 20 seconds again."""
    async with watching(tmp_path) as looks:
        assert await looks.next() == 10
        await looks.rig.hub.terminate(FIRST_WATCH, "lost")
        await looks.rig.ended(FIRST_WATCH)
        assert [await looks.next() for _ in range(4)] == [50, 70, 90, 110]


async def test_both_end_when_nothing_is_unfinished(tmp_path: Path) -> None:
    async with watching(tmp_path) as looks:
        for each in (SECOND_WATCH, FIRST_WATCH):
            await looks.next(unfinished=False)
            assert (await looks.rig.ended(each))["runtimeStatus"] == "Completed"


async def test_a_watch_says_until_when_it_waits_and_by_when_its_look_is_over(tmp_path: Path) -> None:
    """By that the other one sees that it is stuck, which the engine calls running."""
    async with watching(tmp_path) as looks:
        await looks.due(SECOND_WATCH)
        until = [await looks.until(SECOND_WATCH)]
        await looks.clock.advance(10)
        call = await looks.rig.called()
        until.append(await looks.until(SECOND_WATCH))
        call.returns(False)
    assert [(each - looks.began).total_seconds() for each in until] == [10, 310]


@pytest.mark.parametrize(("second", "due"), [(0, 40), (29, 40), (34, 40), (36, 80), (39.5, 80)])
def test_a_turn_that_was_had_early_is_not_had_twice(second: float, due: int) -> None:
    """A timer fires up to a second early."""
    turn = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    assert _next_turn(FIRST_WATCH, turn + timedelta(seconds=second)) == turn + timedelta(seconds=due)
    other = turn + timedelta(seconds=20)
    assert _next_turn(SECOND_WATCH, other + timedelta(seconds=second)) == other + timedelta(seconds=due)
