"""What the sweep does once an hour for all keys: find unfinished videos that no pool knows, delete
old idempotency records, delete bytes whose retention time is over, and export the tables where the
last export is a day old.

Exporting, which is off by default, reads everything. The rest reads unfinished videos, and videos
of the days in which something may have expired. It never reads a key's whole history, nor a key
that made no videos in those days.
"""

import logging
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime, timedelta

import msgspec

from shared.accounts.idempotency import KEY_LIFETIME
from shared.accounts.spend_lines import SpendLine
from shared.gateway import Gateway
from shared.media.video import MASTER_OWNER, Video, created_at, id_bound
from shared.storage.tables import Insert, Replace, WriteConflict
from shared.storage.video_store import UPKEEP
from shared.upkeep.indexing import Indexing
from shared.videos.orchestration import Orchestrations

logger = logging.getLogger("gateway")

_STARTING = timedelta(minutes=2)  # a younger video may just be starting
_ADMITTING = timedelta(hours=1)  # the most by which an idempotency record may be younger than its video's id, with a margin
_EXPIRY_WINDOW = timedelta(days=2)  # length of the range of days in which expired bytes are looked for
IDENTITIES = "identities"  # the row with the time up to which idempotency records have been dropped


class Housekeeping(msgspec.Struct, frozen=True):
    """One run. `noted` are the unfinished videos that a pool knows; `attempt` runs one part so that
    its failure does not stop the others, and returns whether it succeeded.
    """

    gateway: Gateway
    orchestrations: Orchestrations
    noted: Collection[str]
    attempt: Callable[[Awaitable[None]], Awaitable[bool]]
    now: datetime

    async def run(self) -> None:
        """Run every part; one that fails does not stop the others."""
        for part in (Indexing(self.gateway).run, self._find_lost, self._forget_identities, self._expire, self._export):
            await self.attempt(part())

    async def _find_lost(self) -> None:
        async for video_id in self.gateway.lines.unfinished():
            if video_id not in self.noted and self.now - created_at(video_id) >= _STARTING:
                await self.attempt(self._find(video_id))

    async def _find(self, video_id: str) -> None:
        """Enter an unfinished video into its model's pool again, so that the next run starts it. If
        its model is no longer configured, start it at once: it fails for that reason.
        """
        entry = await self.gateway.videos.find(video_id)
        if entry is None:  # it is being admitted, and its pool knows it
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
        """Delete idempotency records older than KEY_LIFETIME, of the keys that made videos since
        the last run. If one key fails, the next run covers the same time again.
        """
        table, until = self.gateway.tables.gateway, self.now - KEY_LIFETIME
        row = await table.get(UPKEEP, IDENTITIES)
        since = id_bound(row.values["until"].astimezone(UTC) - _ADMITTING) if row else None
        owners = await self._owners(after=id_bound(until), before=since)
        forgotten = [await self.attempt(self.gateway.ledger.forget_identities(owner, until)) for owner in owners]
        if not all(forgotten) or not await self.gateway.videos.indexed():
            return
        noted = {"until": until}
        try:
            await table.commit(UPKEEP, Insert(IDENTITIES, noted) if row is None else Replace(row, noted))
        except WriteConflict:
            return  # another run has written its own time

    async def _expire(self) -> None:
        """Remove the bytes of videos whose retention has ended. Their records and costs stay."""
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

    async def _export(self) -> None:
        exports = self.gateway.settings.knobs.exports
        if exports is not None:
            from shared.upkeep.exporting import keep_exported

            await keep_exported(self.gateway, exports, self.now)

    async def _owners(self, *, after: str | None, before: str | None) -> set[str]:
        """The keys that made videos in a range of ids; all keys until older videos are indexed."""
        if await self.gateway.videos.indexed():
            return await self.gateway.lines.owners(after=after, before=before)
        return {MASTER_OWNER, *[key_id async for key_id, _ in self.gateway.keys.all()]}

    def _expired(self, video: Video) -> bool:
        return bool(video.bytes) and video.expired(self.now)
