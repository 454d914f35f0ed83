"""Who is woken when a slot becomes free; and that a wake-up is no more than a hint."""

import logging
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from shared.capacity.offers import Offers
from shared.capacity.pool import Slot, Wait
from shared.capacity.slots import Outage
from shared.config.catalog import Deployment, Model
from shared.dialects.dialect import Dialect
from shared.dialects.known import GEMINI, OPENAI, SGLANG
from shared.storage.tables import WriteConflict
from tests.unit.capacity.test_pool import Limits, Yard

pytestmark = pytest.mark.anyio


async def test_whoever_ends_wakes_the_next_in_line() -> None:
    """One for each slot that is freed, in the order of the queue, and nobody while none is."""
    yard = Yard([(2, 100)])
    running = [await yard.arrive(9) for _ in range(2)]
    for each in running:
        await yard.pool.answered("a/model", "d0", each.id)
    bell = yard.ring()
    line = [await yard.arrive(owner) for owner in (1, 2, 3)]
    assert bell.heard == []
    await yard.freed(running[0])
    assert bell.heard == [line[0].id]
    await yard.freed(running[1])
    assert bell.heard == [line[0].id, line[1].id]
    await yard.freed(running[1])
    assert len(bell.heard) == 2


async def test_a_slot_that_opens_later_is_offered_for_that_time() -> None:
    """Its video sleeps until that moment to the second, and others are not woken for it."""
    yard = Yard([(1, 1)])
    running = await yard.arrive(9)
    await yard.pool.answered("a/model", "d0", running.id)
    first, second = await yard.arrive(1), await yard.arrive(2)
    bell = yard.ring()
    yard.clock.skip(10)
    await yard.freed(running)
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
    on = {yard.holder(each): each for each in running}
    remix, other = await yard.arrive(1, source="d1"), await yard.arrive(2)
    bell = yard.ring()
    await yard.end(on["d0"])
    assert bell.heard == [other.id]
    assert isinstance(await yard.ask(other), Slot)
    await yard.end(on["d1"])
    assert bell.heard[1:] == [remix.id]


@pytest.mark.parametrize("limits", [[(3, 100)], [(1, 100), (2, 100)]], ids=["one deployment", "two of one resource"])
async def test_whoever_waits_for_an_equal_create_alone_is_woken_by_its_outcome(limits: Limits) -> None:
    """Not while it is under way, whatever is free; then one after the other."""
    yard = Yard(limits)
    bell = yard.ring()
    first, second, third = [await yard.arrive(owner, prompt="The same") for owner in (1, 2, 3)]
    assert (yard.holder(second), bell.heard) == (None, [])
    await yard.pool.hand_out(yard.model)
    assert (yard.holder(second), bell.heard) == (None, [])
    await yard.accepted(first)
    assert bell.heard == [second.id]
    assert isinstance(await yard.ask(second), Slot)
    assert yard.holder(third) is None
    await yard.accepted(second)
    assert bell.heard == [second.id, third.id]


async def test_a_create_that_nobody_equal_waits_for_costs_no_more() -> None:
    """Although others wait, and a slot is free for them."""
    yard = Yard([(2, 100)])
    yard.ring()
    first = await yard.arrive(1, prompt="The same")
    await yard.pool.answered("a/model", "d0", first.id)
    before = yard.table.operations.of()
    await yard.pool.wake_followers(replace(first, deployment="d0"))
    assert yard.table.operations.of() == before


async def test_a_slot_that_an_equal_create_stands_in_the_way_of_goes_to_others() -> None:
    """One under way at another model of the same resource: those equal to it would come back at
    once.
    """
    yard = Yard([(1, 100)])
    (only,) = yard.model.deployments
    first, second = [await yard.arrive(owner, prompt="The same") for owner in (1, 2)]
    other = await yard.arrive(3)
    bell = yard.ring()
    await yard.pool.return_slot(yard.model, first, only, 0.0, asked=False)
    assert bell.heard == [other.id]
    await yard.end(other)
    assert bell.heard == [other.id, first.id]
    assert yard.holder(second) is None


def at(dialect: Dialect) -> Yard:
    """Two slots at a server of this dialect, which nobody else asks."""
    yard = Yard([(2, 100)])
    (only,) = yard.model.deployments
    yard.model = replace(yard.model, deployments=(replace(only, dialect=dialect, shared=False),))
    yard.pools = [yard.pool] = [yard.instance(yard.model, 0)]
    return yard


