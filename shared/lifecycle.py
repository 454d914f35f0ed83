"""The life of a video: start, submit, check, save, finish.

Every step may run twice, and may be killed between any two lines: it reads the record first and goes on from what is true.
A step answers with plain JSON, which the orchestration keeps: `again(seconds)`, `DONE`, or `failed(code, message)`.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.archive import Archive
from shared.budget import GatewayBudget
from shared.catalog import Catalog, Deployment, Model
from shared.clock import Clock
from shared.errors import (
    Busy,
    Denied,
    GatewayError,
    Misrouted,
    Missing,
    Refused,
    RequestError,
    Retired,
    StorageUnavailable,
    Uncertain,
    Unreachable,
    UpstreamError,
)
from shared.ledger import Admitted, Entry, Ledger
from shared.mp4 import NotAVideo
from shared.once import Once
from shared.pool import Pool, Wait
from shared.schema import CreateRequest
from shared.settings import GatewayKnobs
from shared.upstream import Accepted, Job, Upstream
from shared.video import Video, new_id

Outcome = dict[str, Any]

DONE: Outcome = {"done": True}

logger = logging.getLogger("gateway")

# An answer to a create is awaited for this part of `reconcile_seconds`, so that no create is still under way when the
# search for its job gives up.
_CREATE_SHARE = 0.75
_CLOCK_SKEW = timedelta(seconds=15)  # between us and the upstream; its times are whole seconds
_JUST_ACCEPTED = timedelta(seconds=60)  # a job may take a moment until every server of the upstream knows it
_UNSUCCESSFUL = ("failed", "cancelled", "expired")
_ENDED = ("completed", *_UNSUCCESSFUL)
_MODERATION_CODES = ("moderation_blocked", "content_filter", "content_policy_violation")


def again(seconds: float) -> Outcome:
    """Not yet: run the same step again after so many seconds."""
    return {"again": seconds}


def failed(code: str, message: str) -> Outcome:
    """The video cannot be made."""
    return {"failed": {"code": code, "message": message}}


@dataclass(frozen=True)
class Lifecycle:
    """The steps, with everything they use. `upstream` gives the client of a deployment."""

    catalog: Catalog
    ledger: Ledger
    budget: GatewayBudget
    pool: Pool
    archive: Archive
    upstream: Callable[[Deployment], Upstream]
    clock: Clock
    knobs: GatewayKnobs

    async def start(self, request: CreateRequest, owner: str, once: Once | None = None) -> Admitted:
        """Admit a request: note it as unfinished, then reserve its price and record it. Raises what admission raises.

        With `once`, a request that was admitted before gives the earlier video.
        """
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
            admitted = await self.ledger.admit(video, once)
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

    async def submit(self, video_id: str) -> Outcome:
        """Get the video accepted upstream, once: wait for a slot, note the attempt, ask."""
        entry = await self.ledger.find(video_id)
        if entry is None or entry.video.finished or entry.video.upstream_id:
            return DONE
        video, model = entry.video, self.catalog.get(entry.video.model)
        if model is None or (video.source_deployment and model.deployment(video.source_deployment) is None):
            return failed("model_not_found", f"The model '{video.model}' is no longer configured.")
        if video.attempted_at is not None:
            return await self._reconcile(entry, model)
        if self.clock.now() > video.created_at + timedelta(seconds=self.knobs.queue_seconds):
            return failed("queue_timeout", "The video waited too long for capacity upstream.")
        turn = await self.pool.acquire(model, video.id, only=video.source_deployment)
        if isinstance(turn, Wait):
            return again(turn.seconds)
        # Written before the upstream is asked: whoever finds this note without an id knows that the outcome is unclear. It is
        # conditional, so that of two submits at once only one goes on to ask.
        entry = await self.ledger.change(entry, deployment=turn.deployment.name, attempted_at=self.clock.now())
        return await self._ask(entry, model, turn.deployment)

    async def _ask(self, entry: Entry, model: Model, deployment: Deployment) -> Outcome:
        video = entry.video
        try:
            accepted = await self._create(video, deployment)
        except Uncertain as error:
            _log_upstream(video, "create", error)
            return again(self.knobs.poll_seconds)  # the note stands: the next run looks for the job
        except Busy as error:
            _log_upstream(video, "create", error)
            await self.pool.rest(model, video.id, deployment, error.retry_after or self.knobs.poll_seconds)
            await self.ledger.change(entry, deployment=None, attempted_at=None)
            return again(error.retry_after or self.knobs.poll_seconds)
        except (Unreachable, StorageUnavailable) as error:
            logger.warning("video %s: create did not reach the upstream: %s", video.id, error.message)
            await self.ledger.change(entry, deployment=None, attempted_at=None)
            return again(self.knobs.poll_seconds)
        except (Refused, Retired, Denied, Misrouted) as error:
            _log_upstream(video, "create", error)
            return failed(error.code, error.message)
        return await self._accept(entry, deployment, accepted)

    async def _create(self, video: Video, deployment: Deployment) -> Accepted:
        reference = await self.archive.reference(video) if video.reference else None
        try:
            async with asyncio.timeout(self.knobs.reconcile_seconds * _CREATE_SHARE):
                if video.source_upstream_id:
                    return await self.upstream(deployment).remix(video.source_upstream_id, video.prompt)
                return await self.upstream(deployment).create(video.prompt, video.seconds, video.size, reference)
        except TimeoutError as error:
            raise Uncertain("The upstream did not answer the create in time.") from error

    async def _accept(self, entry: Entry, deployment: Deployment, accepted: Accepted) -> Outcome:
        """Bind the job to the video. Where another video has adopted it meanwhile, go on looking for ours."""
        if not await self.pool.claim(deployment, accepted.job, entry.video.id):
            return again(self.knobs.poll_seconds)
        await self.ledger.change(
            entry,
            upstream_id=accepted.job.id,
            accepted_at=self.clock.now(),
            upstream_request_id=accepted.request_id,
        )
        logger.info("video %s accepted by %s as %s", entry.video.id, entry.video.deployment, accepted.job.id)
        return DONE

    async def _reconcile(self, entry: Entry, model: Model) -> Outcome:
        """A create was under way and its answer is unknown: the upstream's own list decides."""
        video = entry.video
        attempted_at = (video.attempted_at or self.clock.now()).astimezone(UTC)
        deployment = model.deployment(video.deployment or "")
        if deployment is not None:
            try:
                jobs = await self.upstream(deployment).recent()
            except UpstreamError as error:
                _log_upstream(video, "list", error)
                return again(self.knobs.poll_seconds) if not self._given_up(video) else self._unclear()
            for job in sorted(jobs, key=lambda each: each.created_at or 0):
                if _fits(job, video, attempted_at) and await self.pool.claim(deployment, job, video.id):
                    logger.info("video %s: adopting job %s after an unclear create", video.id, job.id)
                    return await self._accept(entry, deployment, Accepted(job, None))
        if self.clock.now() < attempted_at + timedelta(seconds=self.knobs.reconcile_seconds):
            return again(self.knobs.poll_seconds)
        logger.info("video %s: no job was made by the unclear create; asking again", video.id)
        await self.ledger.change(entry, deployment=None, attempted_at=None)
        return again(0)

    def _given_up(self, video: Video) -> bool:
        return self.clock.now() > video.created_at + timedelta(seconds=self.knobs.queue_seconds)

    @staticmethod
    def _unclear() -> Outcome:
        return failed("upstream_uncertain", "The upstream may have accepted the video, and cannot be asked.")

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
            _log_upstream(video, "get", error)
            accepted_at = video.accepted_at or self.clock.now()
            if self.clock.now() < accepted_at + _JUST_ACCEPTED:
                return again(self.knobs.poll_seconds)
            return failed(error.code, error.message)
        except UpstreamError as error:
            _log_upstream(video, "get", error)
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
            _log_upstream(video, "delete", error)
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
        return DONE if done else again(self.knobs.poll_seconds)

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
                logger.warning("video %s: save did not succeed: %s", video.id, error.message)
                if not self._late(video):
                    return again(self.knobs.poll_seconds)
                code = error.code if isinstance(error, NotAVideo) else "content_unavailable"
                return failed(code, f"The finished video could not be fetched: {error.message}")
        await self.ledger.change(entry, bytes=length)
        return DONE

    async def finish(self, video_id: str, failure: Mapping[str, str] | None) -> None:
        """Settle, free the slot, forget what was only needed on the way."""
        now = self.clock.now()
        if failure is None:
            days = self.knobs.retention_days
            expires_at = None if days is None else now + timedelta(days=days)
            outcome: dict[str, Any] = {"status": "completed", "progress": 100, "expires_at": expires_at}
        else:
            outcome = {"status": "failed", "error_code": failure["code"], "error_message": failure["message"]}
        video = await self.ledger.settle(video_id, finished_at=now, **outcome)
        if video is None:
            return
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
            await self.ledger.update(video_id, deleted=True)
            await self.archive.drop(video)
            await self._delete_upstream(video)
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
            _log_upstream(video, "delete", error)

    def _late(self, video: Video) -> bool:
        return self.clock.now() > (video.accepted_at or video.created_at) + timedelta(seconds=self.knobs.deadline_seconds)

    def upstream_of(self, video: Video) -> Upstream | None:
        """The client of the deployment that has the video's job: it follows from the record, never from the request."""
        model = self.catalog.get(video.model)
        deployment = model.deployment(video.deployment or "") if model else None
        return None if deployment is None else self.upstream(deployment)


def _fits(job: Job, video: Video, attempted_at: datetime) -> bool:
    """Could this job be the one that the attempt made?"""
    if job.created_at is None or str(job.seconds) != str(video.seconds) or job.size != video.size:
        return False
    if job.remixed_from_video_id != video.source_upstream_id:
        return False
    created_at = datetime.fromtimestamp(job.created_at, UTC)
    return job.prompt == video.prompt and created_at >= attempted_at - _CLOCK_SKEW


def _failure_of(job: Job) -> Outcome:
    """The upstream's reason in our words; moderation has one code, however it is called."""
    code = (job.error.code if job.error else None) or "generation_failed"
    message = (job.error.message if job.error else None) or f"The upstream ended the video as {job.status}."
    return failed("moderation_blocked" if code in _MODERATION_CODES else code, message)


def _log_upstream(video: Video, operation: str, error: GatewayError) -> None:
    """One line that an operator can take to the vendor. The upstream's message may quote the prompt, so it stays out."""
    report = error.report if isinstance(error, UpstreamError) else None
    status, request_id = (report.status, report.request_id) if report else (None, None)
    logger.warning("video %s: %s: %s status=%s apim-request-id=%s", video.id, operation, error.code, status, request_id)
