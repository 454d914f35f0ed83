"""Two engines behind one client: Microsoft's extension, and the stand-in of `local`."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from local.durable import Activity, Orchestrator, TaskHub, Timing, rpc
from local.processes import Child
from shared.clock import SystemClock
from tests.trials.engine.worker import PREFIX, Worker

HUB = "EngineTrial"
HOLD = 60.0  # seconds: the shortest visibility time-out that the control queue takes
HOST = {
    "version": "2.0",
    "extensions": {
        "durableTask": {
            "hubName": "%TASK_HUB%",
            "storageProvider": {
                "type": "AzureStorage",
                "connectionName": "AzureWebJobsStorage",
                "partitionCount": 1,
                "maxQueuePollingInterval": "00:00:01",
                "controlQueueVisibilityTimeout": "00:01:00",
                "workItemQueueVisibilityTimeout": "00:01:00",
            },
        }
    },
}
TIMING = Timing(longest_poll=1.0, hold_orchestration=HOLD, hold_activity=HOLD)  # the same for the stand-in


@dataclass(frozen=True)
class Engine:
    """`binding` is what a `durableClient` argument gets."""

    name: str
    binding: str


@asynccontextmanager
async def served(routes: list[web.RouteDef]) -> AsyncIterator[str]:
    """The origin of a loopback server with these routes."""
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def real(
    binary: Path,
    folder: Path,
    storage: str,
    *,
    host_json: Path,
    orchestrators: Mapping[str, Orchestrator],
    activities: Mapping[str, Activity],
) -> AsyncIterator[Engine]:
    """The extension in a process of its own, its functions in this one."""
    worker = Worker(orchestrators, activities)
    async with served(worker.routes()) as origin:
        child = await start(
            binary,
            folder,
            storage,
            host_json=host_json,
            origin=origin,
            orchestrators=orchestrators,
            activities=activities,
        )
        try:
            await child.says(r"^READY", patience=60)
            yield Engine("real", worker.binding)
        finally:
            await child.stop(grace=5)


async def start(
    binary: Path,
    folder: Path,
    storage: str,
    *,
    host_json: Path,
    origin: str,
    orchestrators: Iterable[str],
    activities: Iterable[str],
) -> Child:
    """The extension's process; it is ready when it has said so."""
    environment = {
        "AzureWebJobsStorage": storage,
        "TASK_HUB": HUB,
        "HOST_JSON": str(host_json),
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "WORKER_URL": f"{origin}{PREFIX}",
        "ORCHESTRATORS": ",".join(orchestrators),
        "ACTIVITIES": ",".join(activities),
        "DOTNET_BUNDLE_EXTRACT_BASE_DIR": str(_unpacked()),
    }
    return await Child.start("The engine", [binary], log=folder / "engine.log", environment=environment)


def _unpacked() -> Path:
    """Where the engine's file unpacks itself, once for each user."""
    given = os.environ.get("DOTNET_BUNDLE_EXTRACT_BASE_DIR")
    return Path(given) if given else Path(tempfile.gettempdir()) / f"durable-engine-{os.getuid()}"


@asynccontextmanager
async def stand_in(
    folder: Path, orchestrators: Mapping[str, Orchestrator], activities: Mapping[str, Activity]
) -> AsyncIterator[Engine]:
    """The task hub in this process, with the real one's times."""
    hub = TaskHub(folder / "durable.sqlite", HUB, orchestrators, activities, SystemClock(), timing=TIMING)
    async with AsyncExitStack() as running:
        origin = await running.enter_async_context(served(rpc.routes(hub)))
        task = asyncio.create_task(hub.run())
        try:
            yield Engine("stand-in", rpc.client_binding(HUB, origin))
        finally:
            task.cancel()
            await asyncio.wait([task])
