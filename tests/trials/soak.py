"""A thousand videos through the real local stack while its upstream misbehaves, and what that
leaves.

One in twenty requests of every operation meets a fault that the upstream recovers from, so every
video must be completed, with the bytes that were made, from one accepted create; the few whose
create breaks off twice must have no job at all. Memory and sockets of the app are read on the way:
they must not grow.
"""

import argparse
import asyncio
import hashlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from local.azurite import Azurite, AzuriteError
from local.processes import Child, ChildError
from shared import gateway as composition
from shared.config import settings
from shared.media.video import owner_of
from tests.trials.bench.setup import memory, running_app
from tests.trials.left_over import left_over

VIDEOS, KEYS, CLIENTS = 1000, 5, 40
MIB = 1024 * 1024
MOST_GROWTH = 24 * MIB  # from the middle to the end
MOST_SOCKETS = 10  # more at the end than in the middle
_MASTER_KEY, _UPSTREAM_KEY, _MODEL = "sk-soak-0123456789", "the-key-of-the-upstream", "soak"
_SPEED = 200.0
_POLL_SECONDS = 0.5
_CHECKOUT = Path(__file__).parents[2]
_PATIENCE = 300.0  # seconds for one video

# In sum 5 % of the requests of each operation.
FAULTS: tuple[dict[str, Any], ...] = (
    {"operation": "create", "kind": "status", "documented": "E2", "headers": {"retry-after": "1"}, "probability": 0.02},
    {"operation": "create", "kind": "status", "documented": "E18", "probability": 0.01},
    {"operation": "create", "kind": "reset_before", "probability": 0.01},
    {"operation": "create", "kind": "reset_after", "probability": 0.01},
    {"operation": "get", "kind": "status", "documented": "E18", "probability": 0.02},
    {"operation": "get", "kind": "reset_before", "probability": 0.02},
    {"operation": "get", "kind": "garble", "form": "malformed_json", "probability": 0.01},
    {"operation": "content", "kind": "truncate", "probability": 0.02},
    {"operation": "content", "kind": "reset_before", "probability": 0.02},
    {"operation": "content", "kind": "garble", "form": "not_a_video", "probability": 0.01},
    {"operation": "list", "kind": "status", "status": 503, "probability": 0.05},
)


@dataclass(frozen=True)
class Reading:
    """What the app holds after so many videos."""

    videos: int
    resident: int
    sockets: int