async def test_creates_that_carry_a_mark_of_their_video_are_never_equal() -> None:
    """Nor those that no list is read for: all start at once."""
    for dialect in (SGLANG, GEMINI):
        yard = at(dialect)
        assert [yard.holder(await yard.arrive(owner, prompt="The same")) for owner in (1, 2)] == ["d0", "d0"]


async def test_where_jobs_are_known_by_their_size_all_of_one_size_are_equal() -> None:
    """The list of such a server tells no prompt, and it has no other callers."""
    yard = at(OPENAI)
    bell = yard.ring()
    first, second = [await yard.arrive(owner) for owner in (1, 2)]
    assert yard.holder(second) is None
    await yard.accepted(first)
    assert bell.heard == [second.id]


async def test_who_was_offered_a_slot_is_woken_although_the_next_offer_was_in_conflict() -> None:
    """Another instance changed the row of the next deployment meanwhile."""
    yard = Yard([(1, 100), (1, 100)])
    running = [await yard.arrive(9) for _ in range(2)]
    line = [await yard.arrive(owner) for owner in (1, 2)]
    for each in running:  # nobody can be woken yet, so the slots stay free
        await yard.freed(each)
    bell, offers = yard.ring(), yard.pool.offers
    given: list[str] = []

    async def give(self: Offers, model: Model, deployment: Deployment, *rest: Any) -> Sequence[str]:
        if len(given) == 1:
            given.append("nobody")
            raise WriteConflict
        given.extend(found := await _give(self, model, deployment, *rest))
        return found

    _give = type(offers).give
    with patch.object(type(offers), "give", give):
        await yard.pool.hand_out(yard.model)
    assert bell.heard == [each.id for each in line]


async def test_an_offer_that_is_given_up_goes_to_the_next() -> None:
    """The first may have been woken, and be deleted before it took its slot."""
    yard = Yard([(1, 100)])
    running, first, second = await yard.arrive(9), await yard.arrive(1), await yard.arrive(2)
    bell = yard.ring()
    await yard.end(running)
    await yard.pool.leave("a/model", first.id)
    assert bell.heard == [first.id, second.id]


async def test_a_deployment_that_is_well_again_wakes_those_who_wait_for_it() -> None:
    """It is, once it can be reached, and once it has accepted a job in spite of an outage."""
    yard = Yard([(2, 100)])
    first, *others = [await yard.arrive(owner) for owner in (1, 2, 3)]
    (only,) = yard.model.deployments
    for each in (first, others[0]):
        await yard.pool.return_slot(yard.model, each, only, None, unreachable=True)
    bell = yard.ring()
    wait = await yard.ask(first)
    assert isinstance(wait, Wait)
    assert wait.unreachable == (only,)
    assert wait.seconds <= 10
    await yard.pool.reached(yard.model, only)
    assert bell.heard == [first.id, others[0].id]
    assert isinstance(await yard.ask(first), Slot)
    await yard.pool.take_down(yard.model, only, "denied", 600)
    await yard.pool.leave("a/model", others[0].id)
    assert len(bell.heard) == 2
    await yard.pool.answered("a/model", "d0", first.id)
    assert bell.heard[2:] == [others[1].id]


async def test_who_waits_for_lost_deployments_alone_is_woken_by_the_sweep() -> None:
    """A remix of a retired deployment first; everybody, once all are: nobody is left to wake them
    at the end of a job.
    """
    yard = Yard([(1, 100), (1, 100)])
    for _ in range(2):
        await yard.arrive(9)
    remix, other = await yard.arrive(1, source="d1"), await yard.arrive(2)
    bell = yard.ring()
    await yard.pool.take_down(yard.model, yard.model.deployments[1], "model_retired", 86_400, lost=True)
    await yard.pool.hand_out(yard.model)
    assert bell.heard == [remix.id]
    assert isinstance(await yard.ask(remix), Outage)
    assert isinstance(await yard.ask(other), Wait)
    await yard.pool.take_down(yard.model, yard.model.deployments[0], "model_retired", 86_400, lost=True)
    await yard.pool.hand_out(yard.model)
    assert bell.heard == [remix.id, remix.id, other.id]


async def test_a_wake_up_that_fails_is_logged_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """The slot is free all the same, and whoever asks has it."""
    yard = Yard([(1, 100)])
    running, waiting = await yard.arrive(9), await yard.arrive(1)
    yard.ring(broken=True)
    with caplog.at_level(logging.INFO, "gateway"):
        await yard.end(running)
    assert waiting.id in caplog.text
    assert isinstance(await yard.ask(waiting), Slot)
