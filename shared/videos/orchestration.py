"""The recipe of a video's life as a durable orchestration, and the few things the rest asks of
Durable Functions.

Instance id = video id. The recipe must stay deterministic: names, constants and the context only.
Changing the order or number of its actions breaks running instances; a new recipe gets a new name,
and the old one stays until it has drained.
"""

from collections.abc import Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import azure.durable_functions as df

VIDEO_LIFECYCLE = "video_lifecycle"
SUBMIT, CHECK, SAVE, FINISH = "submit", "check", "save", "finish"
STEPS = (SUBMIT, CHECK, SAVE)

# A step that raises (storage did not answer) runs again this often; then the orchestration fails
# and the sweep restarts it.
_RETRY_MILLISECONDS, _RETRY_ATTEMPTS = 5_000, 6
# The whole history is replayed at every step, at a cost that grows with its square, so it is cut
# off after this many waits.
_WAITS_PER_EXECUTION = 10

Recipe = Generator[Any, Any, None]


def video_lifecycle(context: "df.DurableOrchestrationContext") -> Recipe:
    """Submit (wait while there is no capacity), check until done, save, finish."""
    first = (context.get_input() or {}).get("step", SUBMIT)
    waits = _WAITS_PER_EXECUTION
    failure = None
    for step in STEPS[STEPS.index(first) :]:
        outcome = yield _activity(context, step, context.instance_id)
        while "again" in outcome:
            yield context.create_timer(context.current_utc_datetime + timedelta(seconds=outcome["again"]))
            waits -= 1
            if waits == 0:
                context.continue_as_new({"step": step})
                return
            outcome = yield _activity(context, step, context.instance_id)
        failure = outcome.get("failed")
        if failure:
            break
    yield _activity(context, FINISH, {"video": context.instance_id, "failure": failure})


def _activity(context: "df.DurableOrchestrationContext", name: str, given: Any) -> Any:
    import azure.durable_functions as df

    return context.call_activity_with_retry(name, df.RetryOptions(_RETRY_MILLISECONDS, _RETRY_ATTEMPTS), given)


class Orchestrations(Protocol):
    """What the app asks of the engine: start a video's orchestration, and whether it has a living
    one.
    """

    async def start(self, video_id: str) -> None: ...

    async def alive(self, video_id: str) -> bool: ...


class DurableOrchestrations:
    """Orchestrations over the durable client binding."""

    def __init__(self, client: "df.DurableOrchestrationClient") -> None:
        self._client = client

    async def start(self, video_id: str) -> None:
        await self._client.start_new(VIDEO_LIFECYCLE, video_id, {"step": SUBMIT})

    async def alive(self, video_id: str) -> bool:
        status = await self._client.get_status(video_id)
        state = status.runtime_status
        return state is not None and state.name in ("Running", "Pending", "ContinuedAsNew", "Suspended")
