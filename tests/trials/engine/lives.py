"""Whole lives of videos on an engine: faults at the upstream, and kill -9 of app and engine."""

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from local.processes import Child, ChildError
from local.simulator.process import listening
from local.simulator.server import SimulatedServer
from shared.clock import SystemClock
from tests.trials.engine import engines
from tests.trials.engine.engines import HUB

_CHECKOUT = Path(__file__).parents[3]
_MASTER_KEY, _UPSTREAM_KEY = "sk-the-key-of-the-operator", "the-key-of-the-upstream"
_PATIENCE = 150.0  # seconds from the kill until everything is over
_SPEED = 10.0  # a film of four seconds takes six
PROMPTS = (*("a cat",) * 4, "an unlucky cat", "a disturbing cat", "a cat", "a cat")
IN_LINE = 4  # videos for one slot
FAULTS = (
    {"kind": "reset_after", "operation": "create"},
    {"kind": "status", "operation": "get", "status": 500, "times": 2},
    {"kind": "truncate", "operation": "content", "fraction": 0.5},
)


@dataclass(frozen=True)
class Lives:
    """What came of it: videos by how they ended, the most upstream jobs of one, the seconds from
    the kill to the last end, and those from a freed slot to the next create.
    """

    ends: dict[str, int]
    most_jobs: int
    recovery: float
    handovers: list[float]


async def lives(binary: Path | None, folder: Path, storage: str) -> Lives:
    """Eight videos, killed in the middle of their lives; `binary` None is the stand-in."""
    await asyncio.to_thread(folder.mkdir)
    async with AsyncExitStack() as running:
        sora = SimulatedServer(
            folder / "sora",
            SystemClock(),
            _SPEED,
            creates_per_minute=None,
            max_running=None,
            api_key=_UPSTREAM_KEY,
            one_film=True,
        )
        upstream = await running.enter_async_context(listening(sora))
        http = await running.enter_async_context(httpx.AsyncClient(timeout=60, trust_env=False))
        for fault in FAULTS:
            (await http.post(f"{upstream}/_sim/faults", json=fault)).raise_for_status()
        environment = _settings(folder, storage, upstream)

        async def start() -> _Served:
            return await _start(running, binary, folder, environment)

        served = await start()
        headers = {"authorization": f"Bearer {_MASTER_KEY}"}
        made = [await _create(http, served.url, headers, prompt, "sora") for prompt in PROMPTS]
        while len(sora.jobs.accepted()) < len(PROMPTS) // 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        killed = time.monotonic()
        await served.kill()
        served = await start()
        ended = await _ends(http, served.url, headers, made)
        recovery, earlier = time.monotonic() - killed, len(sora.jobs.accepted())
        in_line = [await _create(http, served.url, headers, "a cat", "one-at-a-time") for _ in range(IN_LINE)]
        ended += await _ends(http, served.url, headers, in_line)
        await served.kill()
        jobs = Counter(job.prompt for job in sora.jobs.accepted())
        return Lives(dict(Counter(ended)), max(jobs.values()), recovery, _handovers(sora, earlier))


def _handovers(sora: SimulatedServer, earlier: int) -> list[float]:
    """Seconds from each look that found a job done, which frees its slot, to the next create; of
    the jobs after so many earlier ones.
    """
    first, *following = sora.jobs.accepted()[earlier:]
    found = []
    for after in following:
        freed = max(each.time for each in sora.requests if each.operation == "get" and each.job == first.id)
        asked = min(each.time for each in sora.requests if each.operation == "create" and each.time > freed)
        found.append(asked - freed)
        first = after
    return found


@dataclass(frozen=True)
class _Served:
    url: str
    children: list[Child]

    async def kill(self) -> None:
        for child in self.children:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
        for child in self.children:
            await child.wait()


async def _start(running: AsyncExitStack, binary: Path | None, folder: Path, environment: dict[str, str]) -> _Served:
    """The app, and the engine where it is one of its own; both are stopped at the end."""
    kind = "stand-in" if binary is None else "real"
    command = [sys.executable, "-m", "tests.trials.engine.app", kind, str(folder)]
    app = await Child.start(f"The app on the {kind} engine", command, log=folder / "app.log", environment=environment)
    running.push_async_callback(app.stop)
    (line,) = await app.says(r'^\{"url": .*\}$', patience=90)
    said = json.loads(line.group())
    if binary is None:
        return _Served(said["url"], [app])
    engine = await engines.start(
        binary,
        folder,
        environment["AzureWebJobsStorage"],
        host_json=folder.parent / "host.json",
        origin=said["url"],
        orchestrators=said["orchestrators"],
        activities=said["activities"],
    )
    running.push_async_callback(engine.stop)
    await engine.says(r"^READY", patience=90)
    return _Served(said["url"], [app, engine])


def _settings(folder: Path, storage: str, upstream: str) -> dict[str, str]:
    params = {"model": "azure/sora-2", "max_running": 20, "creates_per_minute": 1000}
    config = {
        "model_list": [
            {"model_name": "sora", "params": params},
            {"model_name": "one-at-a-time", "params": {**params, "max_running": 1}, "model_info": {"id": "narrow"}},
        ],
        "gateway": {"poll_seconds": 2, "reconcile_seconds": 10},
    }
    (folder / "gateway.yaml").write_text(yaml.safe_dump(config))
    return {
        "AzureWebJobsStorage": storage,
        "AZURE_OPENAI_API_BASE": upstream,
        "AZURE_OPENAI_API_KEY": _UPSTREAM_KEY,
        "GATEWAY_MASTER_KEY": _MASTER_KEY,
        "GATEWAY_CONFIG": str(folder / "gateway.yaml"),
        "TASK_HUB": HUB,
        "PYTHONPATH": str(_CHECKOUT),
    }


async def _create(http: httpx.AsyncClient, url: str, headers: dict[str, str], prompt: str, model: str) -> str:
    # Each prompt is one of its own, so that a job upstream tells whose it is.
    body = {"model": model, "prompt": f"{prompt} {time.monotonic_ns()}", "seconds": "4"}
    answer = await http.post(f"{url}/v1/videos", json=body, headers=headers)
    if answer.is_error:
        raise ChildError(f"A create was answered {answer.status_code}: {answer.text}")
    return str(answer.json()["id"])


async def _ends(http: httpx.AsyncClient, url: str, headers: dict[str, str], made: list[str]) -> list[str]:
    """How each video ended, or that it has not."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        videos: list[dict[str, Any]] = [(await http.get(f"{url}/v1/videos/{each}", headers=headers)).json() for each in made]
        over = all(video["status"] in ("completed", "failed") for video in videos)
        if over or time.monotonic() > deadline:
            return [video["error"]["code"] if video["status"] == "failed" else str(video["status"]) for video in videos]
        await asyncio.sleep(0.5)
