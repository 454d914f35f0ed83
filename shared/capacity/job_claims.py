"""Which video an upstream job belongs to. Written once, so that a job found after an unclear create
is never given to two videos.

A claim is a row of the table `pools`. Its partition `claims:<day>` is the day on which the job was
made, so that old claims are dropped together; near midnight it has a row under both days.
"""

from datetime import UTC, date, datetime, timedelta
from hashlib import sha256

import msgspec

from shared.clock import Clock
from shared.config.catalog import Deployment
from shared.storage.tables import Delete, Insert, Table, WriteConflict
from shared.upstream.jobs import Job

_APART = timedelta(hours=1)  # two answers about one job tell times that differ by much less


class JobClaims(msgspec.Struct, frozen=True):
    """The claims on upstream jobs. `table` is `pools`."""

    table: Table
    clock: Clock

    async def claim(self, deployment: Deployment, job: Job, video_id: str) -> bool:
        """Bind a job to a video for good. Returns False if another video has it. May be repeated.
        Raises StorageUnavailable.
        """
        for partition, key in self._places(deployment, job):
            try:
                await self.table.commit(partition, Insert(key, {"video": video_id}))
            except WriteConflict:
                if await self._bound(partition, key) != video_id:
                    return False
        return True

    async def holder(self, deployment: Deployment, job: Job) -> str | None:
        """The id of the video that a job is bound to, or None."""
        for partition, key in self._places(deployment, job):
            video_id = await self._bound(partition, key)
            if video_id is not None:
                return video_id
        return None

    async def _bound(self, partition: str, key: str) -> str | None:
        row = await self.table.get(partition, key)
        return None if row is None else str(row.values["video"])

    def _places(self, deployment: Deployment, job: Job) -> list[tuple[str, str]]:
        """Partitions and keys, the earlier day first. Two answers about one job may tell times that
        differ a little, so near midnight a claim lies under both days: any two claims meet in one.

        Jobs are told apart per resource, because all its deployments share one list.
        """
        made = self.clock.now() if job.created_at is None else datetime.fromtimestamp(job.created_at, UTC)
        key = sha256(f"{deployment.base_url} {job.id}".encode()).hexdigest()
        days = sorted({_partition(made - _APART), _partition(made + _APART)})
        return [(day, key) for day in days]

    async def drop(self, day: date) -> None:
        """Delete the claims on a day's jobs, once the upstream no longer lists them. May be
        repeated.
        """
        async for row in self.table.scan(_partition(day)):
            try:
                await self.table.commit(_partition(day), Delete(row))
            except WriteConflict:
                return  # another instance is deleting them


def _partition(day: date) -> str:
    return f"claims:{day:%Y-%m-%d}"
