"""Follows an accepted job: looks at it until it ends, then brings its bytes into our storage.

Every step may run twice, and may be killed between any two lines: it reads the record first and
continues from there.
"""

import asyncio
import json
import logging
from datetime import timedelta
from random import Random
from typing import Any

import msgspec

from shared.accounts.account_changes import CANCELLED_MESSAGE
from shared.capacity import poll_schedule
from shared.capacity.poll_schedule import Pace
from shared.capacity.pool import Pool
from shared.capacity.render_times import RenderTimes
from shared.clock import Clock
from shared.config.file import GatewayKnobs
from shared.errors import (
    GatewayError,
    Missing,
    NotAVideo,
    Retired,
    StorageUnavailable,
    Unreachable,
    UpstreamError,
    UpstreamReport,
)
from shared.events.journal import Journal
from shared.media.video import RunningJob, Video
from shared.storage.blobs import Archive
from shared.storage.event_marks import mark
from shared.storage.tables import WriteConflict
from shared.storage.video_store import Sighting, VideoRow, VideoStore
from shared.upstream.answers import is_moderation
from shared.upstream.client import Upstream, log_failure
from shared.upstream.jobs import Job
from shared.upstream.upstreams import Upstreams
from shared.videos.copies import Copies
from shared.videos.step_result import DONE, RESUBMIT, Seen, StepResult, again, failed

logger = logging.getLogger("gateway")

_BELIEVED_AFTER = timedelta(seconds=60)  # a new job may be unknown to some of the upstream's servers for a moment
_TO_SAVE = timedelta(seconds=300)  # the least time to fetch a video that was completed near its deadline
_TO_DELETE = 60.0  # seconds to try to delete a job upstream; its price stays reserved meanwhile
_DELETE_AGAIN = 30.0  # seconds between the tries
_LONGEST_FETCH = 480.0  # seconds: before the host ends the function, which it does after ten minutes
_LONGEST_CODE, _LONGEST_MESSAGE = 128, 2_000
_CLOSE_LOOKS = 12  # in a row after the first; then the step returns to the engine
_SHOWN = 10  # percent: the steps in which progress is stored


# The record of a video before its first create.
_UNASKED: dict[str, Any] = {
    "status": "queued",
    "progress": 0,
    "progress_estimated": False,
    **dict.fromkeys(
        ("deployment", "attempted_at", "upstream_id", "accepted_at", "made_at", "started_at", "rendered_at", "gone_since")
    ),
}


