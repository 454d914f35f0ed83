"""The timer trigger: when it runs, on how many hosts, and what happens to a tick that was
missed.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import azure.functions as func
import pytest
from aiohttp import web

from local.functions_host.functions import Function, LoadError, read
from local.functions_host.invocation import Invoker
from local.functions_host.timers import Schedule, Timer
from tests.fakes.clock import VirtualClock

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "moment", "tick"),
    [
        ("*/5 * * * * *", "2026-11-22T12:00:00.500000", "2026-11-22T12:00:05"),
        ("0 */5 * * * *", "2026-11-22T12:00:00", "2026-11-22T12:05:00"),
        ("0 30 9 * Jan Mon", "2026-11-22T12:00:00", "2027-01-04T09:30:00"),
        ("0 0 0 1 * Fri", "2026-11-22T12:00:00", "2027-01-01T00:00:00"),
        ("30 0 12 29 2 *", "2026-11-22T12:00:00", "2028-02-29T12:00:30"),
    ],
)
def test_a_schedule_has_seconds_first_and_both_day_fields_must_fit(expression: str, moment: str, tick: str) -> None:
    """NCRONTAB differs from crontab in both, and in being UTC."""
    after = Schedule(expression).after(datetime.fromisoformat(moment).replace(tzinfo=UTC))
    assert after == datetime.fromisoformat(tick).replace(tzinfo=UTC)


class Instance:
    """One host's timer on a function that notes (time, past_due), and the task that runs
    it.
    """

    def __init__(
        self,
        folder: Path,
        clock: VirtualClock,
        *,
        then: Callable[[], None] = lambda: None,
        run_on_startup: bool = False,
        use_monitor: bool = True,
    ) -> None:
        self.runs: list[tuple[str, bool]] = []
        self._folder, self._clock, self._then = folder, clock, then
        self._on_start, self._monitored = run_on_startup, use_monitor

    async def __aenter__(self) -> "Instance":
        self._task = asyncio.create_task(Timer(self._function(), self._invoker, self._folder, self._clock).run())
        await self._clock.advance(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    def _function(self) -> Function:
        app = func.FunctionApp()

        @app.route("unused", methods=["GET"])
        def unused(req: web.Request) -> web.Response:
            return web.Response()

        @app.timer_trigger("timer", "%SWEEP%", run_on_startup=self._on_start, use_monitor=self._monitored)
        async def sweep(timer: func.TimerRequest) -> None:
            self.runs.append((self._clock.now().strftime("%H:%M:%S"), timer.past_due))
            self._then()

        functions = read(app, self._folder, {"SWEEP": "0 */5 * * * *"})
        self._invoker = Invoker(functions, lambda: "{}")
        return functions.triggered_by("timerTrigger")[0]


async def test_a_timer_runs_at_its_ticks_with_settings_replaced(tmp_path: Path) -> None:
    """`%SWEEP%` is the schedule from the app settings, and nothing runs between its ticks."""
    clock = VirtualClock(NOON)
    async with Instance(tmp_path, clock) as host:
        await clock.advance(299)
        assert host.runs == []
        await clock.advance(400)
    assert host.runs == [("12:05:00", False), ("12:10:00", False)]


async def test_a_tick_is_run_by_one_of_the_hosts_that_share_a_folder(tmp_path: Path) -> None:
    """Two hosts, three ticks: three runs."""
    clock = VirtualClock(NOON)
    async with Instance(tmp_path, clock) as one, Instance(tmp_path, clock) as other:
        await clock.advance(900)
    assert len(one.runs) + len(other.runs) == 3


async def test_ticks_that_nobody_was_there_for_are_made_up_for_once(tmp_path: Path) -> None:
    """Two hosts start after three missed ticks: one run, past due, and the schedule goes
    on.
    """
    clock = VirtualClock(NOON)
    async with Instance(tmp_path, clock):
        await clock.advance(300)
    clock.set(datetime(2026, 11, 22, 12, 21, tzinfo=UTC))
    async with Instance(tmp_path, clock) as one, Instance(tmp_path, clock) as other:
        await clock.advance(240)
    assert sorted(one.runs + other.runs) == [("12:21:00", True), ("12:25:00", False)]


async def test_a_restart_between_ticks_runs_nothing(tmp_path: Path) -> None:
    """Only a missed tick is past due."""
    clock = VirtualClock(NOON)
    async with Instance(tmp_path, clock):
        await clock.advance(300)
    async with Instance(tmp_path, clock) as host:
        await clock.advance(299)
    assert host.runs == []


async def test_an_unmonitored_timer_forgets_what_it_missed(tmp_path: Path) -> None:
    """`useMonitor: false` asks for no `past_due` run."""
    clock = VirtualClock(NOON)
    async with Instance(tmp_path, clock, use_monitor=False):
        await clock.advance(300)
    clock.set(datetime(2026, 11, 22, 12, 21, tzinfo=UTC))
    async with Instance(tmp_path, clock, use_monitor=False) as host:
        await clock.advance(240)
    assert host.runs == [("12:25:00", False)]


async def test_run_on_startup_runs_at_the_start(tmp_path: Path) -> None:
    """And again at the first tick."""
    clock = VirtualClock(NOON)
    async with Instance(tmp_path, clock, run_on_startup=True) as host:
        await clock.advance(300)
    assert host.runs == [("12:00:00", False), ("12:05:00", False)]


async def test_a_run_that_fails_is_logged_and_waits_for_the_next_tick(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """There is no retry in between."""

    def fail() -> None:
        raise RuntimeError("no storage")

    clock = VirtualClock(NOON)
    async with Instance(tmp_path, clock, then=fail) as host:
        await clock.advance(600)
    assert host.runs == [("12:05:00", False), ("12:10:00", False)]
    assert [record.getMessage() for record in caplog.records] == ["function sweep failed"] * 2


async def test_a_run_cut_short_is_run_again_after_the_restart(tmp_path: Path) -> None:
    """A host that ends in the middle of a run has not run that tick."""

    def die() -> None:
        raise asyncio.CancelledError

    clock = VirtualClock(NOON)
    async with Instance(tmp_path, clock, then=die):
        await clock.advance(300)
    async with Instance(tmp_path, clock) as host:
        await clock.advance(1)
    assert host.runs == [("12:05:00", True)]


def test_a_schedule_that_cannot_be_read_names_its_function(tmp_path: Path) -> None:
    """Five fields are crontab, not NCRONTAB."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    @app.timer_trigger(arg_name="timer", schedule="*/5 * * * *")
    def sweep(timer: func.TimerRequest) -> None: ...

    functions = read(app, tmp_path, {})
    with pytest.raises(LoadError, match=r"function sweep: .* not a schedule of six fields"):
        Timer(functions.members[0], Invoker(functions, str), tmp_path, VirtualClock())
