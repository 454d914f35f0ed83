"""One create at a time of all equal ones at a resource: where the answer of one is lost, the job
that is found must be its own.

The upstream's list belongs to the resource, so that this holds across deployments, models and keys.
A row of the partition `asks` is one request under way, by resource and by what the list tells of
it. It names its video, and that one's record says whether it still is: a row that a crash has left
behind keeps nobody waiting.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from shared.clock import Clock
from shared.config.catalog import Deployment
from shared.media.video import Video
from shared.storage.tables import Delete, Insert, Replace, Row, Table, WriteConflict
from shared.storage.video_store import VideoStore

_ASKS = "asks"


@dataclass(frozen=True)
class EqualAsks:
    """`longest` is how long a request can be under way, until its outcome is known or given up."""

    table: Table
    videos: VideoStore
    clock: Clock
    longest: timedelta

    async def begin(self, deployment: Deployment, video: Video) -> Row | None:
        """Note that the video is asked for, which its record must say already; None while an equal
        one is under way. May be repeated. Costs one write where nobody else has noted it.
        """
        key, values = _key(deployment, video), {"video": video.id, "since": self.clock.now()}
        try:
            (etag,) = await self.table.commit(_ASKS, Insert(key, values))
            return Row(key, values, etag)
        except WriteConflict:
            return await self._take_over(key, values)

    async def end(self, noted: Row) -> None:
        """The outcome is known: let the next one begin. May be repeated."""
        try:
            await self.table.commit(_ASKS, Delete(noted))
        except WriteConflict:
            return  # it is gone, or somebody else's by now

    async def forget(self) -> None:
        """Drop what crashes have left behind."""
        async for row in self.table.scan(_ASKS):
            if self._is_over(row):
                await self.end(row)

    async def _take_over(self, key: str, values: dict[str, object]) -> Row | None:
        """The row, where it is the video's own or its holder is done with it."""
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
        """Whether a video's create has no known outcome. A deleted one is looked for as well."""
        entry = await self.videos.find(video_id)
        if entry is None or entry.video.attempted_at is None or entry.video.upstream_id is not None:
            return False
        return entry.video.deleted or not entry.video.finished

    def _is_over(self, row: Row) -> bool:
        since: datetime = row.values["since"]
        return since.astimezone(UTC) + self.longest < self.clock.now()


def ask_of(video: Video) -> str:
    """What the upstream is asked for, as far as its list of jobs can tell requests apart."""
    asked = f"{video.source_upstream_id} {video.seconds} {video.size} {video.prompt}"
    return sha256(asked.encode()).hexdigest()[:24]


def _key(deployment: Deployment, video: Video) -> str:
    return f"{sha256(deployment.base_url.encode()).hexdigest()[:16]}_{ask_of(video)}"
