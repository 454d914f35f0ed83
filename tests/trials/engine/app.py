"""The real app in a process of its own: `python -m tests.trials.engine.app real|stand-in FOLDER`.

Its settings come from the environment. It says where it is in a line of JSON, and serves until
killed. With the real engine it runs every function, and the engine calls it.
"""

import asyncio
import json
import logging
import sys
from pathlib import Path

from aiohttp import web

from local.functions_host.functions import Functions, load
from local.functions_host.host import Host, activities, orchestrators
from local.functions_host.invocation import Invoker
from local.functions_host.timers import Timer
from local.functions_host.web import Front
from shared.clock import SystemClock
from tests.trials.engine.engines import TIMING, served
from tests.trials.engine.worker import Worker


async def main(kind: str, folder: Path) -> None:
    functions = load("function_app")
    if kind == "stand-in":
        async with Host(functions, folder, SystemClock(), timing=TIMING) as host:
            await _serve(host.url, functions)
    worker = Worker({}, {})
    invoker = Invoker(functions, lambda: worker.binding)
    worker.orchestrators, worker.activities = orchestrators(functions), activities(functions, invoker)
    front = web.route("*", "/{path:.*}", Front(functions, invoker, 100).handle)
    async with served([*worker.routes(), front]) as url, asyncio.TaskGroup() as group:
        group.create_task(_serve(url, functions))
        await worker.bound.wait()  # the sweep asks the engine
        for function in functions.triggered_by("timerTrigger"):
            group.create_task(Timer(function, invoker, folder / "timers", SystemClock()).run())


async def _serve(url: str, functions: Functions) -> None:
    """Say where the app is and what the engine may call, and go on until killed."""
    called = {"orchestrators": list(orchestrators(functions))}
    called["activities"] = [function.name for function in functions.triggered_by("activityTrigger")]
    print(json.dumps({"url": url, **called}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
