"""Every fault of the upstream, in every operation that can meet it, and what became of the video.

Each fault happens once (the upstream recovers) or always (it never does). The tables say how the
video ended, and how often the operation was asked; a cell that is not as expected is red, and what
is wrong with it is said below.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.table import Table

from local.azurite import Azurite, AzuriteError
from local.processes import ChildError
from tests.trials.faults.cells import TALES, Cell, Tale, cells
from tests.trials.faults.own_table import OWN_COLUMNS, OWN_FAULTS
from tests.trials.faults.table import CONTENT, CREATE, FAULTS, FINISHED, LIST, MOVE, POLL, REMIX, RUNNING, TOKEN_FAULTS, TOKENS
from tests.trials.faults.world import FaultWorld, Lives, fault_world

WIDTH = 150  # of the tables, where nobody's terminal sets it
_MOST_PROCESSES = 4
_GETTING_A_JOB = (CREATE, REMIX, LIST, MOVE)
_HAVING_A_JOB = (POLL, CONTENT, RUNNING, FINISHED)
EVERYTHING: Sequence[Cell | Tale] = (*cells(), *TALES)
LEGEND = """\
✓ is completed, anything else the code of the error; then how often the operation was asked. Once → always, or both where they
are the same. create, first of two: two deployments, of which the first always has the fault, and the seconds until the other
has made the video (or the first, where nothing but its answer was spoilt). delete when it is done: ✓ is deleted, bytes and all.
with tokens: calls/new tokens. Never more than one job for a video, but for one that the server lost and that is made again."""


@dataclass
class Matrix:
    """What the cells and tales came to, by their names. `wrong` is what is not as expected, in
    words.
    """

    lives: dict[str, Lives] = field(default_factory=dict)
    wrong: dict[str, list[str]] = field(default_factory=dict)

    def add(self, part: "Matrix") -> None:
        self.lives |= part.lives
        self.wrong |= part.wrong

    @property
    def problems(self) -> list[str]:
        return [f"{name}: {what}" for name in map(str, EVERYTHING) for what in self.wrong.get(name, [])]

    def shown(self, columns: Sequence[str]) -> Table:
        """A row for each fault that was tried in one of these columns."""
        table = _table("once → always", *columns)
        for fault in FAULTS:
            row = [self._told(Cell(fault, column, always) for always in (False, True)) for column in columns]
            if any(row):
                table.add_row(fault, *(told or "–" for told in row))
        return table

    def shown_own(self, dialect: str) -> Table:
        """A row for each fault of such a server."""
        columns = OWN_COLUMNS[dialect]
        table = _table(f"{dialect}: once → always", *columns)
        for fault in OWN_FAULTS[dialect]:
            told = (self._told(Cell(fault, each, always, dialect=dialect) for always in (False, True)) for each in columns)
            table.add_row(fault, *(each or "–" for each in told))
        return table

    def shown_tokens(self) -> Table:
        """A row for each column of the others."""
        table = _table("with tokens: once → always", *TOKEN_FAULTS)
        for column in TOKENS:
            row = [self._told(Cell(fault, column, always, True) for always in (False, True)) for fault in TOKEN_FAULTS]
            table.add_row(column, *row)
        return table

    def shown_tales(self) -> Table:
        table = _table("what else", "how it ends", "calls")
        for tale in TALES:
            if str(tale) in self.lives:
                table.add_row(str(tale), self._told([tale]), tale.operation)
        return table

    def _told(self, tried: Iterable[Cell | Tale]) -> str:
        """How they ended, red if anything is wrong; an end that is repeated is named once."""
        told: list[str] = []
        ends: list[str] = []
        present = [each for each in tried if str(each) in self.lives]
        for each in present:
            lives = self.lives[str(each)]
            end, count = _end_of(lives), _count_of(each, lives)
            text = count if end in ends else f"{end} {count}"
            if text not in told and f"{end} {count}" not in told:
                told.append(text)
            ends.append(end)
        text = " → ".join(told)
        return f"[bold red]{text}[/]" if any(self.wrong[str(each)] for each in present) else text


def _end_of(lives: Lives) -> str:
    return "✓" if lives.end == "completed" else lives.end


def _count_of(tried: Cell | Tale, lives: Lives) -> str:
    if isinstance(tried, Cell) and tried.column == MOVE and lives.end == "completed":
        return f"{lives.took:.0f} s"
    calls = str(lives.asked[tried.operation])
    return f"{calls}/{lives.renewed}" if isinstance(tried, Cell) and tried.identity else calls


def _table(title: str, *columns: str) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column(title, no_wrap=True)
    for column in columns:
        table.add_column(column)
    return table


async def run(world: FaultWorld, chosen: Iterable[Cell | Tale]) -> Matrix:
    """Live through them, one after the other."""
    matrix = Matrix()
    for each in chosen:
        lives = await each.lives(world)
        matrix.lives[str(each)], matrix.wrong[str(each)] = lives, each.wrong(lives)
    return matrix


def share(storage: str, folder: Path, number: int, shares: int) -> Matrix:
    """One of so many equal parts of everything, in a world of its own."""

    return asyncio.run(lived(storage, folder, EVERYTHING[number::shares]))


async def lived(storage: str, folder: Path, chosen: Iterable[Cell | Tale]) -> Matrix:
    """All of these, each at a server of its dialect."""
    matrix, everything = Matrix(), list(chosen)
    for dialect in dict.fromkeys(each.dialect for each in everything):
        place = folder / dialect
        place.mkdir(parents=True)
        async with fault_world(storage, place, dialect) as world:
            matrix.add(await run(world, [each for each in everything if each.dialect == dialect]))
    return matrix


async def everything(storage: str, folder: Path) -> Matrix:
    """All cells and tales, each share of them in a process of its own."""
    shares, matrix, loop = min(os.cpu_count() or 1, _MOST_PROCESSES), Matrix(), asyncio.get_running_loop()
    with ProcessPoolExecutor(shares, get_context("spawn")) as pool:
        parts = (loop.run_in_executor(pool, share, storage, folder / str(number), number, shares) for number in range(shares))
        for part in await asyncio.gather(*parts):
            matrix.add(part)
    return matrix


async def show(console: Console) -> int:
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        async with Azurite(Path(folder) / "azurite") as azurite:
            matrix = await everything(azurite.connection_string, Path(folder))
    azure = (matrix.shown(_GETTING_A_JOB), matrix.shown(_HAVING_A_JOB), matrix.shown_tokens())
    for table in (*azure, *(matrix.shown_own(dialect) for dialect in OWN_FAULTS), matrix.shown_tales()):
        console.print(table, "")
    console.print(LEGEND, highlight=False)
    for each in matrix.problems:
        console.print(each, style="red", markup=False, highlight=False)
    return 1 if matrix.problems else 0


def main() -> int:
    argparse.ArgumentParser(
        prog="python -m tests.trials.faults", description="Every upstream fault in every operation."
    ).parse_args()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    try:
        return asyncio.run(show(console))
    except (AzuriteError, ChildError) as error:
        print(error, file=sys.stderr)
        return 1
