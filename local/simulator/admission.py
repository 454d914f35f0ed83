"""Which creates the simulated Azure OpenAI accepts: deployments that exist, and the two quotas of
each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import uuid4

from local.simulator.answers import GONE, RATE_LIMITED, TOO_MANY_RUNNING, Refused, unknown_deployment
from local.simulator.jobs import Job, Jobs, fate, schedule
from local.simulator.requests import Order


@dataclass(frozen=True)
class SoraDeployment:
    """What a deployment name stands for. A retired one answers 410."""

    model: str
    retired: bool = False


DEPLOYMENTS = {"sora-2": SoraDeployment("sora-2"), "sora-2-pro": SoraDeployment("sora-2-pro")}


class Admission:
    """Quotas count accepted creates only. Time passes `speed` times faster for them too; None lifts
    one.
    """

    def __init__(
        self,
        jobs: Jobs,
        deployments: Mapping[str, SoraDeployment],
        speed: float,
        creates_per_minute: int | None,
        max_running: int | None,
    ) -> None:
        self._jobs = jobs
        self._deployments = deployments
        self._speed = speed
        self._creates_per_minute = creates_per_minute
        self._max_running = max_running

    def accept(self, order: Order, now: float, remixed_from: str | None) -> Job:
        """Check the quotas and commit the job in one step: on one event loop, nothing runs in
        between. Raises Refused.
        """
        model = self._model(order.deployment)
        self._require_capacity(order.deployment, now)
        job_id = f"video_{uuid4().hex}"
        starts_at, ends_at = schedule(job_id, order.seconds, now, self._speed)
        failure, ends = fate(order.prompt, model, order.size)
        code, message = failure or (None, None)
        job = Job(
            id=job_id,
            deployment=order.deployment,
            model=model,
            prompt=order.prompt,
            seconds=order.seconds,
            size=order.size,
            created_at=now,
            starts_at=starts_at,
            ends_at=ends_at if ends else None,
            failure_code=code,
            failure_message=message,
            remixed_from=remixed_from,
        )
        self._jobs.add(job, order.reference)
        return job

    def _model(self, deployment: str) -> str:
        chosen = self._deployments.get(deployment)
        if chosen is None:
            raise Refused(unknown_deployment(deployment))
        if chosen.retired:
            raise Refused(GONE)
        return chosen.model

    def _require_capacity(self, deployment: str, now: float) -> None:
        if self._creates_per_minute is not None:
            recent = self._jobs.accepted_since(deployment, now - 60 / self._speed)
            if recent >= self._creates_per_minute:
                raise Refused(RATE_LIMITED)
        if self._max_running is not None and self._jobs.running(deployment, now) >= self._max_running:
            raise Refused(TOO_MANY_RUNNING)
