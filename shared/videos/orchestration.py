"""The recipe of a video's life as a durable orchestration, and the few things the rest asks of
Durable Functions.

Instance id = video id. The recipe must stay deterministic: names, constants and the context only.
Changing the order or number of its actions breaks running instances; a new recipe gets a new name,
and the old one stays until it has drained.
"""

from collections.abc import Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from shared.videos.watch import WATCH

if TYPE_CHECKING:
    import azure.durable_functions as df

VIDEO_LIFE = "video_life"
VIDEO_LIFECYCLE = "video_lifecycle"  # the recipe before: nothing is started with it any more
SUBMIT, CHECK, SAVE, FINISH = "submit", "check", "save", "finish"
STEPS = (SUBMIT, CHECK)
TURN = "turn"  # the event that wakes a video that waits for a slot

# A step that raises (storage did not answer) runs again this often; then the orchestration fails
# and the sweep restarts it.
_RETRY_MILLISECONDS, _RETRY_ATTEMPTS = 5_000, 6
# The whole history is replayed at every step, at a cost that grows with its square, so it is cut
# off after this many waits.
_WAITS_PER_EXECUTION = 9

Recipe = Generator[Any, Any, None]


def video_life(context: "df.DurableOrchestrationContext") -> Recipe:
    """Submit (wait while there is no capacity), check until the bytes are stored, finish."""
    given = context.get_input() or {}
    waits = _WAITS_PER_EXECUTION
    outcome, failure = given.get("outcome"), None
    for step in STEPS[STEPS.index(given.get("step", SUBMIT)) :]:
        outcome = outcome or (yield _activity(context, step, context.instance_id))
        while "again" in outcome:
            yield from _wait(context, step, outcome["again"])
            outcome = yield _activity(context, step, context.instance_id)
            waits -= 1
            # Not right after the wait: the engine would hand the event that ended it to the next
            # execution once more.
            if waits <= 0 and "again" in outcome:
                context.continue_as_new({"step": step, "outcome": outcome})
                return
        failure = outcome.get("failed")
        if failure:
            break
        outcome = None
    yield _activity(context, FINISH, {"video": context.instance_id, "failure": failure})


def _wait(context: "df.DurableOrchestrationContext", step: str, seconds: float) -> Recipe:
    """Until the time is over; a video that waits for a slot is also woken by an event.

    An event that comes while the step runs may be lost. The timer is there for that.
    """
    timer = _timer(context, step, seconds)
    if step != SUBMIT:
        yield timer
        return
    yield context.task_any([context.wait_for_external_event(TURN), timer])
    if not timer.is_completed:
        timer.cancel()


def video_lifecycle(context: "df.DurableOrchestrationContext") -> Recipe:
    """The recipe of videos that were started before `video_life` came. It stays until they have
    ended.
    """
    steps = (SUBMIT, CHECK, SAVE)
    first = (context.get_input() or {}).get("step", SUBMIT)
    waits = 10
    failure = None
    for step in steps[steps.index(first) :]:
        outcome = yield _activity(context, step, context.instance_id)
        while "again" in outcome:
            yield _timer(context, step, outcome["again"])
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

    context.set_custom_status({"step": name})
    return context.call_activity_with_retry(name, df.RetryOptions(_RETRY_MILLISECONDS, _RETRY_ATTEMPTS), given)


def _timer(context: "df.DurableOrchestrationContext", step: str, seconds: float) -> Any:
    """A wait before the next run of a step. The status says until when, for the sweep: an
    orchestration that sleeps longer than this is stuck.
    """
    until = context.current_utc_datetime + timedelta(seconds=seconds)
    context.set_custom_status({"step": step, "until": until.isoformat()})
    return context.create_timer(until)


class Orchestrations(Protocol):
    """What the app asks of the engine: start a video's orchestration, and whether it has a living
    one.
    """

    async def start(self, video_id: str) -> None: ...

    async def alive(self, video_id: str) -> bool: ...


class DurableOrchestrations:
    """Orchestrations, and a Waker, over the durable client binding."""

    def __init__(self, client: "df.DurableOrchestrationClient") -> None:
        self._client = client

    async def start(self, video_id: str) -> None:
        await self._start(VIDEO_LIFE, video_id, {"step": SUBMIT})
        await self.keep_watch()

    async def wake(self, video_id: str) -> None:
        """Raises an Exception where it has no orchestration, or one that has ended."""
        await self._client.raise_event(video_id, TURN)

    async def keep_watch(self) -> None:
        """Start the watch, unless it is under way."""
        await self._start(WATCH, WATCH, None)

    async def _start(self, recipe: str, instance: str, given: Any) -> None:
        """Start an orchestration. One that lives already is what was wanted."""
        try:
            await self._client.start_new(recipe, instance, given)
        except Exception as error:
            # The library has no type for it, only the engine's words.
            if "already exists" not in str(error):
                raise

    async def alive(self, video_id: str) -> bool:
        status = await self._client.get_status(video_id)
        state = status.runtime_status
        return state is not None and state.name in ("Running", "Pending", "ContinuedAsNew", "Suspended")
