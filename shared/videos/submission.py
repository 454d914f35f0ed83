"""Getting a video accepted upstream exactly once: wait for a slot, note the attempt, ask; and where
the answer is lost, look.

May run twice, and may be killed between any two lines: it reads the record first and goes on from
what is true. An attempt that is noted without a job is one whose outcome is unclear, and the
upstream's own list decides it.
"""

import asyncio
import logging
from collections.abc import Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.accounts.gateway_budget import GatewayBudget
from shared.accounts.ledger import Ledger
from shared.capacity.job_claims import JobClaims
from shared.capacity.pool import Pool, Wait
from shared.capacity.slots import Outage
from shared.clock import Clock
from shared.config.catalog import Catalog, Deployment, Model
from shared.config.file import GatewayKnobs
from shared.errors import (
    Busy,
    Denied,
    Misrouted,
    Missing,
    RequestError,
    Retired,
    Uncertain,
    Unreachable,
    UpstreamError,
)
from shared.media.reference_image import Reference
from shared.media.video import Video
from shared.storage.blobs import Archive
from shared.storage.video_store import VideoRow, VideoStore
from shared.upstream.client import Accepted, Job, log_failure
from shared.upstream.upstreams import Upstreams
from shared.videos.step_result import DONE, StepResult, again, failed

logger = logging.getLogger("gateway")

# An answer to a create is awaited for this part of `reconcile_seconds`; through the rest of it the
# job is looked for, since an upstream may accept a create that nobody waits for any more. (The
# service's own front door gives up after 60 s.)
_CREATE_SHARE = 0.5
_CLOCK_SKEW = timedelta(seconds=15)  # between us and the upstream; its times are whole seconds
_MOST_UNCLEAR = 2  # creates whose answer was lost and whose job was not found: one new attempt
_MOST_LOST_UPLOADS = 3  # the upstream may lose a reference image now and then, but not for ever
_LONGEST_REST = 3600.0  # seconds, of a deployment, whatever it asks for: one strange answer must not cost a day

# How long a deployment is down (seconds) when it refuses everybody: a model that is gone stays
# gone; a role, a route, or a deployment that does not exist yet may be mended any minute.
_GONE, _MENDABLE = 6 * 3600.0, 60.0


