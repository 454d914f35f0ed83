"""The stand-in for the Azure Functions host: one app, served from one process.

Several hosts may share a data directory, as instances of one app share their storage:
orchestrations are leased by the task hub, timers are run by one host at a time, and queue messages
go to whoever takes them. Everything that has to outlive a kill is in that directory or in the
storage account.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import azure.functions as func
from aiohttp import web
from azure.functions.durable_functions import ActivityTriggerConverter
from azure.functions.meta import Datum

from local.durable import Activity, Orchestrator, TaskHub, Timing, rpc
from local.functions_host.access import Tell, access_lines
from local.functions_host.durations import seconds
from local.functions_host.functions import Function, Functions
from local.functions_host.invocation import Invoker
from local.functions_host.queues import QueueListener
from local.functions_host.sdk_session import sdk_session
from local.functions_host.timers import Timer
from local.functions_host.web import Front
from local.functions_host.wire import answering, listen
from shared.clock import Clock

_ADDRESS = "127.0.0.1"
_DRAIN_SECONDS = 5.0


class Host:
    """Serves `functions` at `url` between `async with` and its end; what must survive is kept in
    the folder `data`.

    `port` 0 is any free one; `timing` is the engine's, by default host.json's; `tell` gets a line
    for each request. If a part of the host fails, the `async with` block is cancelled and the
    failure raised from it. The constructor raises LoadError for an app that cannot be served;
    entering raises OSError if the port is taken.
    """

    def __init__(
        self,
        functions: Functions,
        data: Path,
        clock: Clock,
        *,
        port: int = 0,
        http_concurrency: int = 100,
        timing: Timing | None = None,
        tell: Tell | None = None,
    ) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self.url = ""
        self._port = port
        self._tell = tell
        self._invoker = Invoker(functions, lambda: rpc.client_binding(self.hub.name, self.url))
        self.hub = self._task_hub(functions, data / "durable.sqlite", clock, timing)
        self._front = Front(functions, self._invoker, http_concurrency)
        timers = [Timer(function, self._invoker, data / "timers", clock) for function in functions.triggered_by("timerTrigger")]
        queues = [
            QueueListener(function, functions, self._invoker, clock) for function in functions.triggered_by("queueTrigger")
        ]
        self._workers: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self.hub.run,
            *(timer.run for timer in timers),
            *(listener.run for listener in queues),
        ]
        self._running = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as running:
            await running.enter_async_context(sdk_session())
            running.push_async_callback(self.hub.close)  # what requests opened before the hub ran, or after
            server, listener = await self._listen()
            self.url = f"http://{_ADDRESS}:{listener.sockets[0].getsockname()[1]}"
            group = await running.enter_async_context(asyncio.TaskGroup())
            tasks = [group.create_task(worker()) for worker in self._workers]
            running.callback(lambda: [task.cancel() for task in tasks])
            running.push_async_callback(server.cleanup)  # comes first: open requests are answered while all else runs
            running.callback(listener.close)
            self._running = running.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return await self._running.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if group.exceptions == (error,):
                return False  # nothing of the host's has failed: the block's own error goes on as it is
            raise

    async def _listen(self) -> tuple[web.AppRunner, asyncio.Server]:
        application = answering(self._front.handle, rpc.routes(self.hub))
        if self._tell is not None:
            application.middlewares.append(access_lines(self._tell))
        server = web.AppRunner(application, shutdown_timeout=_DRAIN_SECONDS)
        await server.setup()
        try:
            return server, await listen(server, _ADDRESS, self._port)
        except OSError:
            await server.cleanup()
            raise

    def _task_hub(self, functions: Functions, file: Path, clock: Clock, timing: Timing | None) -> TaskHub:
        options = functions.extension("durableTask")
        return TaskHub(
            file,
            options.get("hubName", "TestHubName"),  # the extension's own default
            orchestrators(functions),
            activities(functions, self._invoker),
            clock,
            max_orchestrations=int(options.get("maxConcurrentOrchestratorFunctions", 5)),
            max_activities=int(options.get("maxConcurrentActivityFunctions", 10)),
            timing=timing or timing_of(functions),
        )


def timing_of(functions: Functions) -> Timing:
    """The engine's times as host.json sets them, the extension's defaults for the rest."""
    given = functions.extension("durableTask").get("storageProvider", {})
    names = {
        "longest_poll": "maxQueuePollingInterval",
        "hold_orchestration": "controlQueueVisibilityTimeout",
        "hold_activity": "workItemQueueVisibilityTimeout",
    }
    return Timing(**{field: seconds(given[name]) for field, name in names.items() if name in given})


def orchestrators(functions: Functions) -> dict[str, Orchestrator]:
    """The app's orchestrators, by the names that its recipes use."""
    declared = functions.triggered_by("orchestrationTrigger")
    return {_durable_name(function, "orchestration"): _orchestrator(function) for function in declared}


def activities(functions: Functions, invoker: Invoker) -> dict[str, Activity]:
    """The app's activities, likewise."""
    declared = functions.triggered_by("activityTrigger")
    return {_durable_name(function, "activity"): _activity(function, invoker) for function in declared}


def _durable_name(function: Function, key: str) -> str:
    """What orchestrators call it: the name given in the decorator, or the function's own."""
    name: str = function.trigger.properties.get(key) or function.name
    return name


def _activity(function: Function, invoker: Invoker) -> Activity:
    """Takes the instance's id and the input's JSON, returns the result's JSON; the worker's own
    converter does both.
    """

    async def run(instance: str, given: str) -> str:
        argument = ActivityTriggerConverter.decode(Datum(given, "string"), trigger_metadata=None)
        result = await invoker.call(function, argument, {"instanceId": instance})
        encoded: str = ActivityTriggerConverter.encode(result, expected_type=None).value
        return encoded

    return run


def _orchestrator(function: Function) -> Orchestrator:
    """Takes the trigger's JSON payload, returns the state's JSON."""

    def run(payload: str) -> str:
        state: str = function.call(**{function.trigger.name: func.OrchestrationContext(payload)})
        return state

    return run
