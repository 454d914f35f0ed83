"""Finds changes of videos, for callers that wait for them.

Another instance may make a change, so changes are found by reading storage. Each subject, a video
or the videos of a key, is read about once a second for all callers that follow it on this instance.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from shared.clock import Clock
from shared.media.video import Status
from shared.storage.video_store import VideoStore

# Seconds between two looks: a tenth of the time since the last change, within these bounds.
_SHORTEST, _LONGEST = 1.0, 5.0
MOST_FOLLOWED = 500  # of a key's newest videos; older ones are followed if they are unfinished
_ROWS_A_SECOND = 100  # a reading serves for a second for so many rows
_LATE = timedelta(seconds=60)  # clocks differ, and a change is seen some time after it was made


class View(msgspec.Struct, frozen=True):
    """What a caller sees of a video: it has changed if its view has. `since` is when it got its
    status.
    """

    status: Status
    progress: int
    since: datetime

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "View | None":
        """The view of a video's row, or None if its caller has deleted the video."""
        if told.get("deleted"):
            return None
        moments = [told[name].astimezone(UTC) for name in _MOMENTS if told.get(name)]
        return cls(told["status"], told.get("progress", 0), max(moments))

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "failed")


_MOMENTS = ("created_at", "started_at", "finished_at")
_COLUMNS = ("status", "progress", "deleted", *_MOMENTS)

Views = Mapping[str, View | None]  # by video id; None for a video that is deleted or no longer followed


class Subject:
    """A video, or the videos of a key. All callers that follow it share one reading, which is used
    for one to five seconds.
    """

    def __init__(self, read: Callable[[], Awaitable[Views]], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._reading = asyncio.Lock()
        self._views: Views = {}
        self._fresh_until: datetime | None = None

    async def views(self) -> Views:
        """The views, from the last reading if it is fresh. Raises StorageUnavailable."""
        async with self._reading:
            if self._fresh_until is None or self._clock.now() >= self._fresh_until:
                self._views = await self._read()
                seconds = min(max(_SHORTEST, len(self._views) / _ROWS_A_SECOND), _LONGEST)
                self._fresh_until = self._clock.now() + timedelta(seconds=seconds)
            return self._views


class Follower:
    """One caller that follows a subject: the views it knows, and when it looks again."""

    def __init__(self, subject: Subject, clock: Clock, known: Views) -> None:
        self._subject = subject
        self._clock = clock
        self._known = known
        self._changed_at = self._looks_at = clock.now()

    async def changes(self) -> Views:
        """The views that have changed since the last call; none if it is too early to look again.
        Raises StorageUnavailable.
        """
        now = self._clock.now()
        if now < self._looks_at:
            return {}
        views = await self._subject.views()
        changed = _differences(self._known, views)
        self._known = views
        if changed:
            self._changed_at = now
        quiet = (now - self._changed_at).total_seconds()
        self._looks_at = now + timedelta(seconds=min(max(_SHORTEST, quiet / 10), _LONGEST))
        return changed


class Following(msgspec.Struct):
    """The subjects of this instance. One is forgotten when nobody follows it any more."""

    videos: VideoStore
    clock: Clock
    _subjects: WeakValueDictionary[str, Subject] = msgspec.field(default_factory=WeakValueDictionary)

    def video(self, video_id: str, known: View | None) -> Follower:
        """Follow a video. `known` is the view that the caller has; with None, the present view
        counts as a change.
        """
        return Follower(self._subject(video_id, lambda: self._video(video_id)), self.clock, {video_id: known})

    async def key(self, owner: str, since: datetime | None = None) -> Follower:
        """Follow the newest and the unfinished videos of a key. Changes from now on count, and with
        `since` also videos that got their status after that time. Raises StorageUnavailable.
        """
        subject = self._subject(owner, lambda: self._videos(owner))
        views = await subject.views()
        before = None if since is None else since - _LATE
        known = {name: view for name, view in views.items() if before is None or view is None or view.since < before}
        return Follower(subject, self.clock, known)

    def _subject(self, name: str, read: Callable[[], Awaitable[Views]]) -> Subject:
        subject = self._subjects.get(name)
        if subject is None:
            subject = self._subjects[name] = Subject(read, self.clock)
        return subject

    async def _video(self, video_id: str) -> Views:
        entry = await self.videos.find(video_id)
        return {video_id: View.of(entry.row.values) if entry else None}

    async def _videos(self, owner: str) -> Views:
        """The newest videos, and older ones that are unfinished: in a long queue the oldest start
        first.
        """
        rows = [*await self.videos.newest_rows(owner, MOST_FOLLOWED, _COLUMNS)]
        if len(rows) == MOST_FOLLOWED:
            rows += await self.videos.unfinished_rows(owner, rows[-1].key, _COLUMNS)
        return {row.key: View.of(row.values) for row in rows}


def _differences(known: Views, views: Views) -> Views:
    """The views that differ in the second of two readings; None for a video that is missing there.
    One that has ended and is only no longer among the newest is left out. Ids sort newest first.
    """
    oldest = max(sorted(views)[:MOST_FOLLOWED], default="") if len(views) >= MOST_FOLLOWED else "~"
    gone = [name for name in known.keys() - views.keys() if (view := known[name]) and (name < oldest or not view.ended)]
    changed = {name: view for name, view in views.items() if known.get(name) != view}
    return {**changed, **dict.fromkeys(gone)}
