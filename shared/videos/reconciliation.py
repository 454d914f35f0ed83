"""Decides the outcome of a create whose answer was lost, by the upstream's own list of jobs."""

from collections.abc import Sequence

import msgspec

from shared.capacity.job_claims import JobClaims
from shared.clock import Clock
from shared.config.catalog import Catalog
from shared.config.file import GatewayKnobs
from shared.errors import UpstreamError
from shared.upstream.client import Upstream, log_failure
from shared.upstream.jobs import Job, Listing
from shared.videos.attempt import Attempt
from shared.videos.fit import LOOKBACK, Fit, fit, made_since


class Adopt(msgspec.Struct, frozen=True):
    """The job belongs to the attempt, and no other video has claimed it."""

    job: Job


class LookAgain(msgspec.Struct, frozen=True):
    """Not decided yet: look again after `seconds`, at the latest when `left` seconds are over."""

    seconds: float
    left: float


class Unclear(msgspec.Struct, frozen=True):
    """It cannot be decided whether the upstream has a job for the attempt."""

    message: str
    request_id: str | None = None


class NotMade(msgspec.Struct, frozen=True):
    """The attempt made no job: none that could be its own was listed for all of
    `reconcile_seconds`.
    """


Verdict = Adopt | LookAgain | Unclear | NotMade


class Candidate(msgspec.Struct, frozen=True):
    """A listed job that no video has claimed and that may be the attempt's."""

    job: Job
    fit: Fit


class Reconciliation(msgspec.Struct, frozen=True):
    """Looks for the job of an attempt. It changes nothing; the caller acts on the verdict."""

    catalog: Catalog
    claims: JobClaims
    clock: Clock
    knobs: GatewayKnobs

    async def look(self, attempt: Attempt, upstream: Upstream) -> Verdict:
        """Look once for the attempt's job. A job that cannot be told apart for certain is never
        adopted, and never leads to a second create.
        """
        if not attempt.deployment.dialect.lists:
            return Unclear("The upstream may have accepted the video, and has no list of its jobs.")
        try:
            listed = await upstream.recent(attempt.noted_at - LOOKBACK)
        except UpstreamError as error:
            log_failure(attempt.video.id, "list", error)
            return self._cannot_be_asked(attempt, error)
        found = await self._candidates(attempt, listed)
        if isinstance(found, Adopt):
            return found
        certain = [each.job for each in found if each.fit is Fit.CERTAIN]
        if certain:
            return Adopt(certain[0])
        why = _why_unclear(attempt, listed, found)
        if found and why is None:
            return Adopt(next(each.job for each in found if each.fit is Fit.EXACT))
        left = self.knobs.reconcile_seconds - self._elapsed(attempt)
        if left > 0:
            return LookAgain(self.knobs.poll_seconds, left)
        return NotMade() if why is None else Unclear(why)

    def _cannot_be_asked(self, attempt: Attempt, error: UpstreamError) -> Verdict:
        left = self.knobs.deadline_seconds - self._elapsed(attempt)
        if left <= 0:
            return Unclear("The upstream may have accepted the video, and cannot be asked.", error.report.request_id)
        return LookAgain(max(error.retry_after or 0.0, self.knobs.poll_seconds), left)

    async def _candidates(self, attempt: Attempt, listed: Listing) -> list[Candidate] | Adopt:
        """The unclaimed jobs that may be the attempt's, oldest first; or Adopt if the video has
        claimed its job already.
        """
        neighbours = self.catalog.neighbours(attempt.deployment)
        free = []
        for job in sorted(listed.jobs, key=lambda each: each.created_at or 0):
            fits = fit(job, attempt, listed, neighbours)
            if fits is Fit.NO:
                continue
            holder = await self.claims.holder(attempt.deployment, job)
            if holder == attempt.video.id:
                return Adopt(job)
            if holder is None:
                free.append(Candidate(job, fits))
        return free

    def _elapsed(self, attempt: Attempt) -> float:
        return (self.clock.now() - attempt.noted_at).total_seconds()


def _why_unclear(attempt: Attempt, listed: Listing, found: Sequence[Candidate]) -> str | None:
    """Why the list does not decide whether the attempt has made a job, and which; None if it does.

    A server that lists one job with exactly our prompt does not alter prompts, so jobs with similar
    prompts are no candidates then. No list shows the image that a job was made of. But if no other
    program uses the resource (`shared` is false), the only job that fits is ours, because equal
    creates go one at a time.
    """
    exact = [each for each in found if each.fit is Fit.EXACT]
    possible = [each for each in found if each.fit >= Fit.UNPROVEN] if exact else found
    if not listed.complete:
        return "The upstream does not list its jobs to the end, so that the video's may be missing."
    if any(made_since(each, attempt.noted_at, listed.ahead) is not Fit.NO for each in listed.unreadable):
        return "The upstream lists a job that cannot be read and may be this video's."
    if len(possible) > 1:
        return "The upstream lists several jobs that may be this video's."
    if possible and not exact:
        return "The upstream lists a job that may be this video's, and does not say what was asked for."
    if possible and attempt.video.reference and attempt.deployment.shared:
        return "The upstream lists a job that may be this video's, and does not say of which image it was made."
    return None