class Rendering(msgspec.Struct, frozen=True):
    """The steps between acceptance and the end."""

    videos: VideoStore
    pool: Pool
    archive: Archive
    upstreams: Upstreams
    copies: Copies
    render_times: RenderTimes
    clock: Clock
    random: Random
    knobs: GatewayKnobs
    journal: Journal

    async def check(self, video_id: str, seen: Seen | None = None) -> StepResult:
        """Look at the running job, and store what it reports: `again` while it runs. Once it is
        completed, save its bytes: a separate step would start a second later.

        `seen` is what the last look returned. With it, the record is read only once the job has
        ended. If another run has changed the record since, storing progress raises WriteConflict.
        """
        sighting = Sighting.read(seen)
        found = await self._glance(sighting.job) if sighting else None
        if sighting and isinstance(found, Job) and not found.ended:
            return await self._note_progress(sighting, found)
        entry = await self.videos.find(video_id)
        if entry is None or entry.video.finished or entry.video.rendered_at is not None:
            return await self._save(entry)
        video = entry.video
        if video.upstream_id is None:  # an earlier run noted that the job is lost, and was killed then
            return RESUBMIT
        upstream = self.upstreams.of(video)
        if upstream is None:
            return failed("deployment_missing", "The deployment that makes this video is no longer configured.")
        if video.deleted and await self._stopped(upstream, video):
            return failed("cancelled", CANCELLED_MESSAGE)
        if found is None:
            early = await self._until_first_look(upstream, video)
            if early > 0:
                return again(early, seen=Sighting.of(entry).told)
            found = await self._look(upstream, video)
        return await self._go_on(entry, found)

    async def _until_first_look(self, upstream: Upstream, video: Video) -> float:
        """Seconds in which a job that was accepted just now cannot be done. 0 if progress is our
        estimate, since that begins with the first look.
        """
        if video.started_at is not None or not upstream.deployment.dialect.tells_progress:
            return 0.0
        return poll_schedule.first_look(self._elapsed(video), await self.render_times.of(video.model, video.seconds))

    async def _glance(self, job: RunningJob) -> Job | UpstreamError | None:
        """Look at a job without reading its record. None if the server can stop jobs: then the
        record must be read, so that a deletion is seen at once.
        """
        upstream = self.upstreams.of(job)
        return None if upstream is None or upstream.deployment.dialect.stops else await self._look(upstream, job)

    async def _look(self, upstream: Upstream, video: RunningJob) -> Job | UpstreamError:
        """Look at the job. If it is about to end, look several times in a row, because the next
        step would come seconds later; but not if it has not moved since the last step, since it may
        be stuck.
        """
        usual = await self.render_times.of(video.model, video.seconds)
        for left in reversed(range(1 + _CLOSE_LOOKS)):
            try:
                job = await upstream.get(video.upstream_id or "")
            except UpstreamError as error:
                log_failure(video.id, "get", error)
                return error
            progress = _percent(job)
            moving = progress > video.progress and not job.ended
            if not (left and moving and poll_schedule.is_about_to_end(self._elapsed(video), progress, usual)):
                break
            await self.clock.sleep(self._pace.closest)
        return job

    async def _go_on(self, entry: VideoRow, found: Job | UpstreamError) -> StepResult:
        """Act on what a look has found."""
        video = entry.video
        if isinstance(found, UpstreamError):
            return await self._try_again(entry, found, self._reason_of(video, found), self._elapsed(video) / 20)
        if found.failed:
            return _failure_of(found)
        if found.completed:
            return await self._end(entry, found)
        if video.gone_since is not None:
            entry = await self.videos.change(entry, gone_since=None)
        return await self._note_progress(Sighting.of(entry), found)

    async def _note_progress(self, seen: Sighting, job: Job) -> StepResult:
        """Store status and progress, which never go back. An unknown status counts as running,
        until the deadline.
        """
        upstream = self.upstreams.of(seen.job)
        before, changes = seen.job, await self._changes(seen.job, job)
        latest = seen.with_job(**changes)
        if _is_worth_storing(before, latest.job):
            begun = [mark(before.id, "running")] if _is_told_to_run(before, latest.job) else []
            latest = await self.videos.change_job(seen, *begun, **changes)
            if begun:
                await self._tell(before.id)
        if self._patience(latest.job) <= 0:
            return await self._give_up(upstream, latest.job)
        progress = max(0 if latest.job.progress_estimated else before.progress, _percent(job))
        return await self._look_again(latest, progress, moving=progress > before.progress)

    async def _tell(self, video_id: str) -> None:
        """Tell webhooks that the job runs. If storage fails now, they are told with the end."""
        entry = await self.videos.find(video_id)
        if entry is not None:
            await self.journal.tell(entry.video)

    async def _changes(self, video: RunningJob, job: Job) -> dict[str, Any]:
        """What a running job changes in the record. If the server tells no progress, it is an
        estimate from the usual time.
        """
        deployment = self.upstreams.catalog.deployment(video.deployment)
        running = job.status != "queued" or video.status == "in_progress"
        started_at = video.started_at or (self.clock.now() if running else None)
        estimated = running and deployment is not None and not deployment.dialect.tells_progress
        progress = _percent(job)
        if estimated and started_at is not None:
            usual = await self.render_times.of(video.model, video.seconds)
            progress = poll_schedule.usual_progress((self.clock.now() - started_at).total_seconds(), usual)
        return {
            "status": "in_progress" if running else "queued",
            "progress": max(video.progress, progress),
            "progress_estimated": estimated,
            "started_at": started_at,
        }

    async def _end(self, entry: VideoRow, job: Job) -> StepResult:
        """The job is completed: free its slot, and save its bytes."""
        video = entry.video
        # Before the record: once the record has the end, no later run comes here to free the slot.
        await self.pool.ended(video)
        took = _took(job, self._elapsed(video), seen_running=video.status != "queued")
        await self.render_times.learn(video.model, video.seconds, took)
        rendered = {
            "status": "in_progress",
            "progress": 99,  # until its bytes are stored
            "progress_estimated": False,
            "rendered_at": self.clock.now(),
            "gone_since": None,
            "upstream": json.dumps(job.told) if job.told else None,
            "charge": self._charge(video, job),
        }
        return await self._save(await self.videos.change(entry, **rendered))

    def _charge(self, video: Video, job: Job) -> int | None:
        """The price of the job in millionths of a dollar, at most what was reserved. None for the
        whole reservation.
        """
        model = self.upstreams.catalog.get(video.model)
        if model is None:
            return None
        measured = self.clock.now() - (video.started_at or video.accepted_at or self.clock.now())
        gpu_seconds = job.told.get("inference_time_s", measured.total_seconds())
        return model.capability.settled(video.cost, video.seconds, job.made_seconds, gpu_seconds)

    async def _stopped(self, upstream: Upstream, video: RunningJob) -> bool | None:
        """Stop the job: False if the server cannot or the job has ended, None if the call fails."""
        try:
            return await upstream.stop(video.upstream_id or "")
        except UpstreamError as error:
            log_failure(video.id, "stop", error)
            return None

    async def _give_up(self, upstream: Upstream | None, video: RunningJob) -> StepResult:
        """The deadline is over: stop the job if the server can, so that it makes room. If that
        fails, the sweep tries again.
        """
        if upstream is not None and await self._stopped(upstream, video) is None:
            await self.copies.note(video)
        return _too_late(video)

    def _reason_of(self, video: Video, error: UpstreamError) -> StepResult:
        """Why the video fails, if its job cannot be looked at any more. If a deleted video's job is
        gone, an earlier run has stopped it and was killed before it returned.
        """
        if isinstance(error, Missing) and video.deleted:
            return failed("cancelled", CANCELLED_MESSAGE)
        if isinstance(error, Missing) and self._left(video) <= 0:
            return _too_late(video)
        return failed(error.code, error.message, error.report.request_id)

    async def _look_again(self, seen: Sighting, progress: int, *, moving: bool) -> StepResult:
        """When to look at a running job again: rarely while it cannot be done, often when it may
        be.
        """
        video = seen.job
        usual = await self.render_times.of(video.model, video.seconds)
        wait = poll_schedule.look_after(self._elapsed(video), progress, usual, self._pace, self.random, moving=moving)
        return again(wait, self._patience(video), seen.told)

    async def save(self, video_id: str) -> StepResult:
        """Bring the bytes into our storage, completely or not at all. A deleted video's job is
        deleted upstream instead.
        """
        return await self._save(await self.videos.find(video_id))

    async def _save(self, entry: VideoRow | None) -> StepResult:
        """`save` with the record as it was just read or written."""
        if entry is None:
            return DONE
        video = entry.video
        if video.finished:
            return await self._drop_unwanted(video)
        if video.deleted:
            return await self._delete_job(entry)
        if video.bytes is not None:
            return DONE
        upstream = self.upstreams.of(video)
        if upstream is None:
            return failed("deployment_missing", "The deployment that made this video is no longer configured.")
        length = await self.archive.length(video)  # an earlier run may have been killed right after its commit
        if length is None:
            try:
                length = await self._fetch(upstream, video)
            except (UpstreamError, StorageUnavailable) as error:
                log_failure(video.id, "content", error)
                code = error.code if isinstance(error, NotAVideo) else "content_unavailable"
                request_id = error.report.request_id if isinstance(error, UpstreamError) else None
                reason = failed(code, f"The finished video could not be fetched: {error.message}", request_id)
                tried = (self.clock.now() - (video.rendered_at or self.clock.now())).total_seconds()
                return await self._try_again(entry, error, reason, tried / 4)  # each try may be a whole download
        return await self._note_stored(entry, length)

    async def _note_stored(self, entry: VideoRow, length: int) -> StepResult:
        """Record that the bytes are stored, `length` of them. Raises WriteConflict if the video has
        changed meanwhile and is not finished.
        """
        try:
            await self.videos.change(entry, bytes=length, saved_at=self.clock.now())
        except WriteConflict:
            latest = await self.videos.find(entry.video.id)
            if latest is None or not latest.video.finished:
                raise
            return await self._drop_unwanted(latest.video)
        return DONE

    async def _drop_unwanted(self, video: Video) -> StepResult:
        """Drop the bytes that this step may have stored, if another run has failed the video
        meanwhile (the sweep fails videos that outlive every deadline) or it is deleted.
        """
        if video.status == "failed" or video.deleted:
            await self.archive.drop(video)
        return DONE

    async def _delete_job(self, entry: VideoRow) -> StepResult:
        """The caller has deleted the video and its job is completed: delete the job upstream."""
        upstream, job_id = self.upstreams.of(entry.video), entry.video.upstream_id
        if upstream is None or job_id is None:
            return DONE
        try:
            await upstream.delete(job_id)
        except UpstreamError as error:
            log_failure(entry.video.id, "delete", error)
            tried = (self.clock.now() - (entry.video.rendered_at or self.clock.now())).total_seconds()
            left = _TO_DELETE - tried
            return again(max(error.retry_after or 0.0, _DELETE_AGAIN), left) if left > 0 else DONE
        return DONE

    async def _fetch(self, upstream: Upstream, video: Video) -> int:
        """Fetch the bytes into our storage; returns how many."""
        try:
            async with asyncio.timeout(_LONGEST_FETCH), upstream.content(video.upstream_id or "") as content:
                try:
                    return await self.archive.save(video, content)
                except NotAVideo as error:
                    raise NotAVideo(error.message, report=UpstreamReport(request_id=content.request_id)) from error
        except TimeoutError as error:
            raise Unreachable("The upstream sends the video too slowly.") from error

    async def _try_again(self, entry: VideoRow, error: GatewayError, reason: StepResult, wait: float) -> StepResult:
        """After a failed call about a job: try again in about `wait` seconds, until the deadline.

        The job is paid for, so most failures count as temporary. Only if the upstream says for a
        minute that the job is gone, it is taken for gone.
        """
        video, now = entry.video, self.clock.now()
        gone_since = (video.gone_since or now) if isinstance(error, Missing | Retired) else None
        believed = gone_since is not None and now - gone_since >= _BELIEVED_AFTER
        if believed and isinstance(error, Missing) and self._is_remade(video):
            return await self._remake(entry)
        if believed or self._left(video) <= 0:
            return reason
        if gone_since != video.gone_since:
            await self.videos.change(entry, gone_since=gone_since)
        return again(max(wait, error.retry_after or 0.0, self.knobs.poll_seconds), self._left(video))

    @property
    def _pace(self) -> Pace:
        return Pace(self.knobs.poll_seconds, min(self.knobs.close_poll_seconds, self.knobs.poll_seconds))

    def _is_remade(self, video: Video) -> bool:
        """Whether a lost job is made again: once, for a caller who still wants it."""
        deployment = self.upstreams.catalog.deployment(video.deployment)
        return deployment is not None and deployment.remakes_lost_jobs and not (video.deleted or video.lost_jobs)

    async def _remake(self, entry: VideoRow) -> StepResult:
        """The server has lost the job, as it does when it restarts: put the video back at the head
        of the queue.

        The record is changed first: if this run is killed before the slot is returned, the video
        still holds it, and asks again with it.
        """
        video, catalog = entry.video, self.upstreams.catalog
        model, deployment = catalog.get(video.model), catalog.deployment(video.deployment)
        logger.warning("video %s: the server has lost its job %s; making it again", video.id, video.upstream_id)
        await self.videos.change(entry, **_UNASKED, lost_jobs=video.lost_jobs + 1)
        if model is not None and deployment is not None:
            await self.pool.return_slot(model, video, deployment, 0.0)
        return RESUBMIT

    def _elapsed(self, video: RunningJob) -> float:
        """Seconds since the upstream made the job."""
        return (self.clock.now() - (video.made_at or video.accepted_at or video.created_at)).total_seconds()

    def _patience(self, video: RunningJob) -> float:
        """Seconds that are left for the job, since it is known, to start, or, once it runs, to
        end.
        """
        if video.started_at is not None:
            return self.knobs.deadline_seconds - (self.clock.now() - video.started_at).total_seconds()
        deployment = self.upstreams.catalog.deployment(video.deployment)
        queue = deployment.upstream_queue_seconds if deployment else None
        known = self.clock.now() - (video.accepted_at or video.created_at)
        return (queue or self.knobs.deadline_seconds) - known.total_seconds()

    def _left(self, video: Video) -> float:
        """Seconds until the video's deadline."""
        left = self._patience(video)
        if video.rendered_at is None:
            return left
        return max(left, (video.rendered_at + _TO_SAVE - self.clock.now()).total_seconds())


