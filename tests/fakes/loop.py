"""Time that passes at once: an event loop that jumps to its next timer instead of waiting for it.

Everything on such a loop is the real code at its real interleavings: a table operation of three
milliseconds, a create of five seconds and a render of ten minutes overlap as they would, and two
days of it pass in minutes.
"""

import asyncio
import selectors
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class _Jumping(selectors.SelectSelector):
    """Watches nothing: to wait for a while is to move the time on by it."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everything waits, and nothing will ever happen")
        self.time += max(timeout, 0.0)
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    """For `asyncio.Runner(loop_factory=JumpingLoop)`. Without sockets, threads and processes:
    nothing real is waited for.
    """

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.time


class LoopClock:
    """Implements `shared.clock.Clock` by the time of the running loop, which begins at START."""

    def now(self) -> datetime:
        return START + timedelta(seconds=asyncio.get_running_loop().time())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0.0))
