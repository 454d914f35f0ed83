"""Puts Microsoft's Durable extension and the stand-in through the same, and shows differences.

`make engine ENGINE=path/of/durable-engine`. Exits with 1 where they differ and are not known to.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
from azure.durable_functions.models.utils.http_utils import _close_session
from rich.console import Console
from rich.table import Table

from local.azurite import Azurite, AzuriteError
from local.processes import ChildError
from tests.fakes.engine import orchestrator
from tests.trials.engine import engines, flows
from tests.trials.engine.cases import CLIENTS, ORCHESTRATIONS, Case
from tests.trials.engine.client import Client
from tests.trials.engine.engines import Engine
from tests.trials.engine.lives import Lives, lives

AT_ONCE = 12  # cases on each engine at the same time
WIDTH = 150
KNOWN = {
    "unknown activity": "the real engine leaves the instance running for ever; here it fails at once and says why",
    "rewind of nobody": "nothing here rewinds: 501",
}


@dataclass(frozen=True)
class Row:
    """A case, and what came of it on both."""

    name: str
    real: Any
    stand_in: Any

    @property
    def same(self) -> bool:
        return bool(self.real == self.stand_in)

    @property
    def verdict(self) -> str:
        if self.same:
            return "same"
        return "known" if self.name in KNOWN else "DIFFERENT"


async def outcomes(engine: Engine, cases: tuple[Case, ...]) -> dict[str, Any]:
    """What came of each case on one engine, as JSON would carry it."""
    gate = asyncio.Semaphore(AT_ONCE)
    found: dict[str, Any] = {}
    async with aiohttp.ClientSession() as http:
        client = Client.of(engine, http)

        async def one(case: Case) -> None:
            async with gate:
                try:
                    found[case.name] = json.loads(json.dumps(await case.act(client)))
                except TimeoutError:
                    found[case.name] = "does not end"

        await asyncio.gather(*(one(case) for case in cases))
    return found


async def compared(binary: Path, folder: Path, *, with_lives: bool) -> list[Row]:
    """Everything on both engines, at the same time."""
    (folder / "host.json").write_text(json.dumps(engines.HOST))
    async with AsyncExitStack() as running:
        # One after the other, or they would snatch ports from each other.
        accounts = [await running.enter_async_context(Azurite(folder / f"azurite{n}")) for n in range(3)]
        first, second, third = (account.connection_string for account in accounts)
        if not with_lives:
            return await _cases(binary, folder, first)
        rows, real, stand_in = await asyncio.gather(
            _cases(binary, folder, first),
            lives(binary, folder / "real", second),
            lives(None, folder / "stand-in", third),
        )
        return rows + _lives(real, stand_in)


async def _cases(binary: Path, folder: Path, storage: str) -> list[Row]:
    """The small cases, each engine with functions of its own."""
    cases = (*ORCHESTRATIONS, *CLIENTS)
    orchestrators = {flow.__name__: orchestrator(flow) for flow in flows.FLOWS}
    async with AsyncExitStack() as running:
        real = await running.enter_async_context(
            engines.real(
                binary,
                folder,
                storage,
                host_json=folder / "host.json",
                orchestrators=orchestrators,
                activities=flows.activities(asyncio.sleep),
            )
        )
        stand_in = await running.enter_async_context(engines.stand_in(folder, orchestrators, flows.activities(asyncio.sleep)))
        running.push_async_callback(_close_session)
        theirs, ours = await asyncio.gather(outcomes(real, cases), outcomes(stand_in, cases))
        return [Row(case.name, theirs[case.name], ours[case.name]) for case in cases]


def _lives(real: Lives, stand_in: Lives) -> list[Row]:
    """The rows of the videos' lives. Seconds are shown, and compared only with what is promised."""

    def recovery(each: Lives) -> str:
        return "within 90 s" if each.recovery <= 90 else f"{each.recovery:.0f} s"

    def handover(each: Lives, promised: float) -> str:
        typical = median(each.handovers)
        return "in time" if typical <= promised else f"{typical:.1f} s"

    for name, each in (("real", real), ("stand-in", stand_in)):
        gaps = ", ".join(f"{seconds:.1f}" for seconds in each.handovers)
        print(f"From a freed slot to the next create, on the {name} engine: {gaps} s.")
    print(f"From kill -9 to the last video's end: {real.recovery:.0f} s, and {stand_in.recovery:.0f} s on the stand-in.")
    return [
        Row("how videos end, with faults and kill -9", real.ends, stand_in.ends),
        Row("the most jobs of one video", real.most_jobs, stand_in.most_jobs),
        Row("recovery from kill -9", recovery(real), recovery(stand_in)),
        Row("from a freed slot to the next create (3 s, stand-in 1 s)", handover(real, 3.0), handover(stand_in, 1.0)),
    ]


def table(rows: list[Row]) -> Table:
    shown = Table(box=None, padding=(0, 1), header_style="bold")
    shown.add_column("case", overflow="fold")
    for name in ("real", "stand-in"):
        shown.add_column(name, overflow="fold", max_width=44)
    shown.add_column("", no_wrap=True)
    for row in rows:
        real, stand_in = (_shown(value, row.same) for value in (row.real, row.stand_in))
        style = {"same": None, "known": "yellow", "DIFFERENT": "bold red"}[row.verdict]
        shown.add_row(row.name, real, "″" if row.same else stand_in, row.verdict, style=style)
    return shown


def _shown(value: Any, same: bool) -> str:
    """A JSON value; where both are the same its beginning is enough."""
    text = json.dumps(value, ensure_ascii=False).replace("[", "\\[")
    return f"{text[:80]}…" if same and len(text) > 81 else text


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.trials.engine", description="The stand-in beside the real engine.")
    parser.add_argument("engine", type=Path, help="the file `durable-engine`")
    parser.add_argument("--without-lives", action="store_true", help="the small cases alone")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if not options.engine.is_file():
        console.print(f"{options.engine} is not there: name the engine with ENGINE=path/of/durable-engine.", markup=False)
        return 1
    try:
        with tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as folder:
            rows = asyncio.run(compared(options.engine.resolve(), Path(folder), with_lives=not options.without_lives))
    except (AzuriteError, ChildError) as error:
        console.print(str(error), markup=False)
        return 1
    console.print(table(rows))
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("same", "known", "DIFFERENT")}
    console.print(f"{len(rows)} cases: {counts['same']} same, {counts['known']} known, {counts['DIFFERENT']} different")
    return 1 if counts["DIFFERENT"] else 0


if __name__ == "__main__":
    sys.exit(main())
