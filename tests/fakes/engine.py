"""A task hub under test: the real SDK replays, the clock is virtual, and the test says when and how
each activity ends.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import azure.functions as func

from local.durable import Orchestrator, TaskHub, Timing
from local.durable.status import Status
from local.durable.timing import PROMPT
from tests.fakes.clock import VirtualClock

Generate = Callable[[Any], Generator[Any, Any, Any]]
START = datetime(2026, 1, 1, tzinfo=UTC)
FINAL = ("Completed", "Failed", "Terminated")


def orchestrator(generate: Generate) -> Orchestrator:
    """`generate` as the host calls it: through the SDK, JSON in and JSON out."""
    handle = df.Orchestrator.create(generate)

    def call(body: str) -> str:
        state: str = handle(func.OrchestrationContext(body))
        return state

    return call


class Call:
    """An activity that was started and waits for the test to end it."""

    def __init__(self, name: str, input_: str) -> None:
        self.name = name
        self.input = input_
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def returns(self, value: Any) -> None:
        self.outcome.set_result(json.dumps(value))

    def raises(self, failure: Exception) -> None:
        self.outcome.set_exception(failure)


class Rig:
    """A hub that runs `flows` (by name). Functions in `activities` wait for the test, those in
    `instant` answer at once. Timers are exact unless another `timing` is given.
    """

    def __init__(
        self,
        path: Path,
        clock: VirtualClock,
        flows: dict[str, Generate],
        activities: tuple[str, ...] = (),
        instant: dict[str, Callable[[Any], Any]] | None = None,
        *,
        timing: Timing = PROMPT,
        **options: Any,
    ) -> None:
        self.clock = clock
        self.answers: list[str] = []
        self.payloads: list[dict[str, Any]] = []
        self._calls: asyncio.Queue[Call] = asyncio.Queue()
        named = {name: self._scripted(name) for name in activities}
        named |= {name: self._instant(work) for name, work in (instant or {}).items()}
        recorded = {name: self._recorded(orchestrator(flow)) for name, flow in flows.items()}
        self.hub = TaskHub(path / "hub.db", "hub1", recorded, named, clock, timing=timing, **options)

    async def called(self) -> Call:
        """The next activity that was started."""
        return await asyncio.wait_for(self._calls.get(), 10)

    def nothing_called(self) -> bool:
        return self._calls.empty()

    async def until(self, instance: str, condition: Callable[[Status], bool]) -> Status:
        """The instance's status, once `condition` holds for it. It has ten seconds of real time,
        and needs milliseconds.
        """
        async with asyncio.timeout(10):
            while True:
                status = await self.hub.status(instance)
                if status is not None and condition(status):
                    return status

    async def ended(self, instance: str) -> Status:
        return await self.until(instance, lambda status: status["runtimeStatus"] in FINAL)

    async def noted(self, instance: str, kind: int, times: int = 1) -> None:
        """Wait until the history has so many events of a kind, in an episode that is over."""
        async with asyncio.timeout(10):
            while True:
                await self.hub.status(instance)
                if self.kinds(instance).count(kind) >= times:
                    return

    def kinds(self, instance: str) -> list[int]:
        """The event types in the instance's history."""
        return [each["EventType"] for each in self.hub.history(instance)]

    def _recorded(self, call: Orchestrator) -> Orchestrator:
        def recorded(body: str) -> str:
            self.payloads.append(json.loads(body))
            state = call(body)
            self.answers.append(state)
            return state

        return recorded

    def _scripted(self, name: str) -> Callable[[str, str], Any]:
        async def activity(instance: str, input_: str) -> str:
            call = Call(name, input_)
            self._calls.put_nowait(call)
            return await call.outcome

        return activity

    def _instant(self, work: Callable[[Any], Any]) -> Callable[[str, str], Any]:
        async def activity(instance: str, input_: str) -> str:
            return json.dumps(work(json.loads(input_)))

        return activity


Serve = Callable[..., Awaitable[Rig]]  # a hub with these flows, which runs


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    """Run the rig's hub for the duration of the block; its own failure becomes the block's."""
    task = asyncio.create_task(rig.hub.run())
    try:
        yield rig
    finally:
        if not task.done():
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
