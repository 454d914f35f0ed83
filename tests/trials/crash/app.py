"""Apps that can be killed and started again in no time: `python -m tests.trials.crash.app`, driven
by `tests.trials.crash.lab`.

This process loads everything once and never does anything else; every line on its standard input is
an order, for which it forks a process that serves the real app in the local host. It says in lines
of JSON: {"pid"}, {"url"}, and at last {"ended"}.
"""

import asyncio
import ctypes
import functools
import gc
import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import azure.core.rest._aiohttp
import azure.durable_functions as df
import azure.storage.blob.aio
import httpcore
import httpx
import msgspec
import yaml

from local.durable import Timing, rpc
from local.functions_host import queues
from local.functions_host.functions import load
from local.functions_host.host import Host, timing_of
from local.tethered import PR_SET_PDEATHSIG
from shared import gateway as composition
from shared.config import settings
from shared.gateway import Gateway
from shared.routes import video_requests
from shared.upkeep import sweep
from shared.upkeep.engine import DurableEngine, Status
from shared.upkeep.sweep import EVERY, Sweep
from shared.upstream.identity import Connections
from shared.videos import heartbeats, watch
from shared.videos.orchestration import DurableOrchestrations
from tests.trials.crash.clock import HURRY, FastClock, Later
from tests.trials.crash.points import Death, Passages, step
from tests.trials.crash.terms import REQUESTS, Wakes

PRELOADED = (  # what the app loads late, and every fork would load again
    *(azure.core.rest._aiohttp, azure.storage.blob.aio, httpcore, yaml),
    __import__("anyio._backends._asyncio"),
    __import__("_strptime"),
)
# Exact timers, in the matrix's seconds. A started app has to wait for what a dead one held, and
# nobody else serves it; it looks around as often as in life.
TIMING = Timing(grain=0.0, shortest_poll=0.05 * HURRY, longest_poll=0.2 * HURRY, hold_orchestration=4.0, hold_activity=4.0)
_LATE = 20.0  # of the matrix's seconds: when the video that it was for waits again, runs, or is done
WATCHED, PATIENCE, SIGNS = watch.EVERY, sweep.PATIENCE, heartbeats.EVERY  # as they are in life
SWEPT = "swept"  # a file that grows by one byte with every sweep that has come to its end


class LaterEngine(DurableEngine):
    """The engine as a sweep sees it whose time is ahead of the engine's, and of signs of life."""

    def __init__(self, client: df.DurableOrchestrationClient, signs: heartbeats.Heartbeats, later: Later) -> None:
        super().__init__(client)
        self.signs = signs
        self.later = later

    async def status(self, video_id: str) -> Status | None:
        told = await super().status(video_id)
        if told is None or told.due is None:
            return told
        beat = await self.signs.last(video_id)
        ahead = self.later.now() - self.later.clock.now()
        return msgspec.structs.replace(told, due=max(told.due, beat or told.due) + ahead)


class Order(msgspec.Struct, frozen=True):
    """Serve the app with these settings, its data in `folder`, until killed; `death` says when it
    kills itself.

    Its time `began` then; its sweeps see everything as it will be `later` seconds after that.
    `wakes` is what becomes of its wake-ups. `as_in_azure`, its engine has Azure's time-outs, and
    the watch looks as it does there.
    """

    folder: str
    settings: dict[str, str]
    death: Death | None
    began: float
    later: float
    wakes: Wakes = "sent"
    hurry: float = HURRY
    as_in_azure: bool = False


def main() -> None:
    __import__("function_app")
    # Reading the world's certificates takes longer than all else that a start does, and nobody here
    # has one.
    cached = functools.cache(httpx._config.create_ssl_context)
    setattr(httpx._transports.default, "create_ssl_context", cached)  # noqa: B010 - mypy wants no import assigned
    httpx.AsyncClient(trust_env=False)
    # The matrix says itself when the sweep looks. Few of its steps take half a second of ours.
    watch.EVERY, heartbeats.EVERY = timedelta(days=1), 0.5
    # A busy machine takes seconds for what takes one in life, and they count for twenty here.
    sweep.PATIENCE = timedelta(seconds=6 * HURRY)
    gc.collect()
    gc.freeze()  # or every fork would copy all of it, only to look through it
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _live(msgspec.json.decode(line, type=Order))
        _say(pid=pid)
        _, status = os.waitpid(pid, 0)
        _say(ended=os.waitstatus_to_exitcode(status))


