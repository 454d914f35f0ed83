"""Time in the crash matrix: it passes faster than life, and equally so for the app, its engine and
the upstream.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shared.clock import Clock

HURRY = 20.0  # seconds of the matrix in one of ours


@dataclass(frozen=True)
class FastClock:
    """Implements `shared.clock.Clock`, so many times faster than life. Processes that are told when
    it `began` (unix seconds) see the same time.
    """

    began: float
    hurry: float = HURRY

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.began + (time.time() - self.began) * self.hurry, UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.hurry)


@dataclass(frozen=True)
class Later:
    """Implements `shared.clock.Clock`: another clock's time, and so much more until it is a new
    hour's first `minutes`.
    """

    clock: Clock
    ahead: timedelta
    minutes: float = 60.0

    def now(self) -> datetime:
        later = self.clock.now() + self.ahead
        return later if later.minute < self.minutes else (later + timedelta(hours=1)).replace(minute=0)

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)
