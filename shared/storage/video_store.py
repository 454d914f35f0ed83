"""The stored videos: find, change and list them. Nothing here moves money.

A video is a row of its key's partition of the table `gateway`, under its id, which sorts newest
first. When its caller deletes it, the row moves to `gone_<id>`, so that listings read no deleted
videos. Every listed video also has an empty row `old_…`, whose key sorts oldest first. Rows that
belong together change in one transaction.

Videos of an earlier version have no row `old_…`, and stay under their id when they are deleted,
until `upkeep.indexing` has gone through them. Until then listings read them in the old way.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Any, Self, TypeAlias

import msgspec

from shared.clock import Clock
from shared.media.video import EVERY_VIDEO, RunningJob, Video, VideoFilter, is_id, owner_of, reversed_id
from shared.storage.merging import merged
from shared.storage.tables import Delete, Insert, Merge, Replace, Row, Table, Write, retry_conflicts

_FIRST_VIDEO, _AFTER_VIDEOS = "video_", "video`"  # "`" follows "_"
_GONE = "gone_"
_OLD, _AFTER_OLD = "old_", "old`"
# How many ids one call searches for the videos of a filter: first a few, since many of them may
# match, then as many at a time as storage reads in one request.
_STEPS = (200, 1_000, 1_000, 1_000, 1_000, 1_000)
_IdsAfter: TypeAlias = Callable[[str, str | None, int], Awaitable[list[str]]]
MOST_COUNTED = 10_000  # videos of a key, read a thousand in a request
UPKEEP, INDEXING = "upkeep", "indexing"  # partition and row that store how far older videos are indexed


class VideoRow(msgspec.Struct, frozen=True):
    """A video as it was read, with the row that a conditional change needs."""

    video: Video
    row: Row


class _Listed(Video, frozen=True, kw_only=True):
    """A video straight from its row's JSON. It is only to be shown: `to_row` does not know it."""

    id: str = msgspec.field(name="RowKey")


class Page(msgspec.Struct, frozen=True):
    """A page of a list. With `more`, other videos may follow after the video `last`: the last of
    the page, or the last that was searched.
    """

    videos: list[Video]
    more: bool = False
    last: str | None = None

    @classmethod
    def cut(cls, videos: list[Video], limit: int) -> Self:
        """A page of the first `limit` of these videos, after which there are no others."""
        shown = videos[:limit]
        return cls(shown, len(videos) > len(shown), shown[-1].id if shown else None)


class Counts(msgspec.Struct, frozen=True):
    """Videos by status. `more` says that there are older ones, which were not counted."""

    by_status: Mapping[str, int]
    more: bool = False


