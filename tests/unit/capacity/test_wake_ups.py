"""Who is woken when a slot becomes free; and that a wake-up is no more than a hint."""

import logging
from dataclasses import dataclass, field

import pytest

from shared.capacity.pool import Slot, Wait
from tests.unit.capacity.test_pool import Yard

pytestmark = pytest.mark.anyio


@dataclass
class Bell:
    """Hears who is woken; with `broken` nobody is."""

    heard: list[str] = field(default_factory=list)
    broken: bool = False

    async def wake(self, video_id: str) -> None:
        if self.broken:
            raise RuntimeError("404")
        self.heard.append(video_id)


def ringing(yard: Yard, *, broken: bool = False) -> Bell:
    bell = Bell(broken=broken)
    for pool in yard.pools:
        pool.wake_ups.go_through(bell)
    return bell


async def test_whoever_ends_wakes_the_next_in_line() -> None:
    """One for each slot that is free, in the order of the line, and nobody while none is."""
    yard = Yard([(2, 100)])
    running = [await yard.arrive(9) for _ in range(2)]
    for each in running:
        await yard.pool.answered("a/model", each.id)
    bell = ringing(yard)
    line = [await yard.arrive(owner) for owner in (1, 2, 3)]
    assert bell.heard == []
    await yard.pool.ended("a/model", running[0].id)
    assert bell.heard == [line[0].id]
    await yard.pool.ended("a/model", running[1].id)
    assert bell.heard[1:] == [line[0].id, line[1].id]  # the first has not taken its slot: it may be lost
    await yard.pool.ended("a/model", running[1].id)
    assert len(bell.heard) == 3


async def test_a_slot_that_has_its_opening_later_wakes_one_who_then_knows() -> None:
    """It sleeps until that moment to the second, and others are not woken for it again."""
    yard = Yard([(1, 1)])
    running = await yard.arrive(9)
    await yard.pool.answered("a/model", running.id)
    first, second = await yard.arrive(1), await yard.arrive(2)
    bell = ringing(yard)
    yard.clock.skip(10)
    await yard.pool.ended("a/model", running.id)
    assert bell.heard == [first.id]
    wait = await yard.ask(first)
    assert isinstance(wait, Wait)
    assert wait.seconds == pytest.approx(51, abs=0.1)
    yard.clock.skip(wait.seconds)
    assert isinstance(await yard.ask(first), Slot)
    assert isinstance(await yard.ask(second), Wait)


async def test_who_is_bound_elsewhere_is_passed_over() -> None:
    """A remix waits for the deployment of its source; the next after it is woken for another's
    slot.
    """
    yard = Yard([(1, 100), (1, 100)])
    running = [await yard.arrive(9) for _ in range(2)]
    on = {yard.state().holder(each.id): each for each in running}
    remix, other = await yard.arrive(1, source="d1"), await yard.arrive(2)
    bell = ringing(yard)
    await yard.end(on["d0"])
    assert bell.heard == [other.id]
    assert isinstance(await yard.ask(other), Slot)
    await yard.end(on["d1"])
    assert bell.heard[1:] == [remix.id]


async def test_a_place_that_is_given_up_wakes_the_one_behind() -> None:
    """The head may have been woken, and be deleted before it took its slot."""
    yard = Yard([(1, 100)])
    running, first, second = await yard.arrive(9), await yard.arrive(1), await yard.arrive(2)
    bell = ringing(yard)
    await yard.end(running)
    await yard.pool.leave("a/model", first.id)
    assert bell.heard == [first.id, second.id]


async def test_a_deployment_that_is_well_again_wakes_those_who_wait_for_it() -> None:
    """Its first accepted create does, and that it can be reached."""
    yard = Yard([(2, 100)])
    first, *others = [await yard.arrive(owner) for owner in (1, 2, 3)]
    (only,) = yard.model.deployments
    for each in (first, others[0]):
        await yard.pool.return_slot(yard.model, each, only, None, unreachable=True)
    bell = ringing(yard)
    wait = await yard.ask(first)
    assert isinstance(wait, Wait)
    assert wait.unreachable == (only,)
    assert wait.seconds <= 10
    await yard.pool.reached(yard.model, only)
    assert bell.heard == [first.id, others[0].id]
    assert isinstance(await yard.ask(first), Slot)
    bell.heard.clear()
    await yard.pool.answered("a/model", first.id)
    assert bell.heard == [others[0].id]


async def test_a_wake_up_that_fails_is_logged_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """The slot is free all the same, and whoever asks has it."""
    yard = Yard([(1, 100)])
    running, waiting = await yard.arrive(9), await yard.arrive(1)
    ringing(yard, broken=True)
    with caplog.at_level(logging.INFO, "gateway"):
        await yard.end(running)
    assert waiting.id in caplog.text
    assert isinstance(await yard.ask(waiting), Slot)