def _live(order: Order) -> None:
    """The rest of a forked process's life."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    folder = Path(order.folder)
    logging.basicConfig(filename=folder / "app.log", level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    os.environ.update(order.settings)
    setattr(Connections, "token", _token)  # noqa: B010 - mypy wants no method assigned
    if REQUESTS in order.settings:
        importlib.reload(sys.modules["function_app"])  # only now it has a trigger of the queue
        # A dead app holds its message for so many of our seconds: storage counts them.
        queues.HOLD_SECONDS = 2
        video_requests._SHORTEST_PAUSE = video_requests._LONGEST_PAUSE = 1
    _disturb(order.wakes)
    if order.as_in_azure:
        watch.EVERY, sweep.PATIENCE, heartbeats.EVERY = WATCHED, PATIENCE, SIGNS / order.hurry
    Passages(folder / "passages", order.death).watch()
    asyncio.run(_serve(folder, order))
    os._exit(0)


async def _token(_: Connections, scope: str, *, renew: bool = False) -> str:
    """This machine has no identity."""
    del renew
    return f"a token for {scope}"


def _disturb(wakes: Wakes) -> None:
    """Have every wake-up come to this."""
    wake = DurableOrchestrations.wake
    late: set[asyncio.Task[None]] = set()

    async def disturbed(engine: DurableOrchestrations, video_id: str) -> None:
        if wakes == "late":
            late.add(asyncio.create_task(_later(wake(engine, video_id))))
            return
        for _ in range({"sent": 1, "lost": 0, "doubled": 2}[wakes]):
            await wake(engine, video_id)

    setattr(DurableOrchestrations, "wake", disturbed)  # noqa: B010 - mypy wants no method assigned


async def _later(waking: Awaitable[None]) -> None:
    await asyncio.sleep(_LATE / HURRY)
    with suppress(Exception):  # whom it was for may have gone on, and ended, without it
        await waking


async def _serve(folder: Path, order: Order) -> None:
    """Serve until killed. SIGUSR1 is the sweep's timer."""
    clock = FastClock(order.began, order.hurry)
    functions = load("function_app")
    configured = timing_of(functions)  # host.json's; no hub looks around oftener than it can in our time
    configured = replace(configured, shortest_poll=configured.shortest_poll * order.hurry)
    timing = configured if order.as_in_azure else TIMING
    gateway = composition.build(settings.load(), clock)
    composition._gateways[asyncio.get_running_loop()] = gateway  # before the first function asks for one with a slower clock
    async with Host(functions, folder, clock, timing=timing) as host:
        client = df.DurableOrchestrationClient(rpc.client_binding(host.hub.name, host.url))
        later = Later(clock, timedelta(seconds=order.later), minutes=EVERY.total_seconds() / 60)
        orchestrations = LaterEngine(client, gateway.heartbeats, later)
        gateway.go_through(orchestrations)
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
        _say(url=host.url)
        while True:
            await told.wait()
            told.clear()
            asks = msgspec.structs.replace(gateway.equal_asks, clock=later)
            await _sweep(msgspec.structs.replace(gateway, clock=later, equal_asks=asks), orchestrations)
            with (folder / SWEPT).open("ab") as ended:
                ended.write(b".")


async def _sweep(gateway: Gateway, orchestrations: DurableEngine) -> None:
    async with step("sweep"):
        try:
            await Sweep(gateway, orchestrations).run()
        except Exception:
            logging.exception("the sweep failed")  # as in Azure, its next run is its next chance


def _say(**words: object) -> None:
    os.write(1, f"{json.dumps(words)}\n".encode())


if __name__ == "__main__":
    main()