@dataclass(frozen=True)
class Submission:
    catalog: Catalog
    videos: VideoStore
    ledger: Ledger
    budget: GatewayBudget
    pool: Pool
    claims: JobClaims
    archive: Archive
    upstreams: Upstreams
    clock: Clock
    knobs: GatewayKnobs

    async def submit(self, video_id: str) -> StepResult:
        """One try at getting the video accepted."""
        entry = await self.videos.find(video_id)
        if entry is None or entry.video.upstream_id:
            return DONE
        video = entry.video
        unclear = video.attempted_at is not None
        if video.finished and not (video.deleted and unclear):
            return DONE
        model = self.catalog.get(video.model)
        if model is None:
            return failed("model_not_found", f"The model '{video.model}' is no longer configured.")
        if unclear:
            return await self._reconcile(entry, model)
        if video.source_deployment and model.deployment(video.source_deployment) is None:
            return failed("deployment_missing", "The deployment that has the video to be remixed is no longer configured.")
        if self.clock.now() >= self._gives_up(video):
            return failed("queue_timeout", "The video waited too long for capacity upstream.")
        turn = await self.pool.acquire(model, video, video.priority)
        if isinstance(turn, Outage):
            message = _OUTAGE_MESSAGES.get(turn.reason, "No deployment of the model can be used.")
            return await self._fall_back(entry, model, patient=True) or failed(turn.reason, message, turn.request_id)
        if isinstance(turn, Wait):
            other = await self._fall_back(entry, model, patient=False) if turn.outage else None
            return other or await self._wait(entry, turn)
        return await self._attempt(entry, model, turn.deployment)

    async def _wait(self, entry: VideoRow, turn: Wait) -> StepResult:
        """Keep the place for those who ask; it only ever gets better."""
        video = entry.video
        position = min(turn.position, video.queue_position or turn.position)
        outcome = again(turn.seconds, (self._gives_up(video) - self.clock.now()).total_seconds())
        wakes_at = self.clock.now() + timedelta(seconds=outcome["again"])
        await self.videos.change(entry, queue_position=position, estimated_start=turn.estimated_start, wakes_at=wakes_at)
        return outcome

    async def _attempt(self, entry: VideoRow, model: Model, deployment: Deployment) -> StepResult:
        """Note the attempt, then ask."""
        reference = await self.archive.reference(entry.video) if entry.video.reference else None
        if entry.video.reference and reference is None:
            return failed("reference_missing", "The reference image is no longer stored.")
        # Written before the upstream is asked: whoever finds this note without an id knows that the
        # outcome is unclear. It is conditional, so that of two submits at once only one goes on to
        # ask.
        entry = await self.videos.change(
            entry,
            deployment=deployment.name,
            attempted_at=self.clock.now(),
            attempts=entry.video.attempts + 1,
            queue_position=None,
            estimated_start=None,
        )
        video = entry.video
        try:
            accepted = await self._create(video, deployment, reference)
        except UpstreamError as error:
            log_failure(video.id, "create", error)
            return await self._not_accepted(entry, model, deployment, error)
        return await self._accept(video, deployment, accepted)

    async def _create(self, video: Video, deployment: Deployment, reference: Reference | None) -> Accepted:
        upstream = self.upstreams.at(deployment)
        # Counted from the note: a host that was frozen since then has been given up on, and must
        # not ask any more.
        since = (self.clock.now() - _attempted_at(video)).total_seconds()
        patience = self.knobs.reconcile_seconds * _CREATE_SHARE - since
        if patience <= 0:
            raise Uncertain("Too much time has passed since the attempt was noted.")
        try:
            async with asyncio.timeout(patience):
                if video.source_upstream_id:
                    return await upstream.remix(video.source_upstream_id, video.prompt)
                return await upstream.create(video.prompt, video.seconds, video.size, reference)
        except TimeoutError as error:
            raise Uncertain("The upstream did not answer the create in time.") from error

    async def _not_accepted(self, entry: VideoRow, model: Model, deployment: Deployment, error: UpstreamError) -> StepResult:
        """What a create that failed means for the video and for the deployment."""
        video, request_id = entry.video, error.report.request_id
        match error:
            case Uncertain():
                await self.pool.rest(model, deployment)
                if request_id:
                    await self.videos.change(entry, upstream_request_id=request_id)
                return again(self.knobs.poll_seconds)  # the note stands: the next run looks for the job
            case Missing():
                return failed("source_gone", "The upstream no longer has the video that was to be remixed.", request_id)
            case Retired() | Denied() | Misrouted():
                lost = isinstance(error, Retired) and (error.report.status == 410 or self._is_over(deployment))
                seconds = _GONE if lost else _MENDABLE
                await self.pool.take_down(model, deployment, error.code, seconds, lost=lost, request_id=request_id)
                return await self._stand_back(entry, model, deployment, 0.0, request_id)
            case Busy() | Unreachable():
                lost_uploads = video.lost_uploads + (error.code == "upload_timed_out")
                if lost_uploads >= _MOST_LOST_UPLOADS:
                    return failed(error.code, error.message, request_id)
                rest = None if error.retry_after is None else min(error.retry_after, _LONGEST_REST)
                return await self._stand_back(entry, model, deployment, rest, request_id, lost_uploads=lost_uploads)
            case _:
                return failed(error.code, error.message, request_id)

    async def _stand_back(
        self, entry: VideoRow, model: Model, deployment: Deployment, rest: float | None, request_id: str | None, **changes: Any
    ) -> StepResult:
        """No job was made: to the head of the queue again, where another deployment may be free at
        once.
        """
        request_id = request_id or entry.video.upstream_request_id
        # The record first: whoever is killed in between keeps the slot and asks again, instead of
        # looking for a job.
        await self.videos.change(entry, deployment=None, attempted_at=None, upstream_request_id=request_id, **changes)
        await self.pool.return_slot(model, entry.video, deployment, rest)
        return again(0.0)

    async def _accept(self, video: Video, deployment: Deployment, accepted: Accepted) -> StepResult:
        """Bind the job to the video. Where another video has adopted it meanwhile, go on looking
        for ours.
        """
        if not await self.claims.claim(deployment, accepted.job, video.id):
            return again(self.knobs.poll_seconds)
        # Before the record: once that has the job, nobody comes back here to end the create for the
        # pool.
        await self.pool.answered(video.model, video.id)
        # Whatever has happened to the video since: a job whose video was deleted has to be seen
        # out.
        await self.videos.update(
            video.id,
            upstream_id=accepted.job.id,
            accepted_at=self.clock.now(),
            upstream_request_id=accepted.request_id or video.upstream_request_id,
        )
        logger.info("video %s accepted by %s as %s", video.id, deployment.name, accepted.job.id)
        return DONE

    async def _reconcile(self, entry: VideoRow, model: Model) -> StepResult:
        """A create was under way and its answer is unknown: the upstream's own list decides."""
        video = entry.video
        attempted_at = _attempted_at(video)
        deployment = model.deployment(video.deployment or "")
        if deployment is None:
            return failed("deployment_missing", "The deployment that was asked for this video is no longer configured.")
        upstream = self.upstreams.at(deployment)
        try:
            listed = await upstream.recent()
        except UpstreamError as error:
            log_failure(video.id, "list", error)
            left = self.knobs.deadline_seconds - (self.clock.now() - attempted_at).total_seconds()
            if left <= 0:
                message = "The upstream may have accepted the video, and cannot be asked."
                return _uncertain(message, video, error.report.request_id)
            return again(max(error.retry_after or 0.0, self.knobs.poll_seconds), left)
        neighbours = self.catalog.neighbours(deployment)
        unsure = any(_since(made_at, attempted_at) is not False for made_at in listed.unreadable)
        for job in sorted(listed.jobs, key=lambda each: each.created_at or 0):
            fits = _fits(job, video, attempted_at, neighbours)
            if fits and await self.claims.claim(deployment, job, video.id):
                logger.info("video %s: adopting job %s after an unclear create", video.id, job.id)
                return await self._accept(video, deployment, Accepted(job, None))
            unsure = unsure or (fits is None and await self.claims.holder(deployment, job) is None)
        if self.clock.now() < attempted_at + timedelta(seconds=self.knobs.reconcile_seconds):
            return again(self.knobs.poll_seconds)
        if unsure:
            return _uncertain("The upstream lists a job that may be this video's, and does not say what was asked for.", video)
        if video.lost_answers + 1 >= _MOST_UNCLEAR:
            return _uncertain("The upstream gave no clear answer, more than once, and lists no job for the video.", video)
        if video.deleted:
            return DONE
        logger.info("video %s: no job was made by the unclear create; asking again", video.id)
        return await self._stand_back(entry, model, deployment, None, None, lost_answers=video.lost_answers + 1)

    async def _fall_back(self, entry: VideoRow, model: Model, *, patient: bool) -> StepResult | None:
        """The model cannot serve: the first of its fallbacks that can make this video takes its
        place, if the budget allows.

        Who has nothing else to wait for is `patient`: a fallback that is down for a moment will
        do as well.
        """
        video = entry.video
        for other in () if video.source_upstream_id else self.catalog.fallbacks(model):
            able = other.capability
            if video.seconds not in able.seconds or video.size not in able.sizes or other.name == video.fallback_from:
                continue
            if await (self.pool.is_lost(other) if patient else self.pool.is_down(other)):
                continue
            # Noted there before it is forgotten here: a crash between the two leaves a note too
            # many, which the sweep drops.
            await self.pool.enter(other, video.id)
            price = able.price(video.seconds, video.size)
            try:
                # The dearer of the two is held until the key has the new price: never less is held
                # than is reserved.
                await self.budget.reprice(video.id, max(price, video.cost))
                await self.ledger.move(video.id, other.name, price)
            except RequestError as error:
                logger.info("video %s cannot fall back to %s: %s", video.id, other.name, error.code)
                await self.budget.reprice(video.id, video.cost)
                await self.pool.leave(other.name, video.id)
                continue
            await self.budget.reprice(video.id, price)
            await self.pool.leave(model.name, video.id)
            logger.info("video %s falls back from %s to %s", video.id, model.name, other.name)
            return again(0.0)
        return None

    def _is_over(self, deployment: Deployment) -> bool:
        """Whether the vendor's announced last day has come."""
        return deployment.retires is not None and deployment.retires <= self.clock.now().date()

    def _gives_up(self, video: Video) -> datetime:
        """When it has waited too long."""
        return video.created_at + timedelta(seconds=self.knobs.queue_seconds)


