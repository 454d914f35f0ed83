"""`python -m tests.trials.bench`: the gateway measured against its upstream called directly, on
this machine, in a few minutes.

Goals are printed beside what they are about. Exits with 0 whether they are met or not: another
machine, another figure.
"""

import argparse
import asyncio
import itertools
import statistics
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.progress import Progress

from local.azurite import Azurite, AzuriteError
from local.processes import ChildError
from tests.trials import import_time
from tests.trials.bench.load import BenchError, Client, Load, at_once, at_rest, by_turns, ended, timed, until
from tests.trials.bench.operations import (
    loop_milliseconds,
    processor_per_activity,
    processor_per_call,
    table_operations_per_status,
)
from tests.trials.bench.report import MIB, Figures, Line, percentile, printed, table
from tests.trials.bench.setup import App, Upstream, app_settings, forget_peak, memory, running_app, simulated_upstream

CALLERS = 32
VIDEOS = 8
UPSTREAM_DELAY = 0.8  # seconds that a create takes where the gateway is not to wait for it
_STEPS = 9  # that are shown
_LONGEST_SECONDS = 600
_FILE_WIDTH = 120  # columns of a table that goes to a file: none of its lines is folded
_MOST_LOOPS = {"create": 0.45, "status": 0.08, "list of 20": 0.12, "redirect to content": 0.12}
_FILM, _NO_FILM = "A lighthouse", "An unlucky lighthouse"  # the simulator fails the second, and has no film to draw
# Of equal requests the gateway has one at a time accepted.
TAKES = (f"{_NO_FILM}, take {number}" for number in itertools.count())


@dataclass(frozen=True)
class Scale:
    """How much is measured: seconds of load, creates one by one, bytes of a video, processes that
    import.
    """

    seconds: float = 6.0
    creates: int = 20
    content: int = 100 * MIB
    imports: int = 5


QUICK = Scale(seconds=1.5, creates=5, content=25 * MIB, imports=2)


