"""Gets a video accepted upstream exactly once: wait for a slot, record the attempt, send the
create; if its answer is lost, look for the job.

Every step may run twice, and may be killed between any two lines: it reads the record first and
continues from there. An attempt on record without a job has an unclear outcome, which the
upstream's list of jobs decides.
"""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from shared.accounts.account_changes import CANCELLED_MESSAGE
from shared.capacity.equal_asks import EqualAsks
from shared.capacity.job_claims import JobClaims
from shared.capacity.pool import Pool, Wait
from shared.capacity.slots import Outage
from shared.clock import Clock
from shared.config.catalog import Catalog, Deployment, Model
from shared.config.file import GatewayKnobs
from shared.dialects.dialect import Ask
from shared.errors import (
    Busy,
    Denied,
    Misrouted,
    Missing,
    Retired,
    Uncertain,
    Unreachable,
    UpstreamError,
)
from shared.media.reference_image import Reference
from shared.media.video import Video
from shared.storage.blobs import Archive
from shared.storage.tables import Row
from shared.storage.video_store import VideoRow, VideoStore
from shared.upstream.client import Accepted, log_failure
from shared.upstream.jobs import Job
from shared.upstream.upstreams import Upstreams
from shared.videos.attempt import Attempt
from shared.videos.fallback import Fallback
from shared.videos.reconciliation import Adopt, LookAgain, NotMade, Reconciliation, Unclear
from shared.videos.step_result import DONE, StepResult, again, failed

logger = logging.getLogger("gateway")

# The part of `reconcile_seconds` in which a create's answer is awaited. The job is looked for
# through the rest as well, since an upstream may accept a create after its caller has given up.
# (The service's front door gives up after 60 s.)
_CREATE_SHARE = 0.5
_MOST_UNCLEAR = 2  # creates of one video whose answer was lost and whose job was not found
_MOST_LOST_UPLOADS = 3  # times that the upstream may lose a video's reference image
_LONGEST_REST = 3600.0  # seconds: a longer `retry-after` of a deployment counts as this

# Seconds that a deployment is down if it refuses everybody. A retired model stays retired; a role,
# a route or a missing deployment may be repaired any minute.
_GONE, _MENDABLE = 6 * 3600.0, 60.0


