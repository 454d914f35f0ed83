"""What was measured on the real extension, and does not follow from the protocol's description."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local.durable import Timing
from tests.fakes.clock import VirtualClock
from tests.fakes.engine import START, Generate, Rig, running

pytestmark = pytest.mark.anyio

Play = Callable[..., AbstractAsyncContextManager[Rig]]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """A hub that runs one flow, with the scripted activity `a`; by default it has a new clock."""

    @asynccontextmanager
    async def started(flow: Generate, clock: VirtualClock | None = None, **options: Any) -> AsyncIterator[Rig]:
        clock = clock or VirtualClock(START)
        async with running(Rig(tmp_path, clock, {flow.__name__: flow}, ("a",), **options)) as rig:
            yield rig

    return started


def rounds(*, cancels: bool, works: bool) -> Generate:
    """Four executions, each with a wait for an event or a timer; the output says which it was."""

    def wakes(context: Any) -> Any:
        told = context.get_input()
        wake = context.wait_for_external_event("go")
        timer = context.create_timer(context.current_utc_datetime + timedelta(seconds=30))
        won = yield context.task_any([wake, timer])
        if cancels and won is wake:
            timer.cancel()
        if works:
            yield context.call_activity("a", None)
        told = [*told, json.loads(wake.result) if won is wake else None]
        if len(told) == 4:
            return told
        context.continue_as_new(told)

    return wakes


async def woken_once(rig: Rig) -> Any:
    """The output of `wakes` after one event, and timers for the rest."""
    instance = await rig.hub.start("wakes", input_="[]")
    await rig.noted(instance, 13)
    await rig.hub.raise_event(instance, "go", '"1"')
    for _ in range(16):
        await rig.hub.status(instance)
        await rig.clock.advance(30)
    return (await rig.ended(instance))["output"]


async def test_an_event_that_beats_a_cancelled_timer_is_delivered_again_after_continue_as_new(play: Play) -> None:
    """The host goes past the compound before it hands the event over: one ends every round."""
    async with play(rounds(cancels=True, works=False)) as rig:
        assert await woken_once(rig) == [1, 1, 1, 1]


async def test_an_event_that_beats_a_timer_which_stays_is_delivered_once(play: Play) -> None:
    """The compound is complete only by the event."""
    async with play(rounds(cancels=False, works=False)) as rig:
        assert await woken_once(rig) == [1, None, None, None]


async def test_an_activity_between_the_wait_and_continue_as_new_keeps_the_event_from_coming_again(play: Play) -> None:
    """By the time the activity ends, the event has been handed over."""
    async with play(rounds(cancels=True, works=True)) as rig:
        instance = await rig.hub.start("wakes", input_="[]")
        await rig.noted(instance, 13)
        await rig.hub.raise_event(instance, "go", '"1"')
        (await rig.called()).returns(None)
        for _ in range(3):
            await rig.until(instance, lambda status: status["runtimeStatus"] == "Running")
            while rig.nothing_called():
                await rig.hub.status(instance)
                await rig.clock.advance(30)
            (await rig.called()).returns(None)
        assert (await rig.ended(instance))["output"] == [1, None, None, None]


async def test_a_carried_event_stands_in_the_first_episode_of_the_new_history(play: Play) -> None:
    """12, 0, 15, 13, and only then what the orchestrator schedules."""

    def once(context: Any) -> Any:
        if context.get_input() == 2:
            yield context.call_activity("a", None)
            return
        wake = context.wait_for_external_event("go")
        timer = context.create_timer(context.current_utc_datetime + timedelta(seconds=30))
        yield context.task_any([wake, timer])
        timer.cancel()
        context.continue_as_new(2)

    async with play(once) as rig:
        instance = await rig.hub.start("once", input_="1")
        await rig.noted(instance, 13)
        await rig.hub.raise_event(instance, "go", '"1"')
        await rig.called()
        assert rig.kinds(instance) == [12, 0, 15, 13, 4, 13]
        assert [each["EventType"] for each in rig.payloads[-1]["history"]] == [12, 0, 15, 13]
        assert not rig.payloads[-1]["isReplaying"]


async def test_the_payload_has_the_fields_of_the_extension(play: Play) -> None:
    """`sourceInstanceId` and schema 3 among them."""

    def once(context: Any) -> Any:
        yield context.call_activity("a", None)

    async with play(once) as rig:
        await rig.hub.start("once")
        await rig.called()
        given = rig.payloads[0]
        assert (given["sourceInstanceId"], given["upperSchemaVersion"], given["upperSchemaVersionNew"]) == (None, 1, 3)


def waits(seconds: float) -> Generate:
    def wait(context: Any) -> Any:
        begun = context.current_utc_datetime
        yield context.create_timer(begun + timedelta(seconds=seconds))
        ended: datetime = context.current_utc_datetime
        return (ended - begun).total_seconds()

    return wait


EVERY_SECOND = Timing(longest_poll=1.0, hold_orchestration=60.0, hold_activity=60.0)


@pytest.mark.parametrize(("seconds", "earliest"), [(0.99, 0.0), (2.5, 2.0), (7.0, 7.0)])
async def test_a_timer_fires_up_to_a_second_early_and_a_poll_late(play: Play, seconds: float, earliest: float) -> None:
    """Its delay is cut to whole seconds, and its message is found by a poll. This clock does not
    wait for the hub, which may be some tenths of a second behind it on a busy machine.
    """
    async with play(waits(seconds), timing=EVERY_SECOND) as rig:
        instance = await rig.hub.start("wait")
        await rig.noted(instance, 13)
        for _ in range(100):
            await rig.hub.status(instance)
            await rig.clock.advance(0.1)
        took = (await rig.ended(instance))["output"]
        assert earliest <= took <= earliest + 2.0


async def test_what_a_killed_hub_held_comes_back_after_the_visibility_time_out(play: Play) -> None:
    """The next hub waits for as long as host.json says, five minutes by default."""

    def once(context: Any) -> Any:
        return (yield context.call_activity("a", None))

    async with play(once, timing=EVERY_SECOND) as dead:  # its clock stands still, so it renews nothing
        await dead.hub.start("once", "v1")
        await dead.called()
        clock = VirtualClock(START)
        async with play(once, clock, timing=EVERY_SECOND) as after:
            await clock.advance(59)
            await after.hub.status("v1")
            assert after.nothing_called()
            await clock.advance(2)
            (await after.called()).returns("done")
            assert (await after.ended("v1"))["output"] == "done"
    assert Timing().hold_orchestration == Timing().hold_activity == 300


async def test_hurried_times_keep_their_proportions() -> None:
    """For a stack that runs ten times faster than life."""
    hurried = EVERY_SECOND.faster(10)
    assert (hurried.grain, hurried.longest_poll, hurried.hold_activity) == (0.1, 0.1, 6.0)