@dataclass
class Bench:
    """Measures, part by part, into `lines`; `folder` keeps what its processes write."""

    scale: Scale
    folder: Path
    show: Callable[[str], None]
    lines: list[Line] = field(default_factory=list)

    async def run(self) -> None:
        """Everything, each in turn. Raises BenchError, ChildError or AzuriteError."""
        self.show("importing the app")
        await self.imports()
        self.show("starting storage, upstream and app")
        async with AsyncExitStack() as running:
            storage = (await running.enter_async_context(Azurite(self.folder / "azurite"))).connection_string
            upstream = await running.enter_async_context(simulated_upstream(self.folder))
            given = app_settings(self.folder / "redirect", storage, upstream.url, "redirect")
            async with running_app(self.folder / "redirect", given) as app:
                self._add("memory at rest, the local host included", "MiB", memory(app.pid).resident / MIB)
                saved = await self.saving(app, upstream)
                key, video_id = await self.status(app, upstream, given)
                await self.create_alone(app, upstream)
                await self.create_at_once(app, upstream)
                await self.processor(given, key, video_id)
            given = app_settings(self.folder / "proxy", storage, upstream.url, "proxy")
            async with running_app(self.folder / "proxy", given) as app:
                await self.proxying(app, saved)

    async def imports(self) -> None:
        """Cold imports in fresh processes, by turns so that a busy moment hits both."""
        for statement in (import_time.APP, import_time.SDK):
            await asyncio.to_thread(import_time.cold, statement)  # compiles, and fills the page cache
        app, sdk = [], []
        for _ in range(self.scale.imports):
            app.append(await asyncio.to_thread(import_time.cold, import_time.APP))
            sdk.append(await asyncio.to_thread(import_time.cold, import_time.SDK))
        what = "cold import of function_app / of the Azure SDK"
        self._add(what, "ms", statistics.median(app) * 1000, statistics.median(sdk) * 1000, goal=1.2)

    async def saving(self, app: App, upstream: Upstream) -> dict[str, str]:
        """Large videos saved at once, then served at once; the digests of their bytes, by id."""
        direct, simulator = upstream.direct, upstream.simulator
        async with app.client() as gateway:
            await _used_once(gateway)
            self.show(f"drawing {self._films}")
            await simulator.post("/content", json={"bytes": self.scale.content})
            # Until every film is drawn, the gateway is not to learn that any is ready: then it
            # saves them together.
            unready = {"kind": "garble", "operation": "get", "form": "unknown_status", "times": None}
            await simulator.post("/faults", json=unready)
            asked = {f"{_FILM}, take {number}": "" for number in range(VIDEOS)}
            for prompt in asked:
                asked[prompt] = await _video(gateway, prompt)
            jobs = await _jobs(upstream, asked)
            for job in jobs:
                await direct.digest(f"{_content(job)}?variant=thumbnail")
            reading, digests = await timed(asyncio.gather(*(direct.digest(_content(job)) for job in jobs)))
            expected = dict(zip(asked.values(), digests, strict=True))

            self.show(f"saving {self._films}")
            before = memory(app.pid).resident
            forget_peak(app.pid)
            await simulator.delete("/faults")
            saving, _ = await timed(ended(gateway, list(expected)))
            self._grown(app, before, "save", goal=64)
            self._add(f"save {self._films}", "s", saving, reading)

            self.show(f"serving {self._films}")
            forget_peak(app.pid)
            serving, digests = await timed(asyncio.gather(*(gateway.digest(_content(video_id)) for video_id in expected)))
            _whole(expected, digests)
            self._grown(app, before, "serve", ", redirect", goal=32)
            self._add(f"serve {self._films}, redirect", "s", serving, reading)
        await simulator.post("/content", json={"bytes": None})
        return expected

    async def proxying(self, app: App, expected: dict[str, str]) -> None:
        """The same served through the app."""
        self.show(f"serving {self._films} through the app")
        async with app.client() as gateway, Client("", {}) as storage:
            await gateway.digest(_content(await _used_once(gateway)))
            before = memory(app.pid).resident
            forget_peak(app.pid)
            serving, digests = await timed(asyncio.gather(*(gateway.digest(_content(video_id)) for video_id in expected)))
            _whole(expected, digests)
            self._grown(app, before, "serve", ", proxy", goal=32)
            self._add(f"serve {self._films}, proxy", "s", serving)
            path = _content(next(iter(expected)))
            url = await gateway.location(f"{path}?delivery=redirect")
            sends = (lambda: gateway.first_byte(path), lambda: storage.first_byte(url))
            ours, theirs = await by_turns(sends, self.scale.creates)
        later = percentile(ours, 0.5) - percentile(theirs, 0.5)
        self._add("first byte through the app, after storage's own: p50", "ms", later, goal=50)

    async def status(self, app: App, upstream: Upstream, given: Mapping[str, str]) -> tuple[str, str]:
        """Many callers who ask for one video each time, with a key that is not the operator's: that
        key, and the video's id.
        """
        name = f"status at {CALLERS} callers"
        self.show(name)
        async with app.client() as gateway:
            key = (await gateway.post("/key/generate", json={}))["key"]
        async with app.client(key) as gateway:
            video_id = await _video(gateway, _FILM)
            await ended(gateway, [video_id])
            ours = await at_once(lambda: gateway.get(f"/videos/{video_id}"), CALLERS, self.scale.seconds)
        (job,) = await _jobs(upstream, [_FILM])
        theirs = await at_once(lambda: upstream.direct.get(f"/videos/{job}"), CALLERS, self.scale.seconds)
        self._loads(name, ours, theirs)
        self._add("table operations per status", "", await table_operations_per_status(given, key, video_id))
        return key, video_id

    async def processor(self, given: Mapping[str, str], key: str, video_id: str) -> None:
        """What a call costs of the processor, in milliseconds and in loops of 100,000 additions."""
        for name, cost in (await processor_per_call(given, key, video_id, _NO_FILM)).items():
            self._add(f"{name}: processor a call", "ms", cost.milliseconds)
            self._add(f"{name}: processor a call", "loops", cost.loops, goal=_MOST_LOOPS.get(name))
        loop = loop_milliseconds()
        for name, took in (await processor_per_activity(given, key, _FILM)).items():
            self._add(f"{name}: processor a video", "ms", took)
            self._add(f"{name}: processor a video", "loops", took / loop)

    async def create_alone(self, app: App, upstream: Upstream) -> None:
        """One caller, and an upstream that takes its time."""
        name = f"create at 1 caller, upstream takes {UPSTREAM_DELAY * 1000:.0f} ms"
        self.show(name)
        slow = {"kind": "delay", "operation": "create", "seconds": UPSTREAM_DELAY, "times": None}
        await upstream.simulator.post("/faults", json=slow)
        async with app.client() as gateway:
            sends = (lambda: _create(gateway, next(TAKES)), lambda: _create_directly(upstream))
            ours, theirs = await by_turns(sends, self.scale.creates)
        await upstream.simulator.delete("/faults")
        self._add(f"{name}: p50", "ms", percentile(ours, 0.5), percentile(theirs, 0.5), goal=0.1)

    async def create_at_once(self, app: App, upstream: Upstream) -> None:
        """Many callers with one key; the orchestrations of what they asked for run meanwhile."""
        name = f"create at {CALLERS} callers"
        self.show(name)
        theirs = await at_once(lambda: _create_directly(upstream), CALLERS, self.scale.seconds)
        async with app.client() as gateway:
            ours = await at_once(lambda: _create(gateway, next(TAKES)), CALLERS, self.scale.seconds)
            # An app that comes after this one would first have to find them all again.
            await at_rest(gateway)
        self._loads(name, ours, theirs)

    def _loads(self, name: str, ours: Load, theirs: Load) -> None:
        self._add(f"{name}: requests", "/s", ours.per_second, theirs.per_second)
        self._add(f"{name}: p50", "ms", ours.p50, theirs.p50)
        self._add(f"{name}: p99", "ms", ours.p99, theirs.p99)

    def _grown(self, app: App, before: int, doing: str, how: str = "", goal: float | None = None) -> None:
        self._add(f"{doing} {self._films}{how}: memory grows by", "MiB", (memory(app.pid).peak - before) / MIB, goal=goal)

    def _add(self, what: str, unit: str, gateway: float, direct: float | None = None, goal: float | None = None) -> None:
        self.lines.append(Line(what, unit, gateway, direct, goal))

    @property
    def _films(self) -> str:
        return f"{VIDEOS} × {self.scale.content // MIB} MiB at once"