_OUTAGE_MESSAGES = {
    "model_retired": "The upstream has retired this model: choose another one.",
    "upstream_auth_error": "The upstream refuses the gateway's credentials; the operator has to mend this.",
    "upstream_misconfigured": "The upstream does not know the route; the operator has to check the deployment's address.",
}


def _attempted_at(video: Video) -> datetime:
    if video.attempted_at is None:
        raise ValueError("the upstream was never asked for it")
    return video.attempted_at.astimezone(UTC)


def _uncertain(message: str, video: Video, request_id: str | None = None) -> StepResult:
    return failed("upstream_uncertain", message, request_id or video.upstream_request_id)


def _fits(job: Job, video: Video, attempted_at: datetime, neighbours: Set[str]) -> bool | None:
    """Could this job be the one that the attempt made? None where it may be, and the upstream does
    not tell.

    What it calls by the name of a neighbour is most likely that one's, and perhaps ours under a
    name that nobody has told us.
    """
    if job.remixed_from_video_id != video.source_upstream_id:
        return False
    asked = (video.prompt, str(video.seconds), video.size)
    told = (job.prompt, None if job.seconds is None else str(job.seconds), job.size)
    if any(each is not None and each != wanted for each, wanted in zip(told, asked, strict=True)):
        return False
    since = _since(job.created_at, attempted_at)
    return since if since is False or (None not in told and job.model not in neighbours) else None


def _since(made_at: float | None, attempted_at: datetime) -> bool | None:
    """Was a job made since the attempt? None where that is not told."""
    return None if made_at is None else datetime.fromtimestamp(made_at, UTC) >= attempted_at - _CLOCK_SKEW
