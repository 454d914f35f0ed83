"""A clock that tests advance by hand; sleepers wake when it passes their time."""

import asyncio
import heapq
from datetime import UTC, datetime, timedelta
from itertools import count


class VirtualClock:
    """Implements `shared.clock.Clock`. `advance()` moves time and lets every due sleeper run before
    it returns.
    """

    def __init__(self, start: datetime = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)) -> None:
        self._now = start
        self._order = count()
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + timedelta(seconds=seconds), next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Move time forward in the order of the sleepers' wake-up times."""
        until = self._now + timedelta(seconds=seconds)
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, woken = heapq.heappop(self._sleepers)
            self._now = max(self._now, due)
            if not woken.done():
                woken.set_result(None)
            await _settle()
        self._now = until
        await _settle()

    def set(self, now: datetime) -> None:
        """Jump to `now` without waking anybody: for code that only reads the time."""
        self._now = now


async def _settle() -> None:
    """Let every task that can run do so until it waits for something."""
    for _ in range(50):
        await asyncio.sleep(0)


class SkippingClock:
    """Implements `shared.clock.Clock`: whoever sleeps is at once at the end of it. For code whose
    waits only pass time.
    """

    def __init__(self, start: datetime = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self.skip(seconds)
        await asyncio.sleep(0)

    def skip(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=max(seconds, 0))
