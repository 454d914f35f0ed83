"""What the sweep does once an hour for videos of all keys: find those that no model knows of, drop
old records of requests, and drop bytes whose retention is over.

It reads what is unfinished, and the days in which something may have come to its end; never a key's
whole history, and no key that has asked for nothing in those days.
"""

import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from shared.accounts.idempotency import KEY_LIFETIME
from shared.accounts.spend_lines import SpendLine
from shared.gateway import Gateway
from shared.media.video import MASTER_OWNER, Video, created_at, id_bound
from shared.storage.tables import Insert, Replace, WriteConflict
from shared.storage.video_store import UPKEEP
from shared.upkeep.indexing import Indexing
from shared.videos.orchestration import Orchestrations

logger = logging.getLogger("gateway")

_STARTING = timedelta(minutes=2)  # younger videos may simply not have got further yet
_ADMITTING = timedelta(hours=1)  # what a request's record may be younger than its video's id, and more
_EXPIRY_WINDOW = timedelta(days=2)  # in which bytes whose retention is over are looked for
_IDENTITIES = "identities"  # the row that says until when old records of requests have been dropped


@dataclass
class Housekeeping:
    """One run. `noted` are the videos that a model knows of as unfinished; `attempt` runs a part so
    that its failure keeps nothing else from being done.
    """

    gateway: Gateway
    orchestrations: Orchestrations
    noted: Collection[str]
    attempt: Callable[[Awaitable[None]], Awaitable[None]]
    now: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.now = self.gateway.clock.now()

    async def run(self) -> None:
        for part in (Indexing(self.gateway).run, self._find_lost, self._forget_identities, self._expire):
            await self.attempt(part())

    async def _find_lost(self) -> None:
        async for video_id in self.gateway.lines.unfinished():
            if video_id not in self.noted and self.now - created_at(video_id) >= _STARTING:
                await self.attempt(self._find(video_id))

    async def _find(self, video_id: str) -> None:
        """An unfinished video that no model knows of is noted again, and the next run starts it.
        One of a model that is no longer configured is started at once, to fail for that reason.
        """
        entry = await self.gateway.videos.find(video_id)
        if entry is None:  # it is just being admitted, or its model knows of it
            return
        if entry.video.finished:
            await self.gateway.lines.close(SpendLine.of(entry.video))
            return
        model = self.gateway.settings.catalog.get(entry.video.model)
        if model is not None:
            await self.gateway.pool.enter(model, video_id)
        elif not await self.orchestrations.alive(video_id):
            logger.warning("video %s is of a model that is no longer configured; ending it", video_id)
            await self.orchestrations.start(video_id)

    async def _forget_identities(self) -> None:
        """Of the keys whose requests have become too old to be repeated since the last run."""
        table, until = self.gateway.tables.gateway, self.now - KEY_LIFETIME
        row = await table.get(UPKEEP, _IDENTITIES)
        since = id_bound(row.values["until"].astimezone(UTC) - _ADMITTING) if row else None
        for owner in await self._owners(after=id_bound(until), before=since):
            await self.attempt(self.gateway.ledger.forget_identities(owner, until))
        if not await self.gateway.videos.indexed():
            return
        noted = {"until": until}
        try:
            await table.commit(UPKEEP, Insert(_IDENTITIES, noted) if row is None else Replace(row, noted))
        except WriteConflict:
            return  # another run has noted as much

    async def _expire(self) -> None:
        """Remove the bytes of videos whose retention is over; what they cost stays on record."""
        knobs = self.gateway.settings.knobs
        if knobs.retention_days is None:
            return
        newest = self.now - timedelta(days=knobs.retention_days)
        oldest = newest - timedelta(seconds=knobs.queue_seconds + knobs.deadline_seconds) - _EXPIRY_WINDOW
        after, before = id_bound(newest), id_bound(oldest)
        for owner in await self._owners(after=after, before=before):
            await self.attempt(self._expire_of(owner, after, before))

    async def _expire_of(self, owner: str, after: str, before: str) -> None:
        async for video in self.gateway.videos.of(owner, after=after, before=before):
            if self._expired(video):
                await self.gateway.archive.drop(video)
                await self.gateway.videos.update(video.id, bytes=0)

    async def _owners(self, *, after: str | None, before: str | None) -> set[str]:
        """The keys that made videos in a range of ids; all, while older ones have no lines yet."""
        if await self.gateway.videos.indexed():
            return await self.gateway.lines.owners(after=after, before=before)
        return {MASTER_OWNER, *[key_id async for key_id, _ in self.gateway.keys.all()]}

    def _expired(self, video: Video) -> bool:
        return bool(video.bytes) and video.expires_at is not None and video.expires_at.astimezone(UTC) <= self.now
