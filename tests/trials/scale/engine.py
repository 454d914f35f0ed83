"""A small engine in place of Durable Functions: the real recipe, its activities on any instance,
timers, continue-as-new.

It keeps no history, but counts what the real one would write into it: two events an episode, two an
activity, two a timer.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, cast

from shared.clock import Clock
from shared.errors import StorageUnavailable
from shared.storage.tables import WriteConflict
from shared.upkeep.engine import Status
from shared.videos.orchestration import CHECK, FINISH, SUBMIT, TURN, Recipe, step_input, video_life
from shared.videos.step_result import StepResult
from shared.videos.steps import Steps
from tests.trials.scale.tables import PART

_HOP = (0.05, 0.3)  # seconds from one function to the next
# A timer's delay is cut to whole seconds, and its message is found at the next poll.
_GRAIN, _POLLING = 1.0, 1.0


def _activities(steps: Steps) -> Mapping[str, Callable[[Any], Awaitable[Any]]]:
    async def submit(given: Any) -> StepResult:
        told = step_input(given)
        return await steps.submit(told.video, told.due)

    async def check(given: Any) -> StepResult:
        told = step_input(given)
        return await steps.check(told.video, told.due, told.seen)

    return {SUBMIT: submit, CHECK: check, FINISH: steps.finish}


@dataclass(frozen=True)
class _Activity:
    name: str
    given: Any
    attempts: int
    pause: float


@dataclass
class _Timer:
    due: datetime
    is_completed: bool = False

    def cancel(self) -> None:
        assert not self.is_completed, "only a timer that has not fired can be cancelled"


class _Turn:
    """The wait for an event; an event that has come before counts."""


@dataclass(frozen=True)
class _Any:
    timer: _Timer


@dataclass
class _Context:
    """What the recipe uses of a DurableOrchestrationContext."""

    instance_id: str
    clock: Clock
    given: Any
    continued: Any = None

    @property
    def current_utc_datetime(self) -> datetime:
        return self.clock.now()

    def get_input(self) -> Any:
        return self.given

    def create_timer(self, due: datetime) -> _Timer:
        return _Timer(due)

    def wait_for_external_event(self, name: str) -> _Turn:
        assert name == TURN
        return _Turn()

    def task_any(self, tasks: Sequence[Any]) -> _Any:
        (timer,) = (each for each in tasks if isinstance(each, _Timer))
        return _Any(timer)

    def call_activity_with_retry(self, name: str, options: Any, given: Any) -> _Activity:
        return _Activity(name, given, options.max_number_of_attempts, options.first_retry_interval_in_milliseconds / 1000)

    def set_custom_status(self, status: Any) -> None:
        """The sweep asks the engine itself who is alive."""

    def continue_as_new(self, given: Any) -> None:
        self.continued = given


@dataclass
class Engine:
    """`histories` holds the number of events of every execution, `runs` how often each activity
    ran. Of the wake-ups a share of `lost_events` is lost, and as many come twice.
    """

    instances: Sequence[Steps]
    clock: Clock
    random: Random
    runs: Counter[str] = field(default_factory=Counter)
    lost_events: float = 0.0
    woken: int = 0
    retries: int = 0
    timers: int = 0
    ended: int = 0
    episodes: int = 0
    histories: list[int] = field(default_factory=list)
    died: list[str] = field(default_factory=list)
    _living: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _turns: dict[str, asyncio.Event] = field(default_factory=dict)
    _deliveries: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, video_id: str, restarts: int = 0) -> None:
        """Begin a video's orchestration, in the background."""
        if not await self.alive(video_id):
            self._living[video_id] = asyncio.create_task(self._live(video_id))

    async def alive(self, video_id: str) -> bool:
        task = self._living.get(video_id)
        return task is not None and not task.done()

    async def keep_watch(self) -> None:
        """None are started: the simulation looks at what is unfinished by itself."""

    async def status(self, video_id: str) -> Status | None:
        task = self._living.get(video_id)
        return None if task is None else Status(not task.done(), None)

    async def terminate(self, video_id: str) -> None:
        self._living[video_id].cancel()

    async def failed(self) -> Sequence[str]:
        return [video_id for video_id in self.died if not await self.alive(video_id)]

    async def over(self, started_before: datetime) -> Sequence[str]:
        return ()  # it keeps nothing of them

    async def purge(self, video_id: str) -> None:
        raise AssertionError("nothing is over")

    async def idle(self) -> None:
        """Wait until no orchestration is left."""
        while tasks := [task for task in self._living.values() if not task.done()]:
            await asyncio.wait(tasks)

    async def _live(self, video_id: str) -> None:
        context: _Context | None = _Context(video_id, self.clock, {"step": SUBMIT})
        while context is not None:
            recipe = video_life(cast(Any, context))
            try:
                self.histories.append(await self._execute(recipe, self._turns.setdefault(video_id, asyncio.Event())))
            except (WriteConflict, StorageUnavailable):
                self.died.append(video_id)
                return
            given = context.continued
            context = None if given is None else _Context(video_id, self.clock, given)
        self._turns.pop(video_id, None)
        self.ended += 1

    async def wake(self, video_id: str) -> None:
        """Deliver an event, a moment later: unless it is lost, or nobody is there. Some come
        twice.
        """
        self.woken += 1
        copies = self.random.choices((0, 1, 2), (self.lost_events, 1 - 2 * self.lost_events, self.lost_events))[0]
        for _ in range(copies):
            task = asyncio.create_task(self._deliver(video_id))
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)

    async def _deliver(self, video_id: str) -> None:
        await self.clock.sleep(self.random.uniform(*_HOP))
        turn = self._turns.get(video_id)
        if turn is not None:
            turn.set()

    async def _execute(self, recipe: Recipe, turn: asyncio.Event) -> int:
        """One execution, from its input to its end or to continue-as-new; the number of its
        events.
        """
        events, answer = 3, None
        generator: Generator[_Activity | _Timer | _Any, Any, None] = recipe
        while True:
            self.episodes += 1
            try:
                action = generator.send(answer)
            except StopIteration:
                return events
            events += 4
            if isinstance(action, _Timer):
                await self._sleep(action)
                answer = None
            elif isinstance(action, _Any):
                events += 1
                await self._sleep_or_wake(action.timer, turn)
                answer = None
            else:
                answer = await self._act(action)

    async def _sleep(self, timer: _Timer) -> None:
        self.timers += 1
        asked = (timer.due - self.clock.now()).total_seconds()
        await self.clock.sleep(max(asked, 0.0) // _GRAIN * _GRAIN + self.random.uniform(0.0, _POLLING))
        timer.is_completed = True

    async def _sleep_or_wake(self, timer: _Timer, turn: asyncio.Event) -> None:
        sleeping = asyncio.create_task(self._sleep(timer))
        waking = asyncio.create_task(turn.wait())
        await asyncio.wait((sleeping, waking), return_when=asyncio.FIRST_COMPLETED)
        for task in (sleeping, waking):
            task.cancel()
        turn.clear()

    async def _act(self, activity: _Activity) -> Any:
        for attempt in range(activity.attempts):
            self.runs[activity.name] += 1
            await self.clock.sleep(self.random.uniform(*_HOP))
            PART.set(activity.name)
            try:
                answer = await _activities(self.random.choice(self.instances))[activity.name](activity.given)
            except (WriteConflict, StorageUnavailable):
                self.retries += 1
                if attempt == activity.attempts - 1:
                    raise
                await self.clock.sleep(activity.pause)
            else:
                await self.clock.sleep(self.random.uniform(*_HOP))
                return answer
        raise AssertionError("an activity is tried at least once")
