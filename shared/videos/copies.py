"""Deletes the copies of videos that upstream servers keep, so that their disks do not fill.

A copy that cannot be deleted now is noted in the partition `copies` of the table `pools`. The sweep
tries those again until they are gone, or a day is over.
"""

import asyncio
import logging
from datetime import UTC, timedelta

import msgspec

from shared.clock import Clock
from shared.errors import Missing, Unreachable, UpstreamError
from shared.media.video import RunningJob, Video, reversed_id
from shared.storage.tables import Delete, Insert, Row, Table, WriteConflict
from shared.upstream.client import log_failure
from shared.upstream.upstreams import Upstreams

logger = logging.getLogger("gateway")

_COPIES = "copies"
_KEPT = timedelta(days=1)  # then the operator has to empty the server
_PATIENCE = 20.0  # seconds that a server has to delete a copy: a caller may be waiting
_LONGEST_SWEEP = timedelta(seconds=60)


class Copies(msgspec.Struct, frozen=True):
    """The copies at all deployments. Methods may raise StorageUnavailable."""

    table: Table
    upstreams: Upstreams
    clock: Clock

    async def drop(self, video: Video) -> None:
        """Delete the server's copy of a video, now or by a later sweep. May be repeated."""
        if video.upstream_id is None or video.deployment is None:
            return
        try:
            await self._delete(video.id, video.deployment, video.upstream_id)
        except UpstreamError:
            await self.note(video)

    async def note(self, video: RunningJob) -> None:
        """Leave a job's copy to the sweep. May be repeated."""
        values = {"video": video.id, "deployment": video.deployment, "job": video.upstream_id, "since": self.clock.now()}
        try:
            await self.table.commit(_COPIES, Insert(reversed_id(video.id), values))
        except WriteConflict:
            return  # it is noted already

    async def drop_noted(self) -> None:
        """Try again to delete the noted copies, the oldest first. If a server cannot be reached, it
        is not asked for its other copies.
        """
        unreachable: set[str] = set()
        until = self.clock.now() + _LONGEST_SWEEP
        async for row in self.table.scan(_COPIES):
            if self.clock.now() > until:
                return  # the next sweep goes on
            if row.values["deployment"] not in unreachable and await self._is_over(row, unreachable):
                await self._forget(row)

    async def _is_over(self, row: Row, unreachable: set[str]) -> bool:
        """Whether a noted copy is deleted now, or given up."""
        noted = row.values
        try:
            await self._delete(noted["video"], noted["deployment"], noted["job"])
        except UpstreamError as error:
            if isinstance(error, Unreachable) and error.report.status is None:
                unreachable.add(noted["deployment"])
            if self.clock.now() - noted["since"].astimezone(UTC) < _KEPT:
                return False
            told = "video %s: its copy at %s could not be deleted, and stays there"
            logger.warning(told, noted["video"], noted["deployment"])
        return True

    async def _delete(self, video_id: str, deployment: str, job: str) -> None:
        """Delete a copy. Raises UpstreamError if it may still be there."""
        place = self.upstreams.catalog.deployment(deployment)
        if place is None:
            logger.warning("video %s: its copy stays at %s, which is no longer configured", video_id, deployment)
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.upstreams.at(place).delete(job)
        except Missing:
            return  # an earlier run has deleted it, or the server has forgotten it
        except TimeoutError as error:
            raise Unreachable("The upstream takes too long to delete the video.") from error
        except UpstreamError as error:
            log_failure(video_id, "delete", error)
            raise

    async def _forget(self, row: Row) -> None:
        try:
            await self.table.commit(_COPIES, Delete(row))
        except WriteConflict:
            return  # another sweep was faster
