"""Kills the app with -9 before and after every durable write and every upstream call, and sees that
nothing is lost.

First every story is told once to an app that lives, which notes the points it passes
(`tests.trials.crash.points`). Then for each point and seed an app is told to die there; the seed
chooses the story, the passage, whether the client tries again, and whether the app dies once more
while it recovers. What must be true in the end is in `tests.trials.crash.check`.
"""

import argparse
import asyncio
import logging
import shlex
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from local.azurite import AzuriteError
from local.processes import ChildError
from tests.trials.crash.lab import Lab, draw, lab
from tests.trials.crash.points import UNNAMED, Death, Passed
from tests.trials.crash.recoveries import DISASTERS, PROMISED, recovery
from tests.trials.crash.repairs import REPAIRS
from tests.trials.crash.result import Result
from tests.trials.crash.run import run
from tests.trials.crash.sites import sites, visited
from tests.trials.crash.stories import CLIENTS
from tests.trials.crash.story import Story

STORIES = (*CLIENTS, *REPAIRS)
SEEDS = 10
WORKERS = 5
WIDTH = 110  # of the table, where nobody's terminal sets it

Map = dict[str, dict[str, int]]
"""For every point, how often each story passes it: by the story's name."""


@dataclass(frozen=True)
class Case:
    """One run of the matrix. The same case is the same run, as far as time allows."""

    story: Story
    death: Death
    seed: int

    @property
    def command(self) -> str:
        """What runs it again."""
        words = ["--story", self.story.name, "--point", str(self.death.point)]
        words += ["--passage", str(self.death.passage), "--seed", str(self.seed)]
        return f'make crash ARGS="{shlex.join(words)}"'


@dataclass
class Tally:
    """What the runs of one point came to."""

    runs: int = 0
    died: int = 0
    completed: int = 0
    failed: int = 0
    most_creates: float = 0.0  # accepted creates for each video that was made
    wrong: list[str] = field(default_factory=list)

    def add(self, case: Case, result: Result) -> None:
        self.runs += 1
        self.died += result.died > 0
        self.completed += result.completed
        self.failed += result.failed
        self.most_creates = max(self.most_creates, result.most_creates)
        self.wrong += [f"{case.command}\n    {each}" for each in result.wrong]


def mapped(tellings: dict[str, list[Passed]]) -> Map:
    """What was passed by each story, by point."""
    points: Map = defaultdict(dict)
    for story, passed in tellings.items():
        for point, times in Counter(each.point for each in passed).items():
            points[point][story] = times
    return points


def forgotten(tellings: dict[str, list[Passed]]) -> list[str]:
    """Where `shared/` writes or calls and no story comes by; and what left the process without a
    name.
    """
    passed = [each for points in tellings.values() for each in points]
    ways = {each.way for each in passed}
    missed = [f"no story comes by {site}" for site in sites() if not any(visited(site, way) for way in ways)]
    return missed + sorted({f"not known: {each.point}" for each in passed if UNNAMED in each.point})


def cases(points: Map, seeds: range, stories: Sequence[Story] = STORIES) -> list[Case]:
    """Every point with each of the seeds; the stories that pass it take turns."""
    by_name = {story.name: story for story in stories}
    chosen = []
    for point, passages in sorted(points.items()):
        names = [name for name in by_name if name in passages]
        names = Random(point).sample(names, len(names))  # or the last stories would have no turn at what all of them pass
        for seed in seeds:
            name = names[seed % len(names)]
            passage = Random(f"{point} {seed}").randint(1, passages[name]) if seed else 1
            chosen.append(Case(by_name[name], Death(point, passage), seed))
    return chosen


async def recorded(sites: Sequence[Lab], stories: Iterable[Story] = STORIES) -> dict[str, list[Passed]]:
    """What every story passes in an app that lives. Raises ChildError where one does not end as it
    should even so.
    """
    tellings: dict[str, list[Passed]] = {}
    waiting = list(stories)

    async def work(place: Lab) -> None:
        while waiting:
            story = waiting.pop(0)
            result = await run(place, story, None, 0)
            if result.wrong:
                raise ChildError(f"{story.name!r} goes wrong without any crash: {'; '.join(result.wrong)}")
            tellings[story.name] = result.passed

    await asyncio.gather(*(work(place) for place in sites))
    return tellings


