"""What the sweep asks of the orchestration engine, beyond starting a video."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from shared.videos.orchestration import LIVING, DurableOrchestrations, Orchestrations, restarts_of

if TYPE_CHECKING:
    import azure.durable_functions as df

_ENDED = ("Completed", "Failed", "Terminated", "Canceled")
_PREFIX = "video_"
_FIRST_REST, _LONGEST_REST = timedelta(seconds=15), timedelta(hours=1)
_MOST_DOUBLINGS = 10


class Status(msgspec.Struct, frozen=True):
    """The state of an orchestration.

    `due` is when it should have acted: the end of its wait, or its last action if a step runs. None
    if that is unknown, since it is suspended or of the former recipe. `restarts` is how many times
    in a row it was started again after it had failed, `failed_at` the time of its last failure.
    """

    living: bool
    due: datetime | None
    restarts: int = 0
    failed_at: datetime | None = None

    @property
    def failures(self) -> int:
        """How many times in a row it has failed."""
        return 0 if self.failed_at is None else self.restarts + 1

    def rests(self, now: datetime) -> bool:
        """Whether it should not be started again yet. After the first failure it is at once, and
        then after pauses that double up to an hour.
        """
        if self.failed_at is None or self.failures == 1:
            return False
        return now - self.failed_at < min(_FIRST_REST * (1 << min(self.restarts, _MOST_DOUBLINGS)), _LONGEST_REST)


class Engine(Orchestrations, Protocol):
    """The orchestrations of all videos."""

    async def status(self, video_id: str) -> Status | None:
        """The state of a video's orchestration, or None if it never had one."""
        ...

    async def keep_watch(self) -> None:
        """Start the two watches, unless they run already."""
        ...

    async def terminate(self, video_id: str) -> None:
        """Ask the engine to terminate it, which happens a moment later."""
        ...

    async def failed(self) -> Sequence[str]:
        """Videos whose orchestration has failed, at most one page."""
        ...

    async def over(self, started_before: datetime) -> Sequence[str]:
        """Videos whose orchestration has ended and was started before then, at most one page."""
        ...

    async def purge(self, video_id: str) -> None:
        """Delete an orchestration and its history."""
        ...


class DurableEngine(DurableOrchestrations):
    """Engine, implemented by the durable client binding."""

    def __init__(self, client: "df.DurableOrchestrationClient") -> None:
        super().__init__(client)
        self.client = client

    async def status(self, video_id: str) -> Status | None:
        told = await self.client.get_status(video_id, show_input=True)
        if not told or told.runtime_status is None:
            return None
        name = told.runtime_status.name
        failed_at = _utc(told.last_updated_time) if name == "Failed" else None
        return Status(name in LIVING, _due(name, told), restarts_of(told.input_), failed_at)

    async def terminate(self, video_id: str) -> None:
        await self.client.terminate(video_id, "The sweep ends it.")

    async def failed(self) -> Sequence[str]:
        return await self._ids(("Failed",))

    async def over(self, started_before: datetime) -> Sequence[str]:
        return await self._ids(_ENDED, started_before)

    async def purge(self, video_id: str) -> None:
        await self.client.purge_instance_history(video_id)

    async def _ids(self, states: Sequence[str], started_before: datetime | None = None) -> Sequence[str]:
        from azure.durable_functions import OrchestrationRuntimeStatus

        wanted = [OrchestrationRuntimeStatus[name] for name in states]
        found = await self.client.get_status_by(
            created_time_to=started_before, runtime_status=wanted, instance_id_prefix=_PREFIX
        )
        return [each.instance_id for each in found if each.instance_id]


def _due(state: str, told: Any) -> datetime | None:
    """`Status.due`. The custom status names the step, and the end of its wait while it waits."""
    if state == "Suspended":
        return None
    if state == "Pending":
        return _utc(told.created_time)
    doing = told.custom_status
    if not isinstance(doing, dict):
        return None
    return datetime.fromisoformat(doing["until"]) if "until" in doing else _utc(told.last_updated_time)


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
