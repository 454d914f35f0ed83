"""Writes the rows that videos of an earlier version lack: the listing rows of `video_store` and the
rows of `spend_lines`.

It goes through all keys once, some thousand videos a run, and stores how far it got. Until it is
done, listings and reports read the videos themselves. It may be killed anywhere, and run twice at
once.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import msgspec

from shared.accounts.account import Account
from shared.accounts.keys import KEYS
from shared.accounts.spend_lines import SpendLine
from shared.gateway import Gateway
from shared.media.video import MASTER_OWNER
from shared.storage.tables import Insert, Replace, Row, Table, WriteConflict, retry_conflicts
from shared.storage.video_store import INDEXING, UPKEEP, VideoRow, indexing, listing_of

# Instances of the earlier version may run for a while beside the first ones of this version.
_SETTLED = timedelta(minutes=30)
_A_RUN = 10_000  # videos of one run
_AT_ONCE = 50  # videos that are written at the same time


class Indexing(msgspec.Struct, frozen=True):
    """One run over the videos that are not indexed yet."""

    gateway: Gateway
    a_run: int = _A_RUN

    async def run(self) -> None:
        """Index up to `a_run` videos, and store how far it got."""
        if await self.gateway.videos.indexed():
            return
        row = await self._table.get(UPKEEP, INDEXING)
        now = self.gateway.clock.now()
        if row is None:
            await self._note(None, {"since": now})
        elif now - row.values["since"].astimezone(UTC) >= _SETTLED:
            await self._go_on(row)

    async def _go_on(self, row: Row) -> None:
        since: datetime = row.values["since"]
        left, last = self.a_run, row.values.get("key", "")
        async for owner in self._owners(last):
            after = row.values.get("after", "") if owner == last else ""
            account = await self.gateway.ledger.account(owner) or Account()
            batch: list[VideoRow] = []
            async for entry in self.gateway.videos.entries(owner, after=after):
                batch.append(entry)
                left -= 1
                if len(batch) == _AT_ONCE or not left:
                    await self._index(account, batch)
                    batch = []
                if not left:
                    await self._note(row, {"since": since, "key": owner, "after": entry.video.id})
                    return
            await self._index(account, batch)
        await self._note(row, {"since": since, "done": True})

    async def _owners(self, first: str) -> AsyncIterator[str]:
        """The keys from `first` on, in order; the operator's own partition before all."""
        if first in ("", MASTER_OWNER):
            yield MASTER_OWNER
        elif first:
            yield first
        async for row in self._table.scan(KEYS, after=first):
            yield row.key

    async def _index(self, account: Account, batch: list[VideoRow]) -> None:
        done = await self.gateway.videos.listed_of(batch)
        await asyncio.gather(*(self._index_one(account, entry.video.id) for entry in batch if entry.video.id not in done))

    async def _index_one(self, account: Account, video_id: str) -> None:
        async def attempt() -> None:
            entry = await self.gateway.videos.find(video_id)
            if entry is None:
                return
            await self._write_line(account, entry)
            # Last: a video that has its listing rows is taken for done.
            writes = indexing(entry, await listing_of(self._table, video_id))
            if writes:
                await self._table.commit(entry.video.owner, *writes)

        await retry_conflicts(attempt, self.gateway.clock, self.gateway.videos.random)

    async def _write_line(self, account: Account, entry: VideoRow) -> None:
        """Write the video's spend line; a finished video without alias and user gets the key's
        present ones.
        """
        video = entry.video
        if not video.finished:
            await self.gateway.lines.open(video.id)
            return
        video = msgspec.structs.replace(
            video, key_alias=video.key_alias or account.alias, key_user=video.key_user or account.user_id
        )
        await self.gateway.lines.close(SpendLine.of(video))

    async def _note(self, row: Row | None, values: dict[str, object]) -> None:
        """Store how far it got. Of two runs at once, only the first stores it: the other's videos
        are indexed again, which changes nothing.
        """
        try:
            await self._table.commit(UPKEEP, Insert(INDEXING, values) if row is None else Replace(row, values))
        except WriteConflict:
            return

    @property
    def _table(self) -> Table:
        return self.gateway.tables.gateway
