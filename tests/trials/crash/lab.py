"""Where crash runs take place: storage, which survives, and a launcher of apps, which do not."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from local.azurite import Azurite
from local.processes import ChildError
from local.simulator.film import Scene, Studio
from tests.trials.crash.app import Order

_CHECKOUT = Path(__file__).parents[3]
_TETHER = _CHECKOUT / "local" / "tethered.py"
_PATIENCE = 60.0  # seconds for a process to start on a busy machine


@dataclass
class App:
    """A started app. `url` is None where it died before it served; `ended` is done when it
    is dead.
    """

    pid: int
    url: str | None
    ended: "asyncio.Task[int]"

    def sweep(self) -> None:
        """What the timer does; nothing if it is dead."""
        self._signal(signal.SIGUSR1)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if not self.ended.done():
            with suppress(ProcessLookupError):  # it died a moment ago
                os.kill(self.pid, number)


class Launcher:
    """Forks apps, one at a time, from a process that has everything loaded."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def start(self, order: Order) -> App:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        async with asyncio.timeout(_PATIENCE):
            pid = url = None
            while pid is None or url is None:
                said = await self._said()
                if "ended" in said:
                    ended = asyncio.create_task(asyncio.sleep(0, said["ended"]))
                    return App(pid or 0, None, ended)
                pid, url = said.get("pid", pid), said.get("url", url)
        return App(pid, url, asyncio.create_task(self._ended()))

    async def _ended(self) -> int:
        return int((await self._said())["ended"])

    async def _said(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise ChildError("The launcher of apps has ended; see launcher.log.")
        said: dict[str, Any] = json.loads(line)
        return said


@dataclass
class Lab:
    """Used by one run at a time."""

    folder: Path
    storage: str
    launcher: Launcher
    runs: int = field(default=0, init=False)

    def next_folder(self) -> Path:
        """An empty one."""
        self.runs += 1
        folder = self.folder / f"run{self.runs}"
        folder.mkdir()
        return folder


async def draw(films: Path) -> None:
    """The one film that every upstream of the matrix sends; nobody there looks how long it
    is.
    """
    await Studio(films).film("720x1280-4", Scene("A cat", (720, 1280), 1))
    (films / "720x1280-12").symlink_to("720x1280-4")


@asynccontextmanager
async def lab(folder: Path) -> AsyncIterator[Lab]:
    """Everything that a run needs, with its data in `folder` and an Azurite of its own, which
    never dies and keeps its data in memory. Raises AzuriteError or ChildError.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    async with Azurite(folder / "azurite", keep=False) as azurite, _launcher(folder) as launcher:
        yield Lab(folder, azurite.connection_string, launcher)


@asynccontextmanager
async def _launcher(folder: Path) -> AsyncIterator[Launcher]:
    named = ("AZURE", "Azure", "GATEWAY")
    with (folder / "launcher.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", _TETHER, str(os.getpid()), sys.executable, "-m", "tests.trials.crash.app"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={name: value for name, value in os.environ.items() if not name.startswith(named)}
            | {"PYTHONPATH": str(_CHECKOUT)},
            start_new_session=True,
        )
    try:
        yield Launcher(process)
    finally:
        process.terminate()
        await process.wait()
