"""A courier as the engine runs it: it waits for what is due, hears of what is new, and ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from shared.events.couriers import COURIER, DELIVER, MAIL, courier, instance_of
from tests.fakes.clock import VirtualClock
from tests.fakes.engine import START, Rig, running

pytestmark = pytest.mark.anyio

ID = instance_of("datadog")
TIMER_CREATED, EVENT_RAISED = 10, 15

Start = Callable[[], Awaitable[Rig]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a courier to `datadog`, whose deliveries the test ends."""
    async with AsyncExitStack() as hubs:

        async def run() -> Rig:
            rig = Rig(tmp_path, VirtualClock(START), {COURIER: courier}, (DELIVER,))
            await hubs.enter_async_context(running(rig))
            await rig.hub.start(COURIER, instance_id=ID, input_='"datadog"')
            return rig

        yield run


async def test_it_ends_when_nothing_is_left(start: Start) -> None:
    rig = await start()
    delivery = await rig.called()
    assert (delivery.name, delivery.input) == (DELIVER, '"datadog"')
    delivery.returns(None)
    assert (await rig.ended(ID))["runtimeStatus"] == "Completed"


async def test_it_delivers_again_when_more_is_due(start: Start) -> None:
    rig = await start()
    (await rig.called()).returns(300.0)
    await rig.noted(ID, TIMER_CREATED)
    await rig.clock.advance(299)
    assert rig.nothing_called()
    await rig.clock.advance(2)
    (await rig.called()).returns(None)
    await rig.ended(ID)


async def test_it_does_not_sleep_through_something_new(start: Start) -> None:
    """What waits for its next try in hours does not hold up an event of now."""
    rig = await start()
    (await rig.called()).returns(3600.0)
    await rig.noted(ID, TIMER_CREATED)
    await rig.hub.raise_event(ID, MAIL)
    (await rig.called()).returns(None)
    await rig.ended(ID)


async def asleep(rig: Rig, seconds: float = 5.0) -> None:
    """End deliveries until the last thing it did was to set its timer, of so many seconds: after
    some rounds it begins anew, with a delivery.
    """
    async with asyncio.timeout(10):
        while TIMER_CREATED not in rig.kinds(ID)[-2:]:
            if not rig.nothing_called():
                (await rig.called()).returns(seconds)
            await rig.hub.status(ID)


async def test_its_history_stays_short_and_a_summons_is_heard_once(start: Start) -> None:
    """After dozens of deliveries, half of them summoned, it is no longer than after some; and no
    summons makes it go round by itself.
    """
    rig = await start()
    for number in range(24):
        (await rig.called()).returns(5.0)
        await asleep(rig)
        if number % 2:
            await rig.hub.raise_event(ID, MAIL)
        else:
            await rig.clock.advance(6)
    (await rig.called()).returns(3600.0)
    await asleep(rig, 3600.0)
    assert len(rig.hub.history(ID)) < 80
    await rig.clock.advance(10)
    assert rig.nothing_called()
