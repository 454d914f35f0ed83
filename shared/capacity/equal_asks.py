"""Equal creates at one upstream resource go one at a time. So if an answer is lost, a job found in
the upstream's list can only belong to the create that was under way.

The upstream's list covers the whole resource, so this holds across deployments, models and keys. A
row of the partition `asks` stands for one create under way; its key is made of the resource and of
everything that the list shows of a job. The row names its video, whose record says whether the
create is still under way: a row left behind by a crash blocks nobody. It also names the models
whose videos wait for the outcome, so that whoever ends the create can wake them.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from random import Random

import msgspec

from shared.capacity.equality import ask_of, shown
from shared.clock import Clock
from shared.config.catalog import Deployment
from shared.media.video import Video
from shared.storage.tables import Delete, Insert, Replace, Row, Table, WriteConflict, key_of, retry_conflicts
from shared.storage.video_store import VideoStore

_ASKS = "asks"
_MOST_WAITING = 8  # models that a row names; videos of others look again by their own timer


class EqualAsks(msgspec.Struct, frozen=True):
    """`longest` is how long a create can be under way, until its outcome is known or given up."""

    table: Table
    videos: VideoStore
    clock: Clock
    random: Random
    longest: timedelta

    async def begin(self, deployment: Deployment, video: Video) -> Row | None:
        """Note that the video's create is under way; the video's own row must say so already.
        Returns the row for `end`. Returns None if an equal create is under way; its row then names
        the video's model. May be repeated. One write, unless there is a row already. Raises
        StorageUnavailable.
        """
        key = _key(deployment, video)

        async def attempt() -> Row | None:
            try:
                return await self._write(Insert(key, self._begun(video)))
            except WriteConflict:
                row = await self.table.get(_ASKS, key)
            return await self._take_over(row, video)

        return await retry_conflicts(attempt, self.clock, self.random)

    async def end(self, noted: Row) -> Collection[str]:
        """The outcome is known: let the next equal create begin. Returns the models whose videos
        wait for it. May be repeated. One write, unless somebody waits. Raises StorageUnavailable.
        """
        known = [noted]

        async def attempt() -> Collection[str]:
            row = known.pop() if known else await self.table.get(_ASKS, noted.key)
            if row is None or row.values["video"] != noted.values["video"]:
                return ()  # it is gone, or another video has taken it over
            await self.table.commit(_ASKS, Delete(row))
            return _waiting(row)

        return await retry_conflicts(attempt, self.clock, self.random)

    async def forget(self) -> None:
        """Delete the rows that crashes have left behind. Raises StorageUnavailable."""
        async for row in self.table.scan(_ASKS):
            if self._is_over(row):
                await self.end(row)

    async def _take_over(self, row: Row | None, video: Video) -> Row | None:
        """Take over the row if it is the video's own, or if its holder's create has ended. If not,
        note there that the video waits, and return None. Raises WriteConflict.
        """
        if row is None:
            raise WriteConflict  # it was deleted just now
        if row.values["video"] == video.id:
            return row
        if self._is_over(row) or not await self._under_way(row.values["video"]):
            return await self._write(Replace(row, {**row.values, **self._begun(video)}))
        waiting = _waiting(row)
        if video.model not in waiting and len(waiting) < _MOST_WAITING:
            await self._write(Replace(row, {**row.values, "waiting": " ".join([*waiting, video.model])}))
        return None

    async def _write(self, write: Insert | Replace) -> Row:
        (etag,) = await self.table.commit(_ASKS, write)
        return Row(key_of(write), dict(write.values), etag)

    def _begun(self, video: Video) -> dict[str, object]:
        return {"video": video.id, "since": self.clock.now()}

    async def _under_way(self, video_id: str) -> bool:
        """Whether a video's create has no known outcome. A deleted video counts too: its job is
        still searched for, to delete it.
        """
        entry = await self.videos.find(video_id)
        if entry is None or entry.video.attempted_at is None or entry.video.upstream_id is not None:
            return False
        return entry.video.deleted or not entry.video.finished

    def _is_over(self, row: Row) -> bool:
        since: datetime = row.values["since"]
        return since.astimezone(UTC) + self.longest < self.clock.now()


def _waiting(row: Row) -> Sequence[str]:
    """The models whose videos wait for the create of this row."""
    return str(row.values.get("waiting") or "").split()


def _key(deployment: Deployment, video: Video) -> str:
    resource = sha256(deployment.base_url.encode()).hexdigest()[:16]
    return f"{resource}_{shown(deployment, video.id, ask_of(video))}"
