"""Which creates a hosted service accepts: models that it serves, and the two quotas of each."""

from local.simulator.answers import Refused
from local.simulator.dialects.dialect import ServedModel, Terms
from local.simulator.dialects.documented import GONE, RATE_LIMITED, TOO_MANY_RUNNING, unknown_deployment
from local.simulator.workshop import Workshop


class Quotas:
    """They count accepted creates only. Time passes as much faster for them as for rendering."""

    def __init__(self, workshop: Workshop, terms: Terms) -> None:
        self._workshop = workshop
        self._terms = terms

    def model(self, deployment: str) -> str:
        """What a deployment serves. Raises Refused."""
        served: ServedModel | None = self._terms.models.get(deployment)
        if served is None:
            raise Refused(unknown_deployment(deployment))
        if served.retired:
            raise Refused(GONE)
        return served.model

    def require_capacity(self, deployment: str) -> None:
        """Raises Refused."""
        now, jobs = self._workshop.now(), self._workshop.jobs
        if self._terms.creates_per_minute is not None:
            recent = jobs.accepted_since(deployment, now - 60 / self._workshop.speed)
            if recent >= self._terms.creates_per_minute:
                raise Refused(RATE_LIMITED)
        running = sum(job.deployment == deployment for job in jobs.running(now))
        if self._terms.max_running is not None and running >= self._terms.max_running:
            raise Refused(TOO_MANY_RUNNING)
