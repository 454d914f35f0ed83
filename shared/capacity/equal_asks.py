"""Equal creates at one upstream resource go one at a time. So if an answer is lost, a job found in
the upstream's list can only belong to the create that was under way.

The upstream's list covers the whole resource, so this holds across deployments, models and keys. A
row of the partition `asks` stands for one create under way; its key is made of the resource and of
everything that the list shows of a job. The row names its video, whose record says whether the
create is still under way: a row left behind by a crash blocks nobody.
"""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

import msgspec

from shared.clock import Clock
from shared.config.catalog import Deployment
from shared.media.video import Video
from shared.storage.tables import Delete, Insert, Replace, Row, Table, WriteConflict
from shared.storage.video_store import VideoStore

_ASKS = "asks"


class EqualAsks(msgspec.Struct, frozen=True):
    """`longest` is how long a create can be under way, until its outcome is known or given up."""

    table: Table
    videos: VideoStore
    clock: Clock
    longest: timedelta

    async def begin(self, deployment: Deployment, video: Video) -> Row | None:
        """Note that the video's create is under way; the video's own row must say so already.
        Returns the row for `end`, or None if an equal create is under way. May be repeated. One
        write, unless there is a row already. Raises StorageUnavailable.
        """
        key, values = _key(deployment, video), {"video": video.id, "since": self.clock.now()}
        try:
            (etag,) = await self.table.commit(_ASKS, Insert(key, values))
            return Row(key, values, etag)
        except WriteConflict:
            return await self._take_over(key, values)

    async def end(self, noted: Row) -> None:
        """The outcome is known: let the next equal create begin. May be repeated."""
        try:
            await self.table.commit(_ASKS, Delete(noted))
        except WriteConflict:
            return  # it is gone, or another video has taken it over

    async def forget(self) -> None:
        """Delete the rows that crashes have left behind. Raises StorageUnavailable."""
        async for row in self.table.scan(_ASKS):
            if self._is_over(row):
                await self.end(row)

    async def _take_over(self, key: str, values: dict[str, object]) -> Row | None:
        """Take over the row if it is the video's own, or if its holder's create has ended. Returns
        None if not.
        """
        row = await self.table.get(_ASKS, key)
        if row is None:
            return None  # it ended just now: the next try begins anew
        if row.values["video"] == values["video"]:
            return row
        if not self._is_over(row) and await self._under_way(row.values["video"]):
            return None
        try:
            (etag,) = await self.table.commit(_ASKS, Replace(row, values))
        except WriteConflict:
            return None
        return Row(key, dict(values), etag)

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


def ask_of(video: Video, *, prompt: bool = True) -> str:
    """A hash of what a list of jobs shows of a create; `prompt` is whether it shows prompts. Two
    creates with the same hash cannot be told apart.
    """
    asked = f"{video.source_upstream_id} {video.seconds} {video.size} {video.prompt if prompt else ''}"
    return sha256(asked.encode()).hexdigest()[:24]


def _key(deployment: Deployment, video: Video) -> str:
    return f"{sha256(deployment.base_url.encode()).hexdigest()[:16]}_{_told(deployment, video)}"


def _told(deployment: Deployment, video: Video) -> str:
    """What the deployment's list of jobs shows of a create. If jobs carry a mark of their video, or
    are never searched for, no two creates are equal.
    """
    if deployment.mark(video.id) or not deployment.dialect.lists:
        return video.id
    return ask_of(video, prompt=not deployment.known_by_size)