async def _create(gateway: Client, prompt: str) -> Any:
    return await gateway.post("/videos", json={"prompt": prompt, "seconds": "4"})


async def _create_directly(upstream: Upstream) -> Any:
    form = {"model": "sora-2", "prompt": _NO_FILM, "seconds": "4", "size": "720x1280"}
    return await upstream.direct.post("/videos", data=aiohttp.FormData(form, default_to_multipart=True))


async def _video(gateway: Client, prompt: str) -> str:
    """A new video's id."""
    return str((await _create(gateway, prompt))["id"])


def _content(video_id: str) -> str:
    return f"/videos/{video_id}/content"


async def _used_once(gateway: Client) -> str:
    """A small video made and served: what follows starts from an app that has all its code loaded.
    The video's id.
    """
    video_id = await _video(gateway, "A small film")
    await ended(gateway, [video_id])
    await gateway.digest(_content(video_id))
    return video_id


async def _jobs(upstream: Upstream, prompts: Collection[str]) -> list[str]:
    """The ids of the upstream's jobs for these prompts, in their order, once all of them are
    completed.
    """
    found: dict[str, str] = {}

    async def all_completed() -> bool:
        jobs = (await upstream.simulator.get("/jobs"))["data"]
        found.update({job["prompt"]: job["id"] for job in jobs if job["status"] == "completed"})
        return all(prompt in found for prompt in prompts)

    await until(all_completed, f"{len(prompts)} jobs completed")
    return [found[prompt] for prompt in prompts]


def _whole(expected: dict[str, str], digests: list[str]) -> None:
    if list(expected.values()) != digests:
        raise BenchError("what the gateway serves is not what the upstream made")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.trials.bench", description="The gateway against its upstream.")
    parser.add_argument("--quick", action="store_true", help="smaller videos and fewer requests: under a minute")
    parser.add_argument("--before", type=_figures, metavar="FILE", help="what an earlier run has printed, to show beside")
    given = parser.parse_args()
    scale = QUICK if given.quick else Scale()
    console = Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, Progress(console=console, transient=True) as progress:
            task = progress.add_task("", total=_STEPS)

            def show(step: str) -> None:
                progress.update(task, advance=1, description=step)

            bench = Bench(scale, Path(folder), show)
            asyncio.run(asyncio.wait_for(bench.run(), _LONGEST_SECONDS))
    except TimeoutError:
        print(f"Not done after {_LONGEST_SECONDS} s.", file=sys.stderr)
        return 1
    except (BenchError, ChildError, AzuriteError) as error:
        print(error, file=sys.stderr)
        return 1
    console.print(table(bench.lines, given.before))
    return 0


def _figures(path: str) -> Figures:
    try:
        return printed(Path(path).read_text())
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