class Sighting(msgspec.Struct, frozen=True):
    """The job's part of a video's record after a look, and what a conditional change of that record
    needs. It is given to the next look, which then need not read the record.
    """

    job: RunningJob
    key: str
    etag: str

    @classmethod
    def of(cls, entry: VideoRow) -> "Sighting":
        return cls(entry.video.job, entry.row.key, entry.row.etag)

    @classmethod
    def read(cls, told: Mapping[str, Any] | None) -> "Sighting | None":
        """From JSON; None if there is none, or if another version of the app wrote it."""
        try:
            return msgspec.convert(told, Sighting | None)
        except msgspec.ValidationError:
            return None

    @property
    def told(self) -> dict[str, Any]:
        """As JSON."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return told

    def with_job(self, **changes: Any) -> "Sighting":
        return msgspec.structs.replace(self, job=msgspec.structs.replace(self.job, **changes))


async def find_video(table: Table, video_id: str) -> VideoRow | None:
    """One point read, two for a deleted video; None for an id that is unknown or malformed."""
    if not is_id(video_id):
        return None
    owner = owner_of(video_id)
    # In this order: a video that is deleted between the two reads is found by the second one.
    row = await table.get(owner, video_id) or await table.get(owner, f"{_GONE}{video_id}")
    return None if row is None else _entry(row)


def listed(video_id: str) -> Insert:
    """The row by which a new video is listed oldest first."""
    return Insert(_old_key(video_id), {})


async def listing_of(table: Table, video_id: str) -> Row | None:
    """The row by which a video is listed oldest first, if it has one. A deletion removes it."""
    return await table.get(owner_of(video_id), _old_key(video_id))


def hiding(entry: VideoRow, deleted: Video, listing: Row | None) -> tuple[Write, ...]:
    """The writes that remove a deleted video from every listing."""
    moved = (Delete(entry.row), Insert(f"{_GONE}{deleted.id}", deleted.to_row()))
    return moved if listing is None else (*moved, Delete(listing))


def indexing(entry: VideoRow, listing: Row | None) -> tuple[Write, ...]:
    """The writes that give a video of an earlier version the rows of this version."""
    if entry.row.key.startswith(_GONE):
        return ()
    if entry.video.deleted:
        return hiding(entry, entry.video, listing)
    # The video is written again unchanged, so that a deletion at the same moment is a conflict.
    return () if listing else (Replace(entry.row, entry.video.to_row()), listed(entry.video.id))


class VideoStore(msgspec.Struct):
    """The videos of all keys, in `table`."""

    table: Table
    clock: Clock
    random: Random
    _indexed: bool = False

    async def find(self, video_id: str) -> VideoRow | None:
        """A video, deleted ones too; None if the id is unknown or malformed. One point read, two
        for a deleted video.
        """
        return await find_video(self.table, video_id)

    async def change(self, entry: VideoRow, **changes: Any) -> VideoRow:
        """Change fields that do not concern money. Raises WriteConflict if the video has changed
        since it was read, and ValueError for a change of money.
        """
        video = msgspec.structs.replace(entry.video, **changes)
        if video.finished != entry.video.finished or video.cost != entry.video.cost:
            raise ValueError("money moves through Ledger.settle() alone")
        values = video.to_row()
        (etag,) = await self.table.commit(video.owner, Replace(entry.row, values))
        return VideoRow(video, Row(entry.row.key, values, etag))

    async def change_job(self, seen: Sighting, *also: Write, **changes: Any) -> Sighting:
        """Change fields of a running job without reading its record, in one transaction with the
        writes `also`. Raises WriteConflict if the record has changed since it was seen.
        """
        etag, *_ = await self.table.commit(owner_of(seen.job.id), Merge(Row(seen.key, {}, seen.etag), changes), *also)
        return msgspec.structs.replace(seen.with_job(**changes), etag=etag)

    async def update(self, video_id: str, last: VideoRow | None = None, **changes: Any) -> VideoRow | None:
        """`change`, repeated until there is no conflict: for a change that is right whatever else
        has changed. None for an unknown video. `last` is the video as last read or written.
        """
        known = [last] if last else []

        async def attempt() -> VideoRow | None:
            entry = known.pop() if known else await self.find(video_id)
            return await self.change(entry, **changes) if entry else None

        return await retry_conflicts(attempt, self.clock, self.random)

    async def hide(self, video_id: str) -> None:
        """Mark a finished video as deleted, and remove it from every listing. May be repeated."""

        async def attempt() -> None:
            entry = await self.find(video_id)
            if entry is not None and not entry.row.key.startswith(_GONE):
                deleted = msgspec.structs.replace(entry.video, deleted=True)
                listing = await listing_of(self.table, video_id)
                await self.table.commit(deleted.owner, *hiding(entry, deleted, listing))

        await retry_conflicts(attempt, self.clock, self.random)

    async def of(
        self,
        owner: str,
        *,
        after: str | None = None,
        before: str | None = None,
        page: int | None = None,
    ) -> AsyncIterator[Video]:
        """All videos of a key, deleted ones too, newest first; read in pages of `page` rows."""
        reads = [self._range(owner, prefix, after, before, page) for prefix in ("", _GONE)]
        async for video in merged(reads, lambda video: video.id):
            yield video

    async def newest_first(
        self, owner: str, limit: int, *, after: str | None = None, wanted: VideoFilter = EVERY_VIDEO
    ) -> Page:
        """The newest listed videos of a key that are older than the video `after`."""
        if wanted != EVERY_VIDEO:
            return await self._looked_for(self._newest_ids, owner, limit, after, wanted)
        videos: list[Video] = []
        last = max(after or "", _FIRST_VIDEO)
        while True:
            found = await self.table.first_as(_Listed, owner, limit + 1, after=last, before=_AFTER_VIDEOS)
            videos += [each for each in found if not each.deleted]
            if len(videos) > limit or len(found) <= limit:
                return Page.cut(videos, limit)
            last = found[-1].id

    async def newest_rows(self, owner: str, limit: int, columns: Sequence[str]) -> Sequence[Row]:
        """These columns of the newest listed videos of a key, in one request."""
        return await self.table.first(owner, limit, after=_FIRST_VIDEO, before=_AFTER_VIDEOS, select=columns)

    async def unfinished_rows(self, owner: str, after: str, columns: Sequence[str]) -> Sequence[Row]:
        """These columns of the unfinished videos among the next thousand listed ones of a key, in
        three requests. A video that starts between two of them is there twice.
        """
        ids = await self._newest_ids(owner, after, _STEPS[-1])
        rows: list[Row] = []
        for status in ("queued", "in_progress") if ids else ():
            scan = self.table.scan(owner, after=after, before=f"{ids[-1]}~", select=columns, where={"status": status})
            rows += [row async for row in scan]
        return rows

    async def oldest_first(
        self, owner: str, limit: int, *, after: str | None = None, wanted: VideoFilter = EVERY_VIDEO
    ) -> Page:
        """The oldest listed videos of a key that are newer than the video `after`."""
        return await self._looked_for(self._oldest_ids, owner, limit, after, wanted)

    async def counts(self, owner: str) -> Counts:
        """How many listed videos of a key have each status, of the newest `MOST_COUNTED`."""
        found: Counter[str] = Counter()
        columns = ["status", "deleted"]
        async for row in self.table.scan(owner, after=_FIRST_VIDEO, before=_AFTER_VIDEOS, select=columns):
            if found.total() == MOST_COUNTED:
                return Counts(found, more=True)
            if not row.values.get("deleted"):
                found[row.values["status"]] += 1
        return Counts(found)

    async def indexed(self) -> bool:
        """Whether all videos of earlier versions have been indexed. Once True, it stays True."""
        if not self._indexed:
            row = await self.table.get(UPKEEP, INDEXING)
            self._indexed = bool(row and row.values.get("done"))
        return self._indexed

    async def entries(self, owner: str, *, after: str = "") -> AsyncIterator[VideoRow]:
        """The videos under their ids with their rows, for the indexing of older ones."""
        async for row in self.table.scan(owner, after=max(after, _FIRST_VIDEO), before=_AFTER_VIDEOS):
            yield _entry(row)

    async def listed_of(self, entries: Sequence[VideoRow]) -> set[str]:
        """The ids of those of these videos that are listed oldest first. They are neighbours of one
        key, newest first, so one range read finds them.
        """
        if not entries:
            return set()
        newest, oldest = entries[0].video, entries[-1].video
        after, before = _old_key(oldest.id)[:-1], f"{_old_key(newest.id)}~"  # each sorts just outside of the range
        rows = self.table.scan(newest.owner, after=after, before=before, select=[])
        return {_id_of(row.key) async for row in rows}

    async def _looked_for(self, ids_after: _IdsAfter, owner: str, limit: int, after: str | None, wanted: VideoFilter) -> Page:
        """The first listed videos that match `wanted`, among the next few thousand ids."""
        videos: list[Video] = []
        for step in _STEPS if wanted != EVERY_VIDEO else (limit + 1, *_STEPS):
            ids = await ids_after(owner, after, step)
            videos += await self._between(owner, ids, wanted)
            if len(videos) > limit or len(ids) < step:
                return Page.cut(videos, limit)
            after = ids[-1]
        return Page(videos, more=True, last=after)

    async def _newest_ids(self, owner: str, after: str | None, count: int) -> list[str]:
        """The first ids after this one, newest first."""
        return await self._keys(owner, max(after or "", _FIRST_VIDEO), _AFTER_VIDEOS, count)

    async def _oldest_ids(self, owner: str, after: str | None, count: int) -> list[str]:
        """The first ids after this one, oldest first. Without the rows `old_…`, every id of the key
        that is newer is read.
        """
        if await self.indexed():
            keys = await self._keys(owner, _old_key(after) if after else _OLD, _AFTER_OLD, count)
            return [_id_of(key) for key in keys]
        newer = self.table.scan(owner, after=_FIRST_VIDEO, before=after or _AFTER_VIDEOS, select=[])
        return [row.key async for row in newer][::-1][:count]

    async def _keys(self, owner: str, after: str, before: str, count: int) -> list[str]:
        """The first keys between these two."""
        return [row.key for row in await self.table.first(owner, count, after=after, before=before, select=[])]

    async def _between(self, owner: str, ids: list[str], wanted: VideoFilter) -> list[Video]:
        """Those of these videos that match `wanted`, in this order. They are neighbours, so one
        range read returns them.
        """
        if not ids:
            return []
        places = {video_id: place for place, video_id in enumerate(ids)}
        before = f"{max(ids)}~"
        after = min(ids)[:-1]  # sorts before this id and after those of newer videos
        read = self._range(owner, "", after, before, len(ids), where=wanted.stored)
        found = [video async for video in read if video.id in places and not video.deleted and wanted.takes(video)]
        return sorted(found, key=lambda each: places[each.id])

    async def _range(
        self,
        owner: str,
        prefix: str,
        after: str | None,
        before: str | None,
        page: int | None,
        *,
        where: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Video]:
        after, before = max(after or "", _FIRST_VIDEO), min(before or _AFTER_VIDEOS, _AFTER_VIDEOS)
        rows = self.table.scan(owner, after=f"{prefix}{after}", before=f"{prefix}{before}", page=page, where=where)
        async for row in rows:
            yield _entry(row).video


def _entry(row: Row) -> VideoRow:
    return VideoRow(row.read(Video, id=row.key.removeprefix(_GONE)), row)


def _old_key(video_id: str) -> str:
    return f"{_OLD}{reversed_id(video_id)}"


def _id_of(old_key: str) -> str:
    return f"video_{reversed_id(f'video_{old_key.removeprefix(_OLD)}')}"
