"""The videos as they are stored: find, change and list them. None of it moves money.

A video lies in its key's partition of the table `gateway`, under its id.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from shared.clock import Clock
from shared.media.video import Video, is_id, owner_of
from shared.storage.tables import Replace, Row, Table, retry_conflicts

_FIRST_VIDEO, _AFTER_VIDEOS = "video_", "video`"  # "`" follows "_"


@dataclass(frozen=True)
class VideoRow:
    """A video as it was read, with the row that a conditional change of it needs."""

    video: Video
    row: Row


async def find_video(table: Table, video_id: str) -> VideoRow | None:
    """One point read; None for an id that is unknown or malformed."""
    if not is_id(video_id):
        return None
    row = await table.get(owner_of(video_id), video_id)
    return None if row is None else VideoRow(Video.from_row(row.key, row.values), row)


@dataclass(frozen=True)
class VideoStore:
    """The videos of all keys, in `table`."""

    table: Table
    clock: Clock
    random: Random

    async def find(self, video_id: str) -> VideoRow | None:
        """One point read; None for an id that is unknown or malformed."""
        return await find_video(self.table, video_id)

    async def change(self, entry: VideoRow, **changes: Any) -> VideoRow:
        """Change what has nothing to do with money. Raises WriteConflict when the video has changed
        since it was read.
        """
        video = msgspec.structs.replace(entry.video, **changes)
        if video.finished != entry.video.finished or video.cost != entry.video.cost:
            raise ValueError("money moves through Ledger.settle() alone")
        values = video.to_row()
        (etag,) = await self.table.commit(video.owner, Replace(entry.row, values))
        return VideoRow(video, Row(video.id, values, etag))

    async def update(self, video_id: str, **changes: Any) -> Video | None:
        """The same for a change that holds whatever else happens to the video; None if it is
        unknown.
        """

        async def attempt() -> Video | None:
            entry = await self.find(video_id)
            return (await self.change(entry, **changes)).video if entry else None

        return await retry_conflicts(attempt, self.clock, self.random)

    async def of(
        self,
        owner: str,
        *,
        after: str | None = None,
        before: str | None = None,
        page: int | None = None,
    ) -> AsyncIterator[Video]:
        """A key's videos, newest first: a plain range read, since ids sort that way. `page` are
        read at a time.
        """
        after, before = max(after or "", _FIRST_VIDEO), min(before or _AFTER_VIDEOS, _AFTER_VIDEOS)
        async for row in self.table.scan(owner, after=after, before=before, page=page):
            yield Video.from_row(row.key, row.values)

    async def oldest_first(self, owner: str, *, after: str | None = None, page: int | None = None) -> AsyncIterator[Video]:
        """The other way round: reads every id of the key that is newer than `after`, then the
        videos one by one.
        """
        del page
        before = min(after or _AFTER_VIDEOS, _AFTER_VIDEOS)
        ids = [row.key async for row in self.table.scan(owner, after=_FIRST_VIDEO, before=before, select=[])]
        for video_id in reversed(ids):
            entry = await self.find(video_id)
            if entry is not None:
                yield entry.video
