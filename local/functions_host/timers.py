"""The timer trigger: six-field NCRONTAB schedules in UTC, run by one of the hosts that share a data
directory.

Each timer has a small file there. It holds the time of the last run, and its flock(2) is held
during a run, so that one host runs a tick, and a killed host holds nothing. A tick that nobody was
there to run, or whose run was cut short by a kill, is run once, with `past_due`, by the next host
that starts.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import azure.functions as func
from azure.functions.timer import TimerRequest
from croniter import croniter

from local.functions_host.functions import Function, LoadError
from local.functions_host.invocation import Invoker
from shared.clock import Clock

log = logging.getLogger(__name__)

_FIELDS = 6


class Schedule:
    """`{second} {minute} {hour} {day} {month} {day of week}` in UTC; both day fields must fit.
    Raises ValueError.
    """

    def __init__(self, expression: str) -> None:
        if len(expression.split()) != _FIELDS or not croniter.is_valid(expression, second_at_beginning=True):
            raise ValueError(f"{expression!r} is not a schedule of six fields, second first")
        self._expression = expression

    def after(self, moment: datetime) -> datetime:
        """The first tick later than `moment`."""
        ticks = croniter(self._expression, moment, datetime, day_or=False, second_at_beginning=True)
        tick: datetime = ticks.get_next()
        return tick


class Timer:
    """Runs one function on its schedule. Raises LoadError if that cannot be read."""

    def __init__(self, function: Function, invoker: Invoker, folder: Path, clock: Clock) -> None:
        declared = function.trigger.properties
        try:
            self._schedule = Schedule(declared["schedule"])
        except ValueError as error:
            raise LoadError(f"function {function.name}: {error}") from None
        self._function = function
        self._invoker = invoker
        self._clock = clock
        self._on_start = bool(declared.get("runOnStartup", False))
        self._monitored = bool(declared.get("useMonitor", True))
        self._record = _Record(folder / f"{function.name}.timer")

    async def run(self) -> None:
        """Run every tick until cancelled. What the function raises is logged; the next tick is its
        next chance.
        """
        started = self._clock.now()
        last = self._record.last() if self._monitored else None
        next_tick = self._schedule.after(last or started)
        if last is None:
            self._record.begin(started)
        if self._on_start:
            await self._tick(None, past_due=False)
        elif next_tick <= started:
            await self._tick(next_tick, past_due=True)
        while True:
            next_tick = self._schedule.after(self._clock.now())
            while (left := (next_tick - self._clock.now()).total_seconds()) > 0:
                await self._clock.sleep(left)
            await self._tick(next_tick, past_due=False)

    async def _tick(self, tick: datetime | None, *, past_due: bool) -> None:
        """Run the function for `tick`, or for this host's start where it is None, unless another
        host does or did.
        """
        with self._record.claim(tick, self._clock.now()) as mine:
            if mine:
                request: func.TimerRequest = TimerRequest(past_due=past_due)
                try:
                    await self._invoker.call(self._function, request, {})
                except Exception:
                    log.exception("function %s failed", self._function.name)


class _Record:
    """The file of one timer: the time of the last run, as text of fixed length, so that it is
    written in one step.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def last(self) -> datetime | None:
        text = self._file.read_text() if self._file.exists() else ""
        return datetime.fromisoformat(text) if text else None

    def begin(self, moment: datetime) -> None:
        """Store when this timer was first seen: only later ticks can be missed."""
        with self._locked() as file:
            if file is not None and not os.fstat(file).st_size:
                self._write(file, moment)

    @contextmanager
    def claim(self, tick: datetime | None, now: datetime) -> Iterator[bool]:
        """True for the one host that may run `tick`. Every tick up to `now` counts as run once the
        block has ended.
        """
        with self._locked() as file:
            last = self.last()
            done = tick is not None and last is not None and last >= tick
            if file is None or done:
                yield False
            else:
                yield True
                self._write(file, now)

    @contextmanager
    def _locked(self) -> Iterator[int | None]:
        """The open file under its lock, or None while another host has it."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield file
        finally:
            os.close(file)

    def _write(self, file: int, moment: datetime) -> None:
        os.pwrite(file, moment.astimezone(UTC).isoformat(timespec="microseconds").encode(), 0)