async def played(sites: Sequence[Lab], matrix: Iterable[Case], done: Callable[[], None]) -> dict[str, Tally]:
    """Run every case, by point; `done` is called after each."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    waiting = list(matrix)

    async def work(place: Lab) -> None:
        while waiting:
            case = waiting.pop(0)
            result = await run(place, case.story, case.death, case.seed)
            tallies[str(case.death.point)].add(case, result)
            done()

    await asyncio.gather(*(work(place) for place in sites))
    return tallies


async def sites_in(folder: Path, running: AsyncExitStack, count: int) -> list[Lab]:
    """Each run needs a lab to itself; the labs share nothing but a film."""
    await draw(folder / "films")
    places = []
    for number in range(count):
        place = await running.enter_async_context(lab(folder / f"lab{number}"))
        (place.folder / "sora").mkdir()
        (place.folder / "sora" / "films").symlink_to(folder / "films")
        places.append(place)
    return places


def table(tallies: dict[str, Tally]) -> Table:
    shown = Table(box=None, padding=(0, 1), header_style="bold")
    shown.add_column("killed at", overflow="fold")
    for name in ("runs", "died", "completed", "failed", "creates/video", "wrong"):
        shown.add_column(name, justify="right", no_wrap=True)
    total = Tally()
    for point, tally in sorted(tallies.items()):
        shown.add_row(point, *_figures(tally))
        total.runs, total.died = total.runs + tally.runs, total.died + tally.died
        total.completed, total.failed = total.completed + tally.completed, total.failed + tally.failed
        total.most_creates, total.wrong = max(total.most_creates, tally.most_creates), total.wrong + tally.wrong
    shown.add_row(f"{len(tallies)} points", *_figures(total), style="bold")
    return shown


async def recoveries(places: Sequence[Lab]) -> tuple[Table, list[str]]:
    """How soon a video moves again after each disaster, one after the other; and what is wrong."""
    shown = Table("seconds until a video moves again, with Azure's time-outs", "", box=None, padding=(0, 1))
    wrong: list[str] = []
    for name, disaster in DISASTERS.items():
        seconds, found = await recovery(places[0], disaster)
        shown.add_row(name, f"{seconds:.0f}")
        wrong += [f"{name}: {each}" for each in found]
        wrong += [f"{name}: a video moves again only after {seconds:.0f} s"] if seconds > PROMISED else []
    return shown, wrong


def _figures(tally: Tally) -> list[str]:
    wrong = f"[bold red]{len(tally.wrong)}[/]" if tally.wrong else "0"
    counts = [str(each) for each in (tally.runs, tally.died, tally.completed, tally.failed)]
    return [*counts, f"≤ {tally.most_creates:.0f}", wrong]


async def main_async(options: argparse.Namespace, console: Console) -> int:
    stories = [each for each in STORIES if options.story in (None, each.name)]
    unknown: list[str] = []
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        async with AsyncExitStack() as running:
            if options.point:
                (place,) = await sites_in(Path(folder), running, 1)
                matrix = [Case(stories[0], Death(options.point, options.passage), options.seed)]
                tallies = await played([place], matrix, lambda: None)
            else:
                places = await sites_in(Path(folder), running, options.workers)
                tellings = await recorded(places, stories)
                unknown = forgotten(tellings) if options.story is None else []
                if options.story is None:
                    shown, late = await recoveries(places)
                    console.print(shown)
                    unknown += late
                matrix = cases(mapped(tellings), range(options.seed, options.seed + options.seeds))
                with Progress(console=console, transient=True) as progress:
                    task = progress.add_task("killing", total=len(matrix))
                    tallies = await played(places, matrix, lambda: progress.update(task, advance=1))
    console.print(table(tallies))
    wrong = [*unknown, *(each for tally in tallies.values() for each in tally.wrong)]
    for each in wrong:
        console.print(each, style="red", markup=False, highlight=False, soft_wrap=True)
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.trials.crash", description="kill -9 at every point of a video's life."
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help="runs for each point (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=WORKERS, help="runs at the same time (default: %(default)s)")
    parser.add_argument("--story", choices=[story.name for story in STORIES], help="its points alone (default: all stories)")
    parser.add_argument("--point", help="one run alone, of --story, killed at this point")
    parser.add_argument("--passage", type=int, default=1, help="at its so many-th passage (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="its seed, or the first of --seeds (default: %(default)s)")
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    # A client that is killed in the middle of a request is no error of the upstream's.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(main_async(parser.parse_args(), console))
    except (AzuriteError, ChildError) as error:
        console.print(str(error), markup=False)
        return 1
