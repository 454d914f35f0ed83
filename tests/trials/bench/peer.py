"""`python -m tests.trials.bench.peer LITELLM`: the gateway beside LiteLLM's proxy, on the same
upstream, by turns.

LITELLM is the command of a LiteLLM that is installed in an environment of its own:
`python3 -m venv peer && peer/bin/pip install "litellm[proxy]"` makes `peer/bin/litellm`.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import yaml
from rich.console import Console

from local.azurite import Azurite, AzuriteError
from local.processes import Child, ChildError
from tests.trials.bench.load import BenchError, Client, Load, Send, at_once, at_rest, by_turns, ended
from tests.trials.bench.measure import CALLERS, TAKES
from tests.trials.bench.report import Line, table
from tests.trials.bench.setup import (
    MASTER_KEY,
    UPSTREAM_KEY,
    App,
    app_settings,
    processor_seconds,
    running_app,
    simulated_upstream,
)

_MODEL = "bench"
_FILM = "A lighthouse"
_START_SECONDS = 180.0
_APART = 10  # creates a round, each of which waits for the video before
_FILE_WIDTH = 120  # columns of a table that goes to a file


@asynccontextmanager
async def litellm(command: str, folder: Path, upstream: str) -> AsyncIterator[App]:
    """LiteLLM's proxy as its page on Azure's videos has it: one model, one worker, no database.
    Raises ChildError.
    """
    params = {"model": "azure/sora-2", "api_base": upstream, "api_key": UPSTREAM_KEY}
    config = {"model_list": [{"model_name": _MODEL, "litellm_params": params}], "general_settings": {"master_key": MASTER_KEY}}
    (folder / "litellm.yaml").write_text(yaml.safe_dump(config))
    line = [command, "--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1", "--port", "0"]
    # It asks for prices at its start, which is no traffic for a benchmark.
    alone = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    child = await Child.start("LiteLLM", line, log=folder / "litellm.log", environment=alone)
    try:
        (running,) = await child.says(r"Uvicorn running on (http://[\d.:]+)", patience=_START_SECONDS)
        yield App(running[1], child.pid)
    finally:
        await child.stop()


async def compare(command: str, folder: Path, rounds: int, seconds: float) -> list[Line]:
    """Each load for so many rounds of so many seconds, by turns, so that a busy moment hits both;
    of each the median. Raises BenchError, ChildError or AzuriteError.
    """
    async with AsyncExitStack() as running:
        storage = (await running.enter_async_context(Azurite(folder / "azurite"))).connection_string
        upstream = await running.enter_async_context(simulated_upstream(folder))
        settings = app_settings(folder / "app", storage, upstream.url, "redirect")
        app = await running.enter_async_context(running_app(folder / "app", settings))
        peer = await running.enter_async_context(litellm(command, folder, upstream.url))
        both = [await running.enter_async_context(each.client()) for each in (app, peer)]
        pids = (app.pid, peer.pid)
        creates = [_creating(client) for client in both]
        alone = await by_turns(creates, rounds * CALLERS)
        apart = await by_turns(creates, rounds * _APART, rest=both[0])
        await at_rest(both[0])
        videos = [await _made(client) for client in both]
        statuses = [_asking(client, video_id) for client, video_id in zip(both, videos, strict=True)]
        return [
            Line("create at 1 caller, one after another: p50", "ms", *(statistics.median(took) for took in alone)),
            Line("create at 1 caller, when all before has ended: p50", "ms", *(statistics.median(took) for took in apart)),
            *await _at_once("create", list(zip(creates, pids, strict=True)), rounds, seconds, both[0]),
            *await _at_once("status", list(zip(statuses, pids, strict=True)), rounds, seconds, both[0]),
        ]


async def _at_once(name: str, sides: Sequence[tuple[Send, int]], rounds: int, seconds: float, gateway: Client) -> list[Line]:
    """A side is what is sent, and the process that answers it. What follows the gateway's creates
    is part of their own load, and of no other.
    """
    loads: list[list[Load]] = [[] for _ in sides]
    processor: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for (send, pid), of_one, took in zip(sides, loads, processor, strict=True):
            before = processor_seconds(pid)
            of_one.append(await at_once(send, CALLERS, seconds))
            took.append((processor_seconds(pid) - before) * 1000 / len(of_one[-1].milliseconds))
            await at_rest(gateway)
    return [
        Line(
            f"{name} at {CALLERS} callers: requests",
            "/s",
            *(statistics.median(load.per_second for load in of_one) for of_one in loads),
        ),
        Line(f"{name} at {CALLERS} callers: p50", "ms", *(statistics.median(load.p50 for load in of_one) for of_one in loads)),
        Line(f"{name} at {CALLERS} callers: p99", "ms", *(statistics.median(load.p99 for load in of_one) for of_one in loads)),
        Line(f"{name} at {CALLERS} callers: processor a request", "ms", *(statistics.median(took) for took in processor)),
    ]


def _creating(client: Client, prompts: Iterator[str] = TAKES) -> Send:
    return lambda: client.post("/videos", json={"model": _MODEL, "prompt": next(prompts), "seconds": "4"})


async def _made(client: Client) -> str:
    """The id of a completed video."""
    video_id = str((await _creating(client, iter([_FILM]))())["id"])
    await ended(client, [video_id])
    return video_id


def _asking(client: Client, video_id: str) -> Send:
    return lambda: client.get(f"/videos/{video_id}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.trials.bench.peer", description="The gateway beside LiteLLM's proxy."
    )
    parser.add_argument("litellm", help="the command of a LiteLLM in an environment of its own")
    parser.add_argument("--rounds", type=int, default=3, help="of each load (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of a round (default: %(default)s)")
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="peer-") as folder:
            lines = asyncio.run(compare(given.litellm, Path(folder), given.rounds, given.seconds))
    except (BenchError, ChildError, AzuriteError) as error:
        print(error, file=sys.stderr)
        return 1
    Console(width=None if sys.stdout.isatty() else _FILE_WIDTH).print(table(lines, beside="LiteLLM"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