def _took(job: Job, elapsed: float, *, seen_running: bool) -> float:
    """How long the job ran, in seconds, by the upstream's times; without them the elapsed time, or
    half of it if it was never seen running.
    """
    if job.created_at is not None and job.completed_at is not None:
        return max(job.completed_at - job.created_at, 0.0)
    return elapsed if seen_running else elapsed / 2


def _is_worth_storing(before: RunningJob, now: RunningJob) -> bool:
    """Whether callers should see the difference: progress is shown in steps of 10 %."""
    seen_as = {"progress": now.progress} if now.progress // _SHOWN == before.progress // _SHOWN else {}
    return msgspec.structs.replace(before, **seen_as) != now


def _is_told_to_run(before: RunningJob, now: RunningJob) -> bool:
    """Whether webhooks are told that the job runs: once, and not of a job that replaces a lost
    one.
    """
    return before.hooked and before.lost_jobs == 0 and before.started_at is None and now.started_at is not None


def _too_late(video: RunningJob) -> StepResult:
    did = "start" if video.started_at is None else "finish"
    return failed("deadline_exceeded", f"The upstream did not {did} the video in time.")


def _percent(job: Job) -> int:
    """A running job's progress: 100 % is for a video whose bytes are stored."""
    return min(int(job.progress or 0), 99)


def _failure_of(job: Job) -> StepResult:
    """The upstream's reason as a failed step, of bounded length. All its moderation codes become
    `moderation_blocked`.
    """
    code = (job.reason.code or "generation_failed")[:_LONGEST_CODE]
    message = (job.reason.message or f"The upstream ended the video as {job.status}.")[:_LONGEST_MESSAGE]
    return failed("moderation_blocked" if is_moderation(code, message) else code, message)
