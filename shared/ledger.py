"""Money: reserve when a video is admitted, settle or release when it ends, each in one transaction with the video itself.

A key and its videos share a partition of the table `gateway`: the row `key` counts, the rows `video_…` are what is counted.
The counters therefore always equal what the videos say, and can be worked out again from them.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from shared.clock import Clock
from shared.tables import Insert, Replace, Row, Table, Write, retry_conflicts
from shared.video import Video, is_id, owner_of

_ACCOUNT = "key"
_FIRST_VIDEO, _AFTER_VIDEOS = "video_", "video`"  # "`" follows "_"


@dataclass(frozen=True)
class Entry:
    """A video as it was read, with the row that a conditional change of it needs."""

    video: Video
    row: Row


class Account(msgspec.Struct, frozen=True):
    """What a key holds and has spent, in micro-dollars."""

    reserved: int = 0
    spend: int = 0


class Ledger:
    def __init__(self, table: Table, clock: Clock, random: Random) -> None:
        self._table = table
        self._clock = clock
        self._random = random

    async def admit(self, video: Video) -> None:
        """Reserve the video's price and record it: both or neither. May be repeated with the same video."""

        async def attempt() -> None:
            account, row = await self._account(video.owner)
            if (await self._table.get(video.owner, video.id)) is not None:
                return  # an earlier attempt had won, and only its answer was lost
            await self._table.commit(
                video.owner,
                _counted(row, Account(account.reserved + video.reserved, account.spend)),
                Insert(video.id, video.to_row()),
            )

        await retry_conflicts(attempt, self._clock, self._random)

    async def find(self, video_id: str) -> Entry | None:
        """One point read."""
        if not is_id(video_id):
            return None
        row = await self._table.get(owner_of(video_id), video_id)
        return None if row is None else Entry(Video.from_row(row.key, row.values), row)

    async def change(self, entry: Entry, **changes: Any) -> Entry:
        """Change what has nothing to do with money. Raises Conflict when the video has changed since it was read."""
        video = msgspec.structs.replace(entry.video, **changes)
        if video.finished != entry.video.finished or video.cost != entry.video.cost:
            raise ValueError("money moves through settle() alone")
        values = video.to_row()
        (etag,) = await self._table.commit(video.owner, Replace(entry.row, values))
        return Entry(video, Row(video.id, values, etag))

    async def settle(self, video_id: str, **outcome: Any) -> Video | None:
        """End a video: turn its reservation into spend, or give it back. The first outcome stands; None if it is unknown."""

        async def attempt() -> Video | None:
            entry = await self.find(video_id)
            if entry is None:
                return None
            if entry.video.finished:
                return entry.video
            before, after = entry.video, msgspec.structs.replace(entry.video, **outcome)
            account, row = await self._account(before.owner)
            settled = Account(account.reserved - before.reserved + after.reserved, account.spend - before.spent + after.spent)
            await self._table.commit(before.owner, _counted(row, settled), Replace(entry.row, after.to_row()))
            return after

        return await retry_conflicts(attempt, self._clock, self._random)

    async def videos(
        self, owner: str, *, after: str | None = None, limit: int, newest_first: bool = True
    ) -> AsyncIterator[Video]:
        """A key's videos, after the video `after`. Newest first is a plain range read; oldest first reads every id."""
        if newest_first:
            rows = self._table.scan(owner, after=after or _FIRST_VIDEO, before=_AFTER_VIDEOS, limit=limit)
            async for row in rows:
                yield Video.from_row(row.key, row.values)
            return
        ids = [row.key async for row in self._table.scan(owner, after=_FIRST_VIDEO, before=after or _AFTER_VIDEOS, select=[])]
        for video_id in ids[::-1][:limit]:
            entry = await self.find(video_id)
            if entry is not None:
                yield entry.video

    async def _account(self, owner: str) -> tuple[Account, Row | None]:
        row = await self._table.get(owner, _ACCOUNT)
        if row is None:
            return Account(), None
        return Account(row.values.get("reserved", 0), row.values.get("spend", 0)), row


def _counted(row: Row | None, account: Account) -> Write:
    """The write that puts an account's counters beside whatever else its row holds."""
    counters = msgspec.structs.asdict(account)
    return Insert(_ACCOUNT, counters) if row is None else Replace(row, {**row.values, **counters})