class Submission(msgspec.Struct, frozen=True):
    """The first step of an admitted video."""

    catalog: Catalog
    videos: VideoStore
    pool: Pool
    claims: JobClaims
    equal_asks: EqualAsks
    archive: Archive
    upstreams: Upstreams
    clock: Clock
    knobs: GatewayKnobs
    fallback: Fallback
    reconciliation: Reconciliation

    async def submit(self, video_id: str) -> StepResult:
        """Try once to get the video accepted; `again` while it waits or while its create is
        unclear.
        """
        entry = await self.videos.find(video_id)
        if entry is None or entry.video.upstream_id:
            return DONE
        video = entry.video
        unclear = video.attempted_at is not None
        if video.finished:
            return DONE
        if video.deleted and not unclear:  # its create was withdrawn or made no job
            return failed("cancelled", CANCELLED_MESSAGE)
        model = self.catalog.get(video.model)
        if model is None:
            return failed("model_not_found", f"The model '{video.model}' is no longer configured.")
        if unclear:
            return await self._reconcile(entry, model)
        if video.source_deployment and model.deployment(video.source_deployment) is None:
            return failed("deployment_missing", "The deployment that has the video to be remixed is no longer configured.")
        if self.clock.now() >= self._gives_up(video):
            return failed("queue_timeout", "The video waited too long for capacity upstream.")
        return await self._take_turn(entry, model)

    async def _take_turn(self, entry: VideoRow, model: Model) -> StepResult:
        """Send the create if a slot is free; else wait for one, or move to a fallback."""
        video = entry.video
        turn = await self.pool.acquire(model, video, video.priority)
        if isinstance(turn, Outage):
            if await self.fallback.take(video, model, patient=True):
                return again(0.0)
            message = _OUTAGE_MESSAGES.get(turn.reason, "No deployment of the model can be used.")
            return failed(turn.reason, message, turn.request_id)
        if isinstance(turn, Wait):
            if turn.outage and await self.fallback.take(video, model, patient=False):
                return again(0.0)
            return await self._wait(video, model, turn)
        return await self._ask(entry, model, turn.deployment)

    async def _wait(self, video: Video, model: Model, turn: Wait) -> StepResult:
        """Wait for a slot. Test deployments that could not be reached."""
        for deployment in turn.unreachable:
            if await self._reaches(video, deployment):
                await self.pool.reached(model, deployment)
                return again(0.0)
        return again(turn.seconds, (self._gives_up(video) - self.clock.now()).total_seconds())

    async def _reaches(self, video: Video, deployment: Deployment) -> bool:
        """Whether a deployment that could not be reached answers now. Asks for its list, which
        makes no job.
        """
        try:
            await self.upstreams.at(deployment).ping()
        except UpstreamError as error:
            log_failure(video.id, "list", error)
            return False
        return True

    async def _ask(self, entry: VideoRow, model: Model, deployment: Deployment) -> StepResult:
        """Record the attempt, then send the create, unless an equal one is under way."""
        reference = await self.archive.reference(entry.video) if entry.video.reference else None
        if entry.video.reference and reference is None:
            return failed("reference_missing", "The reference image is no longer stored.")
        attempt = await self._note(entry, model, deployment)
        alone = await self.equal_asks.begin(deployment, attempt.video)
        if alone is None:
            return await self._step_aside(attempt)
        try:
            result = await self._accept(attempt, await self._create(attempt, reference))
        except Uncertain as error:
            return await self._lose_answer(attempt, error)
        except UpstreamError as error:
            result = await self._not_accepted(attempt, error)
        await self._end(attempt, alone)
        return result

    async def _end(self, attempt: Attempt, alone: Row) -> None:
        """The outcome of the create is known: let the next equal one begin."""
        await self.pool.wake_followers(attempt.video, await self.equal_asks.end(alone))

    async def _step_aside(self, attempt: Attempt) -> StepResult:
        """An equal create is under way at the resource: wait for its outcome at the head of the
        queue.
        """
        await self._withdraw(attempt)
        await self.pool.return_slot(attempt.model, attempt.video, attempt.deployment, 0.0, asked=False)
        return again(self.knobs.poll_seconds)

    async def _lose_answer(self, attempt: Attempt, error: Uncertain) -> StepResult:
        """The create's answer is lost: keep the attempt on record, so that the next run looks for
        the job.
        """
        log_failure(attempt.video.id, "create", error)
        await self.pool.rest(attempt.model, attempt.deployment)
        if error.report.request_id:
            await self.videos.change(attempt.entry, upstream_request_id=error.report.request_id)
        return again(self.knobs.poll_seconds)

    async def _note(self, entry: VideoRow, model: Model, deployment: Deployment) -> Attempt:
        """Record the attempt before the create is sent: an attempt on record without a job tells
        later runs that the outcome is unclear.

        Raises WriteConflict if another run of the step was faster: only one may send the create.
        """
        noted = await self.videos.change(
            entry,
            deployment=deployment.name,
            attempted_at=self.clock.now(),
            attempts=entry.video.attempts + 1,
        )
        return Attempt(noted, model, deployment)

    async def _create(self, attempt: Attempt, reference: Reference | None) -> Accepted:
        """Send the create. Raises Uncertain if no answer comes in time, or another UpstreamError.

        The time counts from the record. If the host was frozen since then, another run may have
        given the attempt up, so it must not be sent any more.
        """
        video, upstream = attempt.video, self.upstreams.at(attempt.deployment)
        since = (self.clock.now() - attempt.noted_at).total_seconds()
        patience = self.knobs.reconcile_seconds * _CREATE_SHARE - since
        if patience <= 0:
            raise Uncertain("Too much time has passed since the attempt was noted.")
        try:
            async with asyncio.timeout(patience):
                if video.source_upstream_id:
                    return await upstream.remix(video.source_upstream_id, video.prompt)
                return await upstream.create(_ask(attempt), reference)
        except TimeoutError as error:
            raise Uncertain("The upstream did not answer the create in time.") from error

    async def _not_accepted(self, attempt: Attempt, error: UpstreamError) -> StepResult:
        """Decide what a failed create means for the video and for its deployment."""
        video, request_id = attempt.video, error.report.request_id
        log_failure(video.id, "create", error)
        match error:
            case Missing():
                return failed("source_gone", "The upstream no longer has the video that was to be remixed.", request_id)
            case Retired() | Denied() | Misrouted():
                await self._take_down(attempt, error)
                return await self._stand_back(attempt, 0.0, request_id)
            case Busy() | Unreachable():
                lost_uploads = video.lost_uploads + (error.code == "upload_timed_out")
                if lost_uploads >= _MOST_LOST_UPLOADS:
                    return failed(error.code, error.message, request_id)
                rest = None if error.retry_after is None else min(error.retry_after, _LONGEST_REST)
                unreachable = isinstance(error, Unreachable) and error.report.status is None
                return await self._stand_back(attempt, rest, request_id, unreachable=unreachable, lost_uploads=lost_uploads)
            case _:
                return failed(error.code, error.message, request_id)

    async def _take_down(self, attempt: Attempt, error: UpstreamError) -> None:
        """Take down a deployment that refuses everybody, for as long as its repair may take."""
        deployment, report = attempt.deployment, error.report
        lost = isinstance(error, Retired) and (report.status == 410 or self._is_over(deployment))
        seconds = _GONE if lost else _MENDABLE
        await self.pool.take_down(attempt.model, deployment, error.code, seconds, lost=lost, request_id=report.request_id)

    async def _stand_back(
        self, attempt: Attempt, rest: float | None, request_id: str | None, *, unreachable: bool = False, **changes: Any
    ) -> StepResult:
        """No job was made: put the video back at the head of the queue, where another deployment
        may be free.
        """
        request_id = request_id or attempt.video.upstream_request_id
        await self._withdraw(attempt, upstream_request_id=request_id, **changes)
        await self.pool.return_slot(attempt.model, attempt.video, attempt.deployment, rest, unreachable=unreachable)
        return again(0.0)

    async def _withdraw(self, attempt: Attempt, **changes: Any) -> None:
        """Remove the attempt from the record, before the slot is freed: a crash in between leaves
        the slot with the video, which then asks again instead of looking for a job.
        """
        await self.videos.change(attempt.entry, deployment=None, attempted_at=None, **changes)

    async def _accept(self, attempt: Attempt, accepted: Accepted, made_at: datetime | None = None) -> StepResult:
        """Bind the job to the video. If another video has claimed it, go on looking for this one's
        job. `made_at` is for a job that was made some time before it was found.
        """
        video = attempt.video
        if not await self.claims.claim(attempt.deployment, accepted.job, video.id):
            return again(self.knobs.poll_seconds)
        # Before the record is changed: once it has the job, no later run comes here to tell the
        # pool that the create was answered.
        await self.pool.answered(video.model, attempt.deployment.name, video.id)
        # Also if the video was deleted meanwhile: its job has to be followed to its end.
        await self.videos.update(
            video.id,
            attempt.entry,
            upstream_id=accepted.job.id,
            accepted_at=self.clock.now(),
            made_at=made_at,
            upstream_request_id=accepted.request_id or video.upstream_request_id,
        )
        logger.info("video %s accepted by %s as %s", video.id, attempt.deployment.name, accepted.job.id)
        return DONE

    async def _reconcile(self, entry: VideoRow, model: Model) -> StepResult:
        """The outcome of a create is unknown: look for its job, and act on what is found."""
        deployment = model.deployment(entry.video.deployment or "")
        if deployment is None:
            return failed("deployment_missing", "The deployment that was asked for this video is no longer configured.")
        attempt = Attempt(entry, model, deployment)
        # The run that sent the create may have been killed before it noted this, so that an equal
        # create may be under way now.
        alone = await self.equal_asks.begin(deployment, attempt.video)
        if alone is None:
            return self._wait_for_equal(attempt)
        verdict = await self.reconciliation.look(attempt, self.upstreams.at(deployment))
        if isinstance(verdict, LookAgain):
            return again(verdict.seconds, verdict.left)
        result = await self._act_on(attempt, verdict)
        await self._end(attempt, alone)
        return result

    def _wait_for_equal(self, attempt: Attempt) -> StepResult:
        left = self.knobs.deadline_seconds - (self.clock.now() - attempt.noted_at).total_seconds()
        if left <= 0:
            return _uncertain("Equal requests have been under way all the time since the create.", attempt.video)
        return again(self.knobs.poll_seconds, left)

    async def _act_on(self, attempt: Attempt, verdict: Adopt | Unclear | NotMade) -> StepResult:
        match verdict:
            case Adopt(job):
                logger.info("video %s: adopting job %s after an unclear create", attempt.video.id, job.id)
                return await self._accept(attempt, Accepted(job, None), _made_at(attempt, job, self.clock.now()))
            case Unclear(message, request_id):
                return _uncertain(message, attempt.video, request_id)
            case NotMade():
                return await self._ask_again(attempt)

    async def _ask_again(self, attempt: Attempt) -> StepResult:
        """The unclear create made no job. Send one more; after a second unclear create the video
        fails.
        """
        video = attempt.video
        if video.lost_answers + 1 >= _MOST_UNCLEAR:
            return _uncertain("The upstream gave no clear answer, more than once, and lists no job for the video.", video)
        if self.knobs.on_unclear == "fail":
            return _uncertain("The upstream did not answer the create, and lists no job for the video.", video)
        logger.info("video %s: no job was made by the unclear create; asking again", video.id)
        return await self._stand_back(attempt, None, None, lost_answers=video.lost_answers + 1)

    def _is_over(self, deployment: Deployment) -> bool:
        """Whether the vendor's announced retirement date has come."""
        return deployment.retires is not None and deployment.retires <= self.clock.now().date()

    def _gives_up(self, video: Video) -> datetime:
        """The time at which a waiting video fails as `queue_timeout`."""
        return video.created_at + timedelta(seconds=self.knobs.queue_seconds)


def _made_at(attempt: Attempt, job: Job, now: datetime) -> datetime | None:
    """When the upstream made a job that was found in its list, by its own word. Its clock may
    differ, so that only a time between the attempt and now is believed.
    """
    if job.created_at is None:
        return None
    return min(max(datetime.fromtimestamp(job.created_at, UTC), attempt.noted_at), now)


def _ask(attempt: Attempt) -> Ask:
    """What a video's create asks for. Parameters that the model no longer takes are left out."""
    video, known = attempt.video, attempt.model.capability.parameters
    parameters = {name: value for name, value in video.asked.items() if name in known}
    return Ask(video.prompt, video.seconds, video.size, video.id, parameters)


_OUTAGE_MESSAGES = {
    "model_retired": "The upstream has retired this model: choose another one.",
    "upstream_auth_error": "The upstream refuses the gateway's credentials; the operator has to mend this.",
    "upstream_misconfigured": "The upstream does not know the route; the operator has to check the deployment's address.",
}


def _uncertain(message: str, video: Video, request_id: str | None = None) -> StepResult:
    return failed("upstream_uncertain", message, request_id or video.upstream_request_id)
