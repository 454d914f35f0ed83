"""What became of a create whose answer was lost: the upstream's own list of jobs decides."""

from collections.abc import Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto

from shared.capacity.job_claims import JobClaims
from shared.clock import Clock
from shared.config.catalog import Catalog
from shared.config.file import GatewayKnobs
from shared.errors import UpstreamError
from shared.upstream.client import Job, Listing, Upstream, log_failure
from shared.videos.attempt import Attempt

_CLOCK_SKEW = timedelta(seconds=15)  # between us and the upstream; its times are whole seconds


class Fit(Enum):
    """Whether a listed job can be the one that an attempt made."""

    YES = auto()
    UNTOLD = auto()  # nothing tells it apart, and not everything is told
    NO = auto()


@dataclass(frozen=True)
class Adopt:
    """The job is the attempt's. Nobody else has claimed it so far."""

    job: Job


@dataclass(frozen=True)
class LookAgain:
    """Nothing is decided yet: look again after `seconds`, or when `left` are over."""

    seconds: float
    left: float


@dataclass(frozen=True)
class Unclear:
    """The upstream cannot tell whether it has a job for the attempt."""

    message: str
    request_id: str | None = None


@dataclass(frozen=True)
class NotMade:
    """No listed job can be the attempt's, and none has come up for as long as one is looked for."""


Verdict = Adopt | LookAgain | Unclear | NotMade


@dataclass(frozen=True)
class Reconciliation:
    catalog: Catalog
    claims: JobClaims
    clock: Clock
    knobs: GatewayKnobs

    async def look(self, attempt: Attempt, upstream: Upstream) -> Verdict:
        """Look once for the attempt's job."""
        try:
            listed = await upstream.recent()
        except UpstreamError as error:
            log_failure(attempt.video.id, "list", error)
            return self._cannot_be_asked(attempt, error)
        unsure = any(_since(made_at, attempt.noted_at) is not Fit.NO for made_at in listed.unreadable)
        for job, fits in self._possible(attempt, listed):
            holder = await self.claims.holder(attempt.deployment, job)
            if fits is Fit.YES and holder in (None, attempt.video.id):
                return Adopt(job)
            unsure = unsure or (fits is Fit.UNTOLD and holder is None)
        left = self.knobs.reconcile_seconds - self._elapsed(attempt)
        if left > 0:
            return LookAgain(self.knobs.poll_seconds, left)
        if unsure:
            return Unclear("The upstream lists a job that may be this video's, and does not say what was asked for.")
        return NotMade()

    def _cannot_be_asked(self, attempt: Attempt, error: UpstreamError) -> Verdict:
        left = self.knobs.deadline_seconds - self._elapsed(attempt)
        if left <= 0:
            return Unclear("The upstream may have accepted the video, and cannot be asked.", error.report.request_id)
        return LookAgain(max(error.retry_after or 0.0, self.knobs.poll_seconds), left)

    def _possible(self, attempt: Attempt, listed: Listing) -> list[tuple[Job, Fit]]:
        """The listed jobs that can be the attempt's, the oldest first."""
        neighbours = self.catalog.neighbours(attempt.deployment)
        oldest_first = sorted(listed.jobs, key=lambda each: each.created_at or 0)
        judged = [(job, fit(job, attempt, neighbours)) for job in oldest_first]
        return [each for each in judged if each[1] is not Fit.NO]

    def _elapsed(self, attempt: Attempt) -> float:
        return (self.clock.now() - attempt.noted_at).total_seconds()


def fit(job: Job, attempt: Attempt, neighbours: Set[str]) -> Fit:
    """Whether this job can be the attempt's.

    A job that goes by the name of a neighbour is most likely that one's, and perhaps ours under a
    name that nobody has told us.
    """
    video = attempt.video
    if job.remixed_from_video_id != video.source_upstream_id:
        return Fit.NO
    asked = (video.prompt, str(video.seconds), video.size)
    told = (job.prompt, None if job.seconds is None else str(job.seconds), job.size)
    if any(each is not None and each != wanted for each, wanted in zip(told, asked, strict=True)):
        return Fit.NO
    since = _since(job.created_at, attempt.noted_at)
    all_told = None not in told and job.model not in neighbours
    return since if all_told or since is Fit.NO else Fit.UNTOLD


def _since(made_at: float | None, noted_at: datetime) -> Fit:
    """Whether something was made since the attempt was noted."""
    if made_at is None:
        return Fit.UNTOLD
    return Fit.YES if datetime.fromtimestamp(made_at, UTC) >= noted_at - _CLOCK_SKEW else Fit.NO
