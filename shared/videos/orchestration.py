"""A video's life as a durable orchestration, and what the app asks of Durable Functions.

The instance id is the video id. The generator must stay deterministic: it uses names, constants and
the context only. Changing the order or number of its actions breaks running instances, so a changed
recipe gets a new name, and the old one stays until its instances have ended.
"""

import json
from collections.abc import Generator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from shared.clock import Clock, SystemClock
from shared.events.couriers import COURIER, MAIL, instance_of
from shared.videos.step_result import Seen
from shared.videos.watch import WATCH, WATCHES, next_watch

if TYPE_CHECKING:
    import azure.durable_functions as df

VIDEO_LIFE = "video_life"
VIDEO_LIFECYCLE = "video_lifecycle"  # the former recipe: nothing is started with it any more
SUBMIT, CHECK, SAVE, FINISH, LEAVE = "submit", "check", "save", "finish", "leave"
STEPS = (SUBMIT, CHECK)
TURN = "turn"  # the event that wakes a video that waits for a slot
LIVING = ("Pending", "Running", "ContinuedAsNew", "Suspended")  # states of an orchestration that has not ended

# A step raises if storage does not answer. After so many attempts the orchestration fails, and the
# sweep restarts it.
_RETRY_MILLISECONDS, _RETRY_ATTEMPTS = 5_000, 6
# The engine replays the whole history at every step, so the cost grows with the square of its
# length. After so many waits the orchestration starts anew.
_WAITS_PER_EXECUTION = 8

Recipe = Generator[Any, Any, None]


def video_life(context: "df.DurableOrchestrationContext") -> Recipe:
    """Submit (wait while there is no capacity), check until the bytes are stored, finish."""
    given = context.get_input() or {}
    waits = _WAITS_PER_EXECUTION
    outcome, failure = given.get("outcome"), None
    for step in STEPS[STEPS.index(given.get("step", SUBMIT)) :]:
        outcome = outcome or (yield _step(context, step))
        while "again" in outcome:
            due = yield from _wait(context, step, outcome["again"])
            outcome = yield _step(context, step, due, outcome.get("seen"))
            waits -= 1
            # Continue only after a step. Right after the wait, the engine would hand the event that
            # ended the wait to the next execution too.
            if waits <= 0 and "again" in outcome:
                context.continue_as_new({"step": step, "outcome": outcome})
                return
        if "resubmit" in outcome:
            context.continue_as_new({"step": SUBMIT})
            return
        failure = outcome.get("failed")
        if failure:
            break
        outcome = None
    yield from _end(context, failure)


def _end(context: "df.DurableOrchestrationContext", failure: Any) -> Recipe:
    """Finish. The host writes the video's manifest when that step has returned, so only a step
    after it can know that it was written.
    """
    has_manifest = yield _activity(context, FINISH, {"video": context.instance_id, "failure": failure})
    if has_manifest:
        yield _activity(context, LEAVE, context.instance_id)


def _wait(context: "df.DurableOrchestrationContext", step: str, seconds: float) -> Generator[Any, Any, datetime | None]:
    """Wait for `seconds`. A video that waits for a slot can also be woken by an event. Returns when
    the step is due, None if it is due at once.

    An event that arrives while the step runs may be lost; then the timer ends the wait.
    """
    due: datetime = context.current_utc_datetime + timedelta(seconds=seconds)
    timer = _timer(context, step, due)
    if step != SUBMIT:
        yield timer
        return due
    yield context.task_any([context.wait_for_external_event(TURN), timer])
    if timer.is_completed:
        return due
    timer.cancel()
    return None


def video_lifecycle(context: "df.DurableOrchestrationContext") -> Recipe:
    """The former recipe, for videos that were started before `video_life` existed. It stays until
    they have ended.
    """
    steps = (SUBMIT, CHECK, SAVE)
    first = (context.get_input() or {}).get("step", SUBMIT)
    waits = 10
    failure = None
    for step in steps[steps.index(first) :]:
        outcome = yield _activity(context, step, context.instance_id)
        while "again" in outcome:
            yield _timer(context, step, context.current_utc_datetime + timedelta(seconds=outcome["again"]))
            waits -= 1
            if waits == 0:
                context.continue_as_new({"step": step})
                return
            outcome = yield _activity(context, step, context.instance_id)
        if "resubmit" in outcome:
            context.continue_as_new({"step": SUBMIT})
            return
        failure = outcome.get("failed")
        if failure:
            break
    yield from _end(context, failure)


