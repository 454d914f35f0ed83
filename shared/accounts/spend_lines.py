"""What every video of all keys has cost, in the order of time.

The partition `spend` has a row for every video: `open_<id>`, empty, from before its admission until
it ends, then `done_<id>` with its cost. Ids sort newest first, so a page is one range read, however
many keys and videos there are. A line is only a copy of its video's cost. It is written before the
video leaves the pool: a step that is cut off is repeated until the line is there.
"""

import json
from collections.abc import AsyncIterator
from datetime import UTC, date
from typing import Any

import msgspec

from shared.media.video import Video, created_at, owner_of
from shared.storage.merging import merged
from shared.storage.tables import Delete, Insert, Table, Write, WriteConflict, unread

SPEND = "spend"  # the partition
_OPEN, _DONE = "open_", "done_"
_FIRST, _LAST = "video_", "video`"


class SpendLine(msgspec.Struct, frozen=True, kw_only=True):
    """What reports add up of one video. `cost` in micro-dollars, `tags` as JSON text; `alias` and
    `user` as of its admission. `status` is "running" until the video has ended; `error` is the code
    of one that has failed.
    """

    id: str
    model: str
    status: str
    cost: int
    seconds: int
    user: str | None = None
    alias: str | None = None
    tags: str | None = None
    error: str | None = None

    @classmethod
    def of(cls, video: Video) -> "SpendLine":
        return cls(
            id=video.id,
            model=video.model,
            status=video.status if video.finished else "running",
            cost=video.cost,
            seconds=video.seconds,
            user=video.user or video.key_user,
            alias=video.key_alias,
            tags=video.tags,
            error=video.error_code if video.status == "failed" else None,
        )

    @classmethod
    def from_row(cls, video_id: str, values: dict[str, Any]) -> "SpendLine":
        return cls(id=video_id, **{name: value for name, value in values.items() if name in cls.__struct_fields__})

    @property
    def owner(self) -> str:
        return owner_of(self.id)

    @property
    def day(self) -> date:
        """The day of its creation, in UTC."""
        return created_at(self.id).astimezone(UTC).date()

    @property
    def cancelled(self) -> bool:
        """Whether it has failed because its caller deleted it."""
        return self.error == "cancelled"

    @property
    def spent(self) -> int:
        return self.cost if self.status == "completed" else 0

    @property
    def reserved(self) -> int:
        return self.cost if self.status == "running" else 0

    @property
    def tag_list(self) -> list[str]:
        tags: list[str] = json.loads(self.tags) if self.tags else []
        return tags


class SpendLines(msgspec.Struct, frozen=True):
    """The rows of all videos, in `table`."""

    table: Table

    async def open(self, video_id: str) -> None:
        """Add the open line of a video before its admission. May be repeated."""
        await self._commit(Insert(f"{_OPEN}{video_id}", {}))

    async def close(self, line: SpendLine) -> None:
        """Replace the open line of a video that has ended by this one. May be repeated."""
        values = msgspec.structs.asdict(line)
        del values["id"]
        done, opened = Insert(f"{_DONE}{line.id}", values), Delete(unread(f"{_OPEN}{line.id}"))
        if not await self._commit(done, opened):  # one of them was done before
            await self._commit(done)
            await self._commit(opened)

    async def drop(self, video_id: str) -> None:
        """Remove the open line of a video that was never admitted. May be repeated."""
        await self._commit(Delete(unread(f"{_OPEN}{video_id}")))

    async def _commit(self, *writes: Write) -> bool:
        """Returns False if one of them was done before."""
        try:
            await self.table.commit(SPEND, *writes)
        except WriteConflict:
            return False
        return True

    async def unfinished(self) -> AsyncIterator[str]:
        """The ids of all unfinished videos, and of requests that are being admitted."""
        async for row in self._rows(_OPEN, None, None, None, []):
            yield row[0]

    async def between(
        self, *, after: str | None = None, before: str | None = None, page: int | None = None
    ) -> AsyncIterator[tuple[str, SpendLine | None]]:
        """The ids of all videos in a range, newest first, each with its line, or None if it has not
        ended.
        """
        reads = [self._rows(_OPEN, after, before, page, []), self._rows(_DONE, after, before, page, None)]
        async for video_id, values in merged(reads, lambda row: row[0]):
            yield video_id, SpendLine.from_row(video_id, values) if values else None

    async def owners(self, *, after: str | None, before: str | None) -> set[str]:
        """The keys that have asked for videos in a range of ids."""
        found: set[str] = set()
        for prefix in (_OPEN, _DONE):
            async for video_id, _ in self._rows(prefix, after, before, None, []):
                found.add(owner_of(video_id))
        return found

    async def _rows(
        self, prefix: str, after: str | None, before: str | None, page: int | None, select: list[str] | None
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        first, last = f"{prefix}{max(after or '', _FIRST)}", f"{prefix}{min(before or _LAST, _LAST)}"
        async for row in self.table.scan(SPEND, after=first, before=last, page=page, select=select):
            yield row.key.removeprefix(prefix), row.values