@dataclass
class Soak:
    """`url` is the app's, `pid` its process; `readings` are taken at the start, in the middle and
    at the end.
    """

    url: str
    pid: int
    upstream: str
    videos: int
    secrets: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    readings: list[Reading] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    async def run(self, progress: Progress) -> None:
        task = progress.add_task("videos", total=self.videos)
        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) as self._http:
            self.secrets = [await self._key() for _ in range(KEYS)]
            for fault in FAULTS:
                armed = await self._http.post(f"{self.upstream}/_sim/faults", json={**fault, "times": None, "seed": 1})
                armed.raise_for_status()
            waiting = list(range(self.videos))

            async def client() -> None:
                while waiting:
                    await self._video(waiting.pop())
                    progress.update(task, advance=1)
                    done = sum(self.ends.values())
                    if done in (self.videos // 10, self.videos // 2):
                        self._read(done)

            await asyncio.gather(*(client() for _ in range(CLIENTS)))
            await asyncio.sleep(6)  # connections that nobody uses are closed after five seconds
            self._read(self.videos)
            (await self._http.delete(f"{self.upstream}/_sim/faults")).raise_for_status()
            await self._compare()

    async def _key(self) -> str:
        answer = await self._http.post(f"{self.url}/key/generate", json={}, headers=_bearer(_MASTER_KEY))
        answer.raise_for_status()
        return str(answer.json()["key"])

    async def _video(self, number: int) -> None:
        headers = _bearer(self.secrets[number % KEYS])
        body = {"model": _MODEL, "prompt": f"Canary number {number}", "seconds": "4"}
        created = await self._http.post(f"{self.url}/v1/videos", json=body, headers=headers)
        if created.status_code != 200:
            self.ends[f"create answered {created.status_code}"] += 1
            return
        video_id = str(created.json()["id"])
        deadline = time.monotonic() + _PATIENCE
        while True:
            await asyncio.sleep(1.0)
            video = (await self._http.get(f"{self.url}/v1/videos/{video_id}", headers=headers)).json()
            if video["status"] in ("completed", "failed"):
                break
            if time.monotonic() > deadline:
                self.ends["never ended"] += 1
                return
        self.ids.append(video_id)
        self.ends[video["status"] if video["status"] == "completed" else video["error"]["code"]] += 1

    def _read(self, videos: int) -> None:
        sockets = 0
        for each in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                sockets += str(each.readlink()).startswith("socket:")
            except FileNotFoundError:
                continue  # closed meanwhile
        self.readings.append(Reading(videos, memory(self.pid).resident, sockets))

    async def _compare(self) -> None:
        """One create for each video, and the bytes that were made."""
        jobs = (await self._http.get(f"{self.upstream}/_sim/jobs")).json()["data"]
        made = Counter(job["prompt"] for job in jobs)
        self.wrong += [f"{count} jobs for {prompt!r}" for prompt, count in made.items() if count != 1]
        by_prompt = {job["prompt"]: job["id"] for job in jobs}
        for video_id in self.ids:
            headers = _bearer(_MASTER_KEY)
            video = (await self._http.get(f"{self.url}/v1/videos/{video_id}", headers=headers)).json()
            if video["status"] != "completed":
                if video["prompt"] in by_prompt:
                    self.wrong.append(f"{video_id} failed, and its job was made")
                continue
            served = await self._http.get(f"{self.url}/v1/videos/{video_id}/content", headers=headers, follow_redirects=True)
            job = by_prompt[video["prompt"]]
            direct = await self._http.get(f"{self.upstream}/openai/v1/videos/{job}/content", headers={"api-key": _UPSTREAM_KEY})
            if hashlib.sha256(served.content).digest() != hashlib.sha256(direct.content).digest():
                self.wrong.append(f"{video_id} has not the bytes that were made")

    async def check_state(self, given: dict[str, str]) -> None:
        """No slot, place, note or reservation is left, and what was spent is what was completed."""
        gateway = composition.build(settings.load(given))
        try:
            owners = {owner_of(video_id) for video_id in self.ids}
            self.wrong += [f"left over: {each}" async for each in left_over(gateway, [_MODEL], owners)]
            price = gateway.settings.catalog.find(_MODEL).capability.price(4, "720x1280")
            accounts = [await gateway.ledger.account(owner) for owner in owners]
            spent = sum(account.spend for account in accounts if account)
            if spent != price * self.ends["completed"]:
                self.wrong.append(f"{spent} spent for {self.ends['completed']} videos")
        finally:
            await gateway.close()

    def check_log(self, log: Path) -> None:
        text = log.read_text(errors="replace")
        if "Traceback" in text:
            self.wrong.append(f"{text.count('Traceback')} tracebacks: {text[text.find('Traceback') :][:1500]}")
        for word in (_MASTER_KEY, _UPSTREAM_KEY, *self.secrets, self.upstream, "Canary number"):
            # The greeting tells a person where the upstream is; it is no line of the log.
            told = [line for line in text.splitlines() if word in line and not line.startswith("  ")]
            self.wrong += [f"the log holds {word!r}: {told[0][:300]}"] if told else []

    def check_growth(self) -> None:
        _, middle, end = self.readings
        if end.resident - middle.resident > MOST_GROWTH:
            self.wrong.append(f"memory grew by {(end.resident - middle.resident) / MIB:.0f} MiB in the second half")
        if end.sockets - middle.sockets > MOST_SOCKETS:
            self.wrong.append(f"{end.sockets - middle.sockets} sockets more than in the middle")


def _bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


@asynccontextmanager
async def _upstream(folder: Path) -> AsyncIterator[str]:
    """The simulated Azure OpenAI without quotas, which draws one film; its URL."""
    command = [
        sys.executable,
        "-m",
        "local.simulator",
        "--port",
        "0",
        "--data",
        str(folder),
        "--unlimited",
        "--one-film",
    ]
    command += ["--speed", f"{_SPEED:g}", "--api-key", _UPSTREAM_KEY]
    child = await Child.start(
        "The simulated Azure OpenAI", command, log=folder / "sora.log", environment={"PYTHONPATH": str(_CHECKOUT)}
    )
    try:
        (line,) = await child.says(r'^\{"url": .*\}$', patience=90)
        yield json.loads(line.group())["url"]
    finally:
        await child.stop()


def _settings(folder: Path, storage: str, upstream: str) -> dict[str, str]:
    """One model on three deployments, so that one that rests stops nobody."""
    params = {"model": "azure/sora-2", "max_running": CLIENTS, "creates_per_minute": 10_000}
    models = [{"model_name": _MODEL, "params": params, "model_info": {"id": f"soak-{number}"}} for number in range(3)]
    knobs = {"poll_seconds": _POLL_SECONDS, "reconcile_seconds": 5}
    (folder / "soak.yaml").write_text(yaml.safe_dump({"model_list": models, "gateway": knobs}))
    return {
        "AzureWebJobsStorage": storage,
        "AZURE_OPENAI_API_BASE": upstream,
        "AZURE_OPENAI_API_KEY": _UPSTREAM_KEY,
        "GATEWAY_CONFIG": str(folder / "soak.yaml"),
        "GATEWAY_MASTER_KEY": _MASTER_KEY,
        "TASK_HUB": "Soak",
    }


def table(soak: Soak, seconds: float) -> Table:
    shown = Table(box=None, padding=(0, 1), header_style="bold")
    for name in ("", "start", "middle", "end"):
        shown.add_column(name, justify="left" if not name else "right")
    shown.add_row("videos", *(str(each.videos) for each in soak.readings))
    shown.add_row("memory (MiB)", *(f"{each.resident / MIB:.0f}" for each in soak.readings))
    shown.add_row("open sockets", *(str(each.sockets) for each in soak.readings))
    for end, count in soak.ends.most_common():
        shown.add_row(end, "", "", str(count))
    shown.add_row("minutes", "", "", f"{seconds / 60:.1f}")
    shown.add_row("wrong", "", "", f"[bold red]{len(soak.wrong)}[/]" if soak.wrong else "0")
    return shown


async def run(videos: int, console: Console) -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        async with AsyncExitStack() as running:
            storage = (await running.enter_async_context(Azurite(folder / "azurite"))).connection_string
            upstream = await running.enter_async_context(_upstream(folder))
            given = _settings(folder, storage, upstream)
            app = await running.enter_async_context(running_app(folder, given))
            soak = Soak(app.url, app.pid, upstream, videos)
            with Progress(console=console, transient=True) as progress:
                await soak.run(progress)
            await soak.check_state(given)
            soak.check_log(folder / "app.log")
            soak.check_growth()
            if soak.ends["completed"] + soak.ends["upstream_uncertain"] != videos:
                soak.wrong.append(f"{videos - soak.ends['completed']} videos were not completed")
            # Two in a hundred creates break off without a job, so four in ten thousand videos lose
            # two of them.
            if soak.ends["upstream_uncertain"] > 2 + videos / 500:
                soak.wrong.append(f"{soak.ends['upstream_uncertain']} videos lost both of their creates")
    console.print(table(soak, time.monotonic() - began))
    for each in soak.wrong:
        console.print(each, style="red", markup=False, soft_wrap=True)
    return 1 if soak.wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.trials.soak", description="Many videos, a bad upstream, flat memory."
    )
    parser.add_argument("--videos", type=int, default=VIDEOS, help="(default: %(default)s)")
    try:
        return asyncio.run(run(parser.parse_args().videos, Console()))
    except (AzuriteError, ChildError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
