"""The whole gateway on one machine: storage, simulated upstreams, and the Functions host with
the real app in it.
"""

import asyncio
import errno
import json
import os
import shlex
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from local import configure
from local.azurite import Azurite, AzuriteError, share_blobs
from local.functions_host.functions import load
from local.functions_host.host import Host, timing_of
from local.open_keys import opened
from local.processes import Child, ChildError
from shared.clock import SystemClock
from shared.config.catalog import Model
from shared.config.file import BASE_NAMES, first
from shared.dialects.known import DIALECTS
from shared.gateway import Gateway, current, use

_CHECKOUT = Path(__file__).parent.parent
_SIMULATOR_KEY = "simulated"


class StackError(Exception):
    """The stack cannot start; the message says what to change."""


@dataclass(frozen=True)
class Options:
    """How to start a stack.

    `port` 0 means any free one. `data` is the folder that keeps everything. `model` serves one
    model instead of the configured ones. `speed` is how many times faster than Azure the simulator
    is. `quiet` prints no line per request. `open` takes any key for the operator's.
    """

    port: int = 4000
    data: Path = Path(".local")
    model: str | None = None
    speed: float = 10.0
    quiet: bool = False
    open: bool = False


@dataclass(frozen=True)
class Stack:
    """A running stack: its address, the operator's key, its first model, and where data and
    upstream are.
    """

    url: str
    master_key: str
    model: Model
    data: Path
    upstream: str
    open: bool = False


async def serve(options: Options) -> None:
    """Start the stack, say how to use it, and serve until cancelled. Raises StackError or
    ConfigurationError.
    """
    async with start(options) as stack:
        print(greeting(stack), flush=True)
        await asyncio.Event().wait()


@asynccontextmanager
async def start(options: Options) -> AsyncIterator[Stack]:
    """Start what the environment does not name, and stop it again at the end.

    Storage that `AzureWebJobsStorage` names and upstreams that have an address (such as
    `AZURE_OPENAI_API_BASE`) are used as they are. The app reads its settings from the environment,
    as in Azure, so they are set there before it is loaded. Raises StackError, or ConfigurationError
    where a setting or the configuration file is wrong.
    """
    require_free(options.port)
    given = dict(os.environ)
    storage_given = bool(given.get("AzureWebJobsStorage"))
    source = configure.read(given)
    data = _prepared(options.data)
    _require_whole(data / "durable.sqlite")
    async with AsyncExitStack() as running:
        simulated = source.simulated(given, options.model)
        try:
            given |= await _stand_ins(running, data, given, simulated, options.speed)
        except (AzuriteError, ChildError) as error:
            raise StackError(str(error)) from error
        speed = options.speed if simulated else 1.0
        app_settings = configure.app_settings(given, source, data / "configuration", speed=speed, model=options.model)
        gateway = await _gateway(app_settings, own_storage=not storage_given, open_keys=options.open)
        running.push_async_callback(gateway.close)
        functions = load("function_app")
        tell = None if options.quiet else _say
        timing = timing_of(functions).faster(speed)  # the engine runs as much faster as the upstream
        host = await running.enter_async_context(
            Host(functions, data, SystemClock(), port=options.port, timing=timing, tell=tell)
        )
        elsewhere = first(given, BASE_NAMES) or f"see {source.name}"
        upstream = _upstreams(app_settings, simulated, speed) if simulated else elsewhere
        model = gateway.settings.catalog.models[0]
        yield Stack(host.url, app_settings["GATEWAY_MASTER_KEY"], model, options.data, upstream, options.open)


async def _gateway(app_settings: Mapping[str, str], *, own_storage: bool, open_keys: bool) -> Gateway:
    """The app's gateway. The app would make it at the first request; made here, a wrong setting
    ends the start with a message instead of answering 500, and its clients can be closed at the
    end. Raises ConfigurationError.
    """
    os.environ.update(app_settings)
    gateway = current()
    if own_storage:
        await share_blobs(app_settings["AzureWebJobsStorage"], with_pages=bool(gateway.settings.knobs.cors.origins))
    if open_keys:
        gateway = opened(gateway)
        use(gateway)
    return gateway


