"""Heartbeats of long steps, by which the sweep tells a slow step from a stuck one.

A heartbeat is a row `<video id>` in the partition `beats` of the table `pools`. It is written only
once a step has taken 20 seconds, which is rare.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec

from shared.clock import Clock
from shared.errors import StorageUnavailable
from shared.storage.tables import Delete, Insert, Replace, Table, WriteConflict

logger = logging.getLogger("gateway")

EVERY = 20.0  # seconds

_PARTITION = "beats"


class Heartbeats(msgspec.Struct, frozen=True):
    """`sleep` takes seconds of real time, so that a frozen process writes no heartbeat."""

    table: Table
    clock: Clock
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    @asynccontextmanager
    async def of(self, video_id: str) -> AsyncIterator[None]:
        """Write heartbeats of this video's step for as long as the block runs."""
        beating = asyncio.create_task(self._beat(video_id))
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.wait([beating])

    async def last(self, video_id: str) -> datetime | None:
        """The time of the video's last heartbeat; None if no step has taken long."""
        row = await self.table.get(_PARTITION, video_id)
        return row.values["at"].astimezone(UTC) if row else None

    async def forget(self, before: datetime) -> None:
        """Delete heartbeats older than `before`."""
        async for row in self.table.scan(_PARTITION):
            if row.values["at"].astimezone(UTC) < before:
                await self._commit(Delete(row))

    async def _beat(self, video_id: str) -> None:
        while True:
            await self.sleep(EVERY)
            try:
                row = await self.table.get(_PARTITION, video_id)
                values = {"at": self.clock.now()}
                await self._commit(Insert(video_id, values) if row is None else Replace(row, values))
            except StorageUnavailable as error:
                logger.info("video %s: no heartbeat could be written: %s", video_id, error.message)

    async def _commit(self, write: Insert | Replace | Delete) -> None:
        try:
            await self.table.commit(_PARTITION, write)
        except WriteConflict:
            return  # another run of the same step has just done it
