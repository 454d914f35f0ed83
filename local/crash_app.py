"""Apps that can be killed and started again in no time: `python -m local.crash_app`, driven by `local.crash_site`.

This process loads everything once and never does anything else; every line on its standard input is an order, for which it
forks a process that serves the real app in the local host. It says in lines of JSON: {"pid"}, {"url"}, and at last {"ended"}.
"""

import asyncio
import ctypes
import json
import logging
import os
import signal
import sys
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import azure.data.tables.aio
import azure.durable_functions as df
import azure.storage.blob.aio
import httpx
import msgspec

from local.crash_points import Death, Passages, step
from local.functions import load
from local.host import Host
from local.tethered import PR_SET_PDEATHSIG
from shared.clock import SystemClock
from shared.gateway import Gateway, current
from shared.orchestration import DurableOrchestrations
from shared.sweep import EVERY, Sweep

PRELOADED = (azure.data.tables.aio, azure.storage.blob.aio, httpx)  # what the app loads late, and every fork would load again
LEASE_SECONDS = 0.6
_LATER = timedelta(minutes=15)  # more than the sweep's patience with anything


class Order(msgspec.Struct, frozen=True):
    """Serve the app with these settings, its data in `folder`, until killed; `death` says when it kills itself."""

    folder: str
    settings: dict[str, str]
    death: Death | None


@dataclass(frozen=True)
class _Later:
    """Implements `shared.clock.Clock`: the first minutes of an hour to come, when the sweep looks at everything."""

    def now(self) -> datetime:
        later = SystemClock().now() + _LATER
        return (later + timedelta(hours=1)).replace(minute=0) if later.minute >= EVERY.total_seconds() / 60 else later

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def main() -> None:
    __import__("function_app")
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
    Passages(folder / "passages", order.death).watch()
    asyncio.run(_serve(folder))
    os._exit(0)


async def _serve(folder: Path) -> None:
    """Serve until killed. SIGUSR1 is the sweep's timer."""
    gateway = current()
    async with Host(load("function_app"), folder, SystemClock(), lease_seconds=LEASE_SECONDS) as host:
        orchestrations = DurableOrchestrations(df.DurableOrchestrationClient(host.hub.client_binding(host.url)))
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
        _say(url=host.url)
        while True:
            await told.wait()
            told.clear()
            await _sweep(gateway, orchestrations)


async def _sweep(gateway: Gateway, orchestrations: DurableOrchestrations) -> None:
    async with step("sweep"):
        try:
            await Sweep(replace(gateway, clock=_Later()), orchestrations).run()
        except Exception:
            logging.exception("the sweep failed")  # as in Azure, its next run is its next chance


def _say(**words: object) -> None:
    os.write(1, f"{json.dumps(words)}\n".encode())


if __name__ == "__main__":
    main()
