"""How the recipe waits for its turn, on the stand-in engine and the real SDK."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.videos.orchestration import CHECK, FINISH, LEAVE, SUBMIT, TURN, step_input, video_life
from tests.fakes.clock import VirtualClock
from tests.fakes.engine import Rig, running

pytestmark = pytest.mark.anyio

VIDEO = "video_7e6a1c0ffee0a1b2c3d4000000000001"
DONE: dict[str, Any] = {"done": True}
START = json.dumps({"step": SUBMIT})
WAIT: dict[str, Any] = {"again": 3600.0}
TIMER_FIRED, EVENT_RAISED = 11, 15


class Scripted:
    """Activities that answer what they are told, and note that they were called. `manifest` is
    whether the video has one.
    """

    def __init__(self, *submits: dict[str, Any], manifest: bool = False) -> None:
        self.called: list[str] = []
        self.dues: list[datetime | None] = []
        self._submits: Iterator[dict[str, Any]] = iter(submits)
        self._manifest = manifest

    def activities(self) -> dict[str, Callable[[Any], Any]]:
        ends = {FINISH: self._says(FINISH, self._manifest), LEAVE: self._says(LEAVE, None)}
        return {SUBMIT: self._submit, CHECK: self._says(CHECK, DONE), **ends}

    def _submit(self, given: Any) -> dict[str, Any]:
        self.dues.append(step_input(given).due)
        self.called.append(SUBMIT)
        return next(self._submits)

    def _says(self, name: str, answer: Any) -> Callable[[Any], Any]:
        def call(given: Any) -> Any:
            del given
            self.called.append(name)
            return answer

        return call


def waits_for(it: Rig, script: Scripted, submits: int) -> Callable[[Any], bool]:
    """Whether it waits again, after so many submits."""
    return lambda _: len(script.called) == submits and 10 in it.kinds(VIDEO)[-4:]


def rig(folder: Path, clock: VirtualClock, script: Scripted) -> Rig:
    return Rig(folder, clock, {"video_life": video_life}, instant=script.activities())


async def test_a_video_with_a_manifest_has_one_step_more(tmp_path: Path) -> None:
    """After the step whose output the manifest is: the host has written it then."""
    script = Scripted(DONE, manifest=True)
    async with running(rig(tmp_path, VirtualClock(), script)) as it:
        await it.hub.start("video_life", VIDEO, START)
        assert (await it.ended(VIDEO))["runtimeStatus"] == "Completed"
    assert script.called == [SUBMIT, CHECK, FINISH, LEAVE]


async def test_an_event_ends_the_wait_at_once(tmp_path: Path) -> None:
    """The clock stands still: no timer had to fire."""
    clock, script = VirtualClock(), Scripted(WAIT, DONE)
    async with running(rig(tmp_path, clock, script)) as it:
        await it.hub.start("video_life", VIDEO, START)
        await it.noted(VIDEO, 10)
        await it.hub.raise_event(VIDEO, TURN, None)
        assert (await it.ended(VIDEO))["runtimeStatus"] == "Completed"
    assert script.called == [SUBMIT, SUBMIT, CHECK, FINISH]
    assert script.dues == [None, None]


async def test_without_an_event_the_timer_ends_it(tmp_path: Path) -> None:
    """A wake-up that is lost costs time, and nothing else."""
    clock, script = VirtualClock(), Scripted(WAIT, DONE)
    async with running(rig(tmp_path, clock, script)) as it:
        begun = clock.now()
        await it.hub.start("video_life", VIDEO, START)
        await it.noted(VIDEO, 10)
        await clock.advance(3601)
        assert (await it.ended(VIDEO))["runtimeStatus"] == "Completed"
    assert script.called == [SUBMIT, SUBMIT, CHECK, FINISH]
    assert script.dues == [None, begun + timedelta(seconds=3600)]  # its step is told when it is due


async def test_each_event_wakes_once_over_many_executions(tmp_path: Path) -> None:
    """No event is handed to the next execution again: an activity stands between it and the end of
    its own.
    """
    clock, script = VirtualClock(), Scripted(*[WAIT] * 25, DONE)
    async with running(rig(tmp_path, clock, script)) as it:
        await it.hub.start("video_life", VIDEO, START)
        for round_ in range(25):
            await it.until(VIDEO, waits_for(it, script, round_ + 1))
            await it.hub.raise_event(VIDEO, TURN, None)
        assert (await it.ended(VIDEO))["runtimeStatus"] == "Completed"
    assert script.called == [SUBMIT] * 26 + [CHECK, FINISH]


async def test_an_event_that_nobody_waits_for_changes_nothing(tmp_path: Path) -> None:
    """One that comes too early or twice only makes the video look once more."""
    clock, script = VirtualClock(), Scripted(WAIT, WAIT, DONE)
    async with running(rig(tmp_path, clock, script)) as it:
        await it.hub.start("video_life", VIDEO, START)
        await it.hub.raise_event(VIDEO, TURN, None)
        await it.hub.raise_event(VIDEO, TURN, None)
        await it.until(VIDEO, lambda _: len(script.called) >= 2)
        await it.hub.raise_event(VIDEO, TURN, None)
        await clock.advance(3601)
        assert (await it.ended(VIDEO))["runtimeStatus"] == "Completed"
    assert script.called == [SUBMIT] * 3 + [CHECK, FINISH]


@pytest.mark.parametrize("checks", [3, 12])
async def test_each_look_is_given_what_the_last_one_has_seen(tmp_path: Path, checks: int) -> None:
    """Over the end of an execution too; the first one is given nothing."""
    clock = VirtualClock()
    given: list[Any] = []

    def sleeps_after(looks: int) -> Callable[[Any], bool]:
        return lambda _: len(given) == looks and 10 in it.kinds(VIDEO)[-4:]

    def check(told: Any) -> dict[str, Any]:
        given.append(step_input(told).seen)
        return {"again": 30.0, "seen": {"etag": str(len(given))}} if len(given) < checks else DONE

    activities = {**Scripted(DONE).activities(), CHECK: check}
    async with running(Rig(tmp_path, clock, {"video_life": video_life}, instant=activities)) as it:
        await it.hub.start("video_life", VIDEO, START)
        for number in range(1, checks):
            await it.until(VIDEO, sleeps_after(number))
            await clock.advance(31)
        assert (await it.ended(VIDEO))["runtimeStatus"] == "Completed"
    assert given == [None, *({"etag": str(number)} for number in range(1, checks))]
