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
from shared.videos.lifecycle import Lifecycle
from shared.videos.orchestration import CHECK, FINISH, SAVE, SUBMIT, Recipe, video_lifecycle
from shared.videos.rendering import Rendering
from shared.videos.submission import Submission
from tests.trials.scale.tables import PART

_HOP = (0.05, 0.3)  # seconds from one function to the next
_TIMER_LATE = (0.0, 0.5)

Steps = Mapping[str, Callable[[Any], Awaitable[Any]]]


@dataclass(frozen=True)
class Instance:
    """One worker's gateway, as far as activities use it."""

    submission: Submission
    rendering: Rendering
    lifecycle: Lifecycle

    @property
    def steps(self) -> Steps:
        return {
            SUBMIT: self.submission.submit,
            CHECK: self.rendering.check,
            SAVE: self.rendering.save,
            FINISH: lambda outcome: self.lifecycle.finish(outcome["video"], outcome["failure"]),
        }


@dataclass(frozen=True)
class _Activity:
    name: str
    given: Any
    attempts: int
    pause: float


@dataclass(frozen=True)
class _Timer:
    due: datetime


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

    def call_activity_with_retry(self, name: str, options: Any, given: Any) -> _Activity:
        return _Activity(name, given, options.max_number_of_attempts, options.first_retry_interval_in_milliseconds / 1000)

    def continue_as_new(self, given: Any) -> None:
        self.continued = given


@dataclass
class Engine:
    """`histories` holds the number of events of every execution, `runs` how often each activity
    ran.
    """

    instances: Sequence[Instance]
    clock: Clock
    random: Random
    runs: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    timers: int = 0
    ended: int = 0
    episodes: int = 0
    histories: list[int] = field(default_factory=list)
    died: list[str] = field(default_factory=list)
    _living: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def start(self, video_id: str) -> None:
        """Begin a video's orchestration, in the background."""
        if not await self.alive(video_id):
            self._living[video_id] = asyncio.create_task(self._live(video_id))

    async def alive(self, video_id: str) -> bool:
        task = self._living.get(video_id)
        return task is not None and not task.done()

    async def idle(self) -> None:
        """Wait until no orchestration is left."""
        while tasks := [task for task in self._living.values() if not task.done()]:
            await asyncio.wait(tasks)

    async def _live(self, video_id: str) -> None:
        context: _Context | None = _Context(video_id, self.clock, {"step": SUBMIT})
        while context is not None:
            recipe = video_lifecycle(cast(Any, context))
            try:
                self.histories.append(await self._execute(recipe))
            except (WriteConflict, StorageUnavailable):
                self.died.append(video_id)
                return
            given = context.continued
            context = None if given is None else _Context(video_id, self.clock, given)
        self.ended += 1

    async def _execute(self, recipe: Recipe) -> int:
        """One execution, from its input to its end or to continue-as-new; the number of its
        events.
        """
        events, answer = 3, None
        generator: Generator[_Activity | _Timer, Any, None] = recipe
        while True:
            self.episodes += 1
            try:
                action = generator.send(answer)
            except StopIteration:
                return events
            events += 4
            if isinstance(action, _Timer):
                self.timers += 1
                late = self.random.uniform(*_TIMER_LATE)
                await self.clock.sleep((action.due - self.clock.now()).total_seconds() + late)
                answer = None
            else:
                answer = await self._act(action)

    async def _act(self, activity: _Activity) -> Any:
        for attempt in range(activity.attempts):
            self.runs[activity.name] += 1
            await self.clock.sleep(self.random.uniform(*_HOP))
            PART.set(activity.name)
            try:
                answer = await self.random.choice(self.instances).steps[activity.name](activity.given)
            except (WriteConflict, StorageUnavailable):
                self.retries += 1
                if attempt == activity.attempts - 1:
                    raise
                await self.clock.sleep(activity.pause)
            else:
                await self.clock.sleep(self.random.uniform(*_HOP))
                return answer
        raise AssertionError("an activity is tried at least once")
