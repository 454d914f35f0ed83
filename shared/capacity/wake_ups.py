"""Tells waiting videos that their turn may have come.

A wake-up may be lost or come twice. The tables say whose turn it is, and a video that is not woken
looks again by its own timer. So a wake-up is never repeated, and its failure is only logged.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Protocol

import msgspec

logger = logging.getLogger("gateway")

_PATIENCE = 5.0  # seconds for one wake-up


class Waker(Protocol):
    """Sends a wake-up to a waiting video. `wake` raises if the video has no orchestration."""

    async def wake(self, video_id: str) -> None: ...


class WakeUps(msgspec.Struct):
    """Wakes videos through the durable client that this process was given last.

    The host passes a client to each call of a function that has a client binding. All reach the
    same engine, but after a restart of the host only the newest is sure to have its address.
    """

    _waker: Waker | None = None

    def go_through(self, waker: Waker) -> None:
        """Wake through this client from now on."""
        self._waker = waker

    @property
    def possible(self) -> bool:
        """Whether there is a client yet."""
        return self._waker is not None

    async def send(self, video_ids: Iterable[str]) -> None:
        """Wake these videos, all at once. Failures are logged, not raised."""
        if self._waker is not None:
            await asyncio.gather(*(self._wake(self._waker, each) for each in video_ids))

    async def _wake(self, waker: Waker, video_id: str) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await waker.wake(video_id)
        except Exception as error:  # the client raises a plain Exception if no orchestration is there
            logger.info("video %s was not woken (%s); its timer will", video_id, type(error).__name__)