def _step(context: "df.DurableOrchestrationContext", name: str, due: datetime | None = None, seen: Seen | None = None) -> Any:
    given = {"video": context.instance_id, "due": due.isoformat() if due else None}
    return _activity(context, name, {**given, "seen": seen} if seen else given)


class StepInput(msgspec.Struct, frozen=True):
    """The video that a step is for, when it is due (None for at once), and what its last run has
    seen.
    """

    video: str
    due: datetime | None
    seen: Seen | None


def step_input(given: Any) -> StepInput:
    """A step's input. `video_lifecycle` gives only the video id, as text."""
    if isinstance(given, str):
        return StepInput(given, None, None)
    due = datetime.fromisoformat(given["due"]) if given["due"] else None
    return StepInput(given["video"], due, given.get("seen"))


def restarts_of(given: Any) -> int:
    """How many of a video's orchestrations in a row had failed before the one with this input was
    started; 0 once it has started anew by itself.
    """
    known = json.loads(given) if isinstance(given, str) else given  # the engine returns it as text
    return int(known.get("restarts", 0)) if isinstance(known, dict) else 0


def _activity(context: "df.DurableOrchestrationContext", name: str, given: Any) -> Any:
    import azure.durable_functions as df

    context.set_custom_status({"step": name})
    return context.call_activity_with_retry(name, df.RetryOptions(_RETRY_MILLISECONDS, _RETRY_ATTEMPTS), given)


def _timer(context: "df.DurableOrchestrationContext", step: str, due: datetime) -> Any:
    """A timer before the next run of a step. The custom status tells its end, so that the sweep can
    see that an orchestration sleeps longer and is stuck.
    """
    context.set_custom_status({"step": step, "until": due.isoformat()})
    return context.create_timer(due)


class Orchestrations(Protocol):
    """What a create asks of the engine: start a video's orchestration, and say whether it has a
    living one.
    """

    async def start(self, video_id: str, restarts: int = 0) -> None: ...

    async def alive(self, video_id: str) -> bool: ...


class DurableOrchestrations:
    """Orchestrations, Waker and Summoner, implemented by the durable client binding."""

    def __init__(self, client: "df.DurableOrchestrationClient", clock: Clock | None = None) -> None:
        self._client = client
        self._clock = clock or SystemClock()

    async def start(self, video_id: str, restarts: int = 0) -> None:
        """Start a video's orchestration, and one watch: its look starts the other. `restarts` is
        how many orchestrations of the video in a row have failed before this one.
        """
        await self._start(VIDEO_LIFE, video_id, {"step": SUBMIT, "restarts": restarts})
        await self._start(WATCH, next_watch(self._clock.now()), None)

    async def wake(self, video_id: str) -> None:
        """Send the event TURN. Raises Exception if the video has no living orchestration."""
        await self._client.raise_event(video_id, TURN)

    async def summon(self, destination: str) -> None:
        """Send the event MAIL to a destination's courier, or start one."""
        try:
            await self._client.raise_event(instance_of(destination), MAIL)
        except Exception:  # the library raises a plain Exception if none runs
            await self._start(COURIER, instance_of(destination), destination)

    async def keep_watch(self) -> None:
        """Start the two watches, unless they run already."""
        for watch in WATCHES:
            await self._start(WATCH, watch, None)

    async def _start(self, recipe: str, instance: str, given: Any) -> None:
        """Start an orchestration, unless it runs already."""
        try:
            await self._client.start_new(recipe, instance, given)
        except Exception as error:
            # The library raises a plain Exception with the engine's text.
            if "already exists" not in str(error):
                raise

    async def alive(self, video_id: str) -> bool:
        status = await self._client.get_status(video_id)
        state = status.runtime_status
        return state is not None and state.name in LIVING