async def _stand_ins(
    running: AsyncExitStack, data: Path, given: Mapping[str, str], simulated: Mapping[str, Sequence[str]], speed: float
) -> dict[str, str]:
    """Start storage where none is given, and a simulator for each of these dialects; the settings
    that lead there. Raises AzuriteError or ChildError.
    """
    told = {}
    if not given.get("AzureWebJobsStorage"):
        storage = await running.enter_async_context(Azurite(data / "azurite", say=_say))
        told["AzureWebJobsStorage"] = storage.connection_string
    for name, models in simulated.items():
        url = await running.enter_async_context(_simulator(data / "simulator", name, models, speed))
        told[configure.base_names(DIALECTS[name])[0]] = url
        told[configure.key_names(DIALECTS[name])[0]] = _SIMULATOR_KEY
    return told


@asynccontextmanager
async def _simulator(directory: Path, dialect: str, models: Sequence[str], speed: float) -> AsyncIterator[str]:
    """A simulated server as a child process; its URL. Raises ChildError."""
    place = _prepared(directory / dialect)
    command = [sys.executable, "-m", "local.simulator", "--port", "0", "--data", str(place), "--dialect", dialect]
    command += ["--speed", f"{speed:g}", "--api-key", _SIMULATOR_KEY]
    command += [word for model in models for word in ("--model", model)]
    child = await Child.start(
        f"The simulated {DIALECTS[dialect].meaning}",
        command,
        log=place / "simulator.log",
        environment={"PYTHONPATH": str(_CHECKOUT)},
    )
    try:
        (line,) = await child.says(r'^\{"url": .*\}$')
        yield json.loads(line.group())["url"]
    finally:
        await child.stop()


def _upstreams(app_settings: Mapping[str, str], dialects: Iterable[str], speed: float) -> str:
    """Where the simulators are."""
    told = (
        f"a simulated {DIALECTS[name].meaning} at {app_settings[configure.base_names(DIALECTS[name])[0]]}" for name in dialects
    )
    return f"{', '.join(told)}, {speed:g} times faster than life"


def _say(line: str) -> None:
    print(line, flush=True)


def _prepared(data: Path) -> Path:
    """Make the folder if it is missing, and return its absolute path. Raises StackError."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        if not os.access(data, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise StackError(f"Nothing can be kept in {data} ({error.strerror}): choose another folder with --data.") from error
    return data.resolve()


def _require_whole(file: Path) -> None:
    """Raises StackError where the engine's file is damaged."""
    if not file.exists():
        return
    try:
        with closing(sqlite3.connect(file)) as db:
            complaints = [row[0] for row in db.execute("PRAGMA quick_check(1)") if row[0] != "ok"]
    except sqlite3.DatabaseError as error:
        complaints = [str(error)]
    if complaints:
        raise StackError(
            f"{file} is damaged ({complaints[0]}): move it away and start again. The sweep then restarts its videos."
        )


def require_free(port: int) -> None:
    """Raises StackError where `port` is in use, before anything is started."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StackError(f"Port {port} cannot be used ({error.strerror}): choose another with --port.") from error


_OPEN = """\
*** OPEN: ANY KEY IS THE OPERATOR'S. Whoever can reach this port may spend, and read and delete every video.
*** Only this machine can. Start it without --open for anything but a trial.

"""


def greeting(stack: Stack) -> str:
    """The text to print after the start: address, key, and commands that make a video."""
    key = stack.master_key if stack.master_key == configure.MASTER_KEY else "$GATEWAY_MASTER_KEY"
    able = stack.model.capability
    body = {
        "model": stack.model.name,
        "prompt": "A cat playing with a ball of yarn in a sunny garden",
        "seconds": str(able.seconds[0]),
        "size": able.sizes[0],
    }
    return f"""\
{_OPEN if stack.open else ""}The gateway is ready.

  URL       {stack.url}
  key       {key}
  model     {stack.model.name}
  upstream  {stack.upstream}
  data      {stack.data}

Ask for a video; the answer has its id:

  curl {stack.url}/v1/videos \\
    -H "Authorization: Bearer {key}" \\
    -H "Content-Type: application/json" \\
    -d {shlex.quote(json.dumps(body))}

Ask how it is, until its status is "completed":

  curl -H "Authorization: Bearer {key}" {stack.url}/v1/videos/VIDEO_ID

Fetch it:

  curl -L -o video.mp4 -H "Authorization: Bearer {key}" {stack.url}/v1/videos/VIDEO_ID/content

Ctrl-C stops everything.
"""
