"""The life of a video apart from its submission: start, check, save, finish, and delete.

Every step may run twice, and may be killed between any two lines: it reads the record first and goes on from what is true.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from random import Random
from typing import Any

from shared import pace
from shared.archive import Archive
from shared.budget import GatewayBudget
from shared.catalog import Catalog, Deployment
from shared.changes import Admitted, Entry
from shared.clock import Clock
from shared.config import GatewayKnobs
from shared.errors import MODERATION_CODES, Missing, RequestError, StorageUnavailable, UpstreamError
from shared.ledger import Ledger
from shared.mp4 import NotAVideo
from shared.once import Once
from shared.outcome import DONE, Outcome, again, failed
from shared.pool import Pool
from shared.schema import CreateRequest
from shared.upstream import Job, JobError, Upstream, log_failure
from shared.usual import UsualTimes
from shared.video import Video, new_id

logger = logging.getLogger("gateway")

_JUST_ACCEPTED = timedelta(seconds=60)  # a job may take a moment until every server of the upstream knows it
_LONGEST_CODE, _LONGEST_MESSAGE = 128, 2_000
_UNSUCCESSFUL = ("failed", "cancelled", "expired")
_ENDED = ("completed", *_UNSUCCESSFUL)


@dataclass(frozen=True)
class Lifecycle:
    """The steps, with everything they use. `upstream` gives the client of a deployment."""

    catalog: Catalog
    ledger: Ledger
    budget: GatewayBudget
    pool: Pool
    archive: Archive
    upstream: Callable[[Deployment], Upstream]
    usual: UsualTimes
    clock: Clock
    random: Random
    knobs: GatewayKnobs

    async def start(self, request: CreateRequest, owner: str, once: Once | None = None, token: str | None = None) -> Admitted:
        """Admit a request: note it as unfinished, then reserve its price and record it. Raises what admission raises.

        With `once`, a request that was admitted before gives the earlier video; `token` is what the caller was let in with.
        """
        # Before anything is noted or held: a repeated request is answered even where nothing more could be admitted.
        admitted = await self.ledger.earlier(owner, once) if once else None
        if admitted is not None:
            return admitted
        now = self.clock.now()
        source = request.source
        video = Video(
            id=new_id(owner, now),
            model=request.model.name,
            created_at=now,
            prompt=request.prompt,
            seconds=request.seconds,
            size=request.size,
            cost=request.price,
            user=request.user,
            metadata=request.metadata,
            reference=request.reference.media_type if request.reference else None,
            remixed_from=source.id if source else None,
            source_upstream_id=source.upstream_id if source else None,
            source_deployment=source.deployment if source else None,
        )
        if request.reference:
            await self.archive.keep_reference(video.id, owner, request.reference)
        await self.pool.enter(request.model, video.id)
        try:
            await self.budget.hold(video)
            admitted = await self.ledger.admit(video, once, token)
        except RequestError:
            await self._forget(video)
            raise
        if admitted.replayed:
            await self._forget(video)
            return admitted
        logger.info("video %s admitted: model=%s seconds=%d size=%s", video.id, video.model, video.seconds, video.size)
        return admitted

    async def _forget(self, video: Video) -> None:
        """Take back what was noted of a video that is not made, or not any more. May be repeated."""
        await self.budget.release(video.id, video.spent)
        await self.pool.leave(video.model, video.id)
        if video.reference:
            await self.archive.drop_reference(video)

    async def check(self, video_id: str) -> Outcome:
        """Look once at the running job."""
        entry = await self.ledger.find(video_id)
        if entry is None or (entry.video.finished and not entry.video.deleted):
            return DONE
        if entry.video.deleted:
            return await self._see_out(entry.video)
        video = entry.video
        if self._late(video):
            return failed("deadline_exceeded", "The upstream did not finish the video in time.")
        upstream = self.upstream_of(video)
        if upstream is None:
            return failed("deployment_missing", "The deployment that makes this video is no longer configured.")
        try:
            job = await upstream.get(video.upstream_id or "")
        except Missing as error:
            log_failure(video.id, "get", error)
            accepted_at = video.accepted_at or self.clock.now()
            if self.clock.now() < accepted_at + _JUST_ACCEPTED:
                return again(self.knobs.poll_seconds)
            return failed(error.code, error.message, error.report.request_id)
        except UpstreamError as error:
            log_failure(video.id, "get", error)
            return again(error.retry_after or self.knobs.poll_seconds)
        return await self._note_progress(entry, job)

    async def _see_out(self, video: Video) -> Outcome:
        """A job whose video was deleted runs on, since nobody can cancel it: its slot is taken until it ends."""
        upstream = self.upstream_of(video)
        if upstream is None or video.upstream_id is None or self._late(video):
            return DONE
        try:
            job = await upstream.get(video.upstream_id)
            if job.status not in _ENDED:
                return again(self.knobs.poll_seconds)
            await upstream.delete(video.upstream_id)
        except Missing:
            return DONE
        except UpstreamError as error:
            log_failure(video.id, "delete", error)
            return again(error.retry_after or self.knobs.poll_seconds)
        return DONE

    async def _note_progress(self, entry: Entry, job: Job) -> Outcome:
        """Keep status and progress, which only ever go forward. An unknown status counts as running, until the deadline."""
        video = entry.video
        if job.status in _UNSUCCESSFUL:
            return _failure_of(job)
        done = job.status == "completed"
        running = done or job.status != "queued" or video.status == "in_progress"
        # The last percent is ours: the video is complete when its bytes are stored.
        progress = 99 if done else max(video.progress, min(int(job.progress or 0), 99))
        status = "in_progress" if running else "queued"
        if (status, progress) != (video.status, video.progress):
            await self.ledger.change(entry, status=status, progress=progress)
        now, accepted_at = self.clock.now(), (video.accepted_at or video.created_at).astimezone(UTC)
        elapsed = (now - accepted_at).total_seconds()
        if done:
            await self.usual.learn(video.model, video.seconds, _took(job, elapsed, seen_running=video.status != "queued"))
            return DONE
        usual = await self.usual.of(video.model, video.seconds)
        return again(pace.look_after(elapsed, progress, usual, self.knobs.poll_seconds, self.random))

    async def save(self, video_id: str) -> Outcome:
        """Bring the bytes into our storage, whole or not at all."""
        entry = await self.ledger.find(video_id)
        if entry is None or entry.video.finished or entry.video.bytes is not None:
            return DONE
        video = entry.video
        upstream = self.upstream_of(video)
        if upstream is None:
            return failed("deployment_missing", "The deployment that made this video is no longer configured.")
        length = await self.archive.length(video)  # an earlier run may have been killed right after its commit
        if length is None:
            try:
                async with upstream.content(video.upstream_id or "") as content:
                    length = await self.archive.save(video, content)
            except (UpstreamError, StorageUnavailable) as error:
                log_failure(video.id, "content", error)
                if not self._late(video):
                    return again(self.knobs.poll_seconds)
                code = error.code if isinstance(error, NotAVideo) else "content_unavailable"
                return failed(code, f"The finished video could not be fetched: {error.message}")
        await self.ledger.change(entry, bytes=length)
        return DONE

    async def finish(self, video_id: str, failure: Mapping[str, str | None] | None) -> None:
        """Settle, free the slot, forget what was only needed on the way."""
        now = self.clock.now()
        if failure is None:
            days = self.knobs.retention_days
            expires_at = None if days is None else now + timedelta(days=days)
            outcome: dict[str, Any] = {"status": "completed", "progress": 100, "expires_at": expires_at}
        else:
            outcome = {"status": "failed", "error_code": failure["code"], "error_message": failure["message"]}
            if failure.get("request_id"):
                outcome["upstream_request_id"] = failure["request_id"]
        video = await self.ledger.settle(video_id, finished_at=now, **outcome)
        if video is None:
            return
        if video.deleted:
            await self.archive.drop(video)  # it may have been deleted while it was being saved
        await self._forget(video)
        logger.info("video %s %s: code=%s spent=%d", video.id, video.status, video.error_code, video.spent)

    async def delete(self, video_id: str) -> None:
        """Make an end of a video. May be repeated.

        A waiting one is cancelled at no cost, a running one abandoned at no cost, a finished one loses its bytes.
        """
        video = await self.ledger.settle(
            video_id,
            finished_at=self.clock.now(),
            status="failed",
            error_code="cancelled",
            error_message="The video was deleted before it was finished.",
            deleted=True,
        )
        if video is None:
            return
        if not video.deleted:
            # The mark comes last: whoever is told that there is no such video cannot ask for the rest of it to go.
            await self.archive.drop(video)
            await self._delete_upstream(video)
            await self.ledger.update(video_id, deleted=True)
        elif video.attempted_at is None:
            await self._forget(video)
        logger.info("video %s deleted", video_id)

    async def _delete_upstream(self, video: Video) -> None:
        """The upstream's copy goes too where it can; it goes by itself after a day."""
        upstream = self.upstream_of(video)
        if upstream is None or video.upstream_id is None:
            return
        try:
            await upstream.delete(video.upstream_id)
        except UpstreamError as error:
            log_failure(video.id, "delete", error)

    def _late(self, video: Video) -> bool:
        return self.clock.now() > (video.accepted_at or video.created_at) + timedelta(seconds=self.knobs.deadline_seconds)

    def upstream_of(self, video: Video) -> Upstream | None:
        """The client of the deployment that has the video's job: it follows from the record, never from the request."""
        model = self.catalog.get(video.model)
        deployment = model.deployment(video.deployment or "") if model else None
        return None if deployment is None else self.upstream(deployment)


def _took(job: Job, elapsed: float, *, seen_running: bool) -> float:
    """How long the job ran, in seconds; else as long as is known, or half of that at the first look."""
    if job.created_at is not None and job.completed_at is not None:
        return max(job.completed_at - job.created_at, 0.0)
    return elapsed if seen_running else elapsed / 2


def _failure_of(job: Job) -> Outcome:
    """The upstream's reason in our words, at a bounded length; moderation has one code, however it is called."""
    error = job.error if isinstance(job.error, JobError) else JobError(message=job.error)
    code = (error.code or "generation_failed")[:_LONGEST_CODE]
    message = (error.message or f"The upstream ended the video as {job.status}.")[:_LONGEST_MESSAGE]
    return failed("moderation_blocked" if code in MODERATION_CODES else code, message)
