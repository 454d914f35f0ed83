"""`make stampede`: many creates at once against one key's budget, through several processes of the
app on one storage.

Optimistic writes alone would let 200 callers fight over one row; here they are admitted together.
What must hold: exactly as many videos as the budget covers, and never more spent and reserved than
it, at any sample. Then how fast one hot key is, beside the same load on many keys.
"""

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from local.azurite import Azurite
from tests.trials.bench.setup import MASTER_KEY, App, app_settings, running_app, simulated_upstream

PROCESSES = 3
CREATES = 200
BUDGET, PRICE = 10.0, 0.4
COVERED = 25  # what the budget covers: 10.00 / 0.40
_HOT_CREATES, _HOT_CALLERS = 320, 32


@dataclass(frozen=True)
class Round:
    """What came of one stampede. `most` is the largest sum of spent and reserved dollars that was
    seen.
    """

    accepted: int
    refused: int
    others: dict[str, int]
    most: float
    seconds: float

    @property
    def right(self) -> bool:
        return self.accepted == COVERED and self.refused == CREATES - COVERED and self.most <= BUDGET


@dataclass(frozen=True)
class Apps:
    """Several processes of one app; `clients` are theirs, in order."""

    clients: Sequence[httpx.AsyncClient]

    async def new_key(self, **limits: Any) -> str:
        answer = await self.clients[0].post("/key/generate", json=limits, headers=_bearer(MASTER_KEY))
        answer.raise_for_status()
        return str(answer.json()["key"])

    async def create(self, number: int, key: str) -> httpx.Response:
        """The client number says which process is asked."""
        body = {"prompt": f"A cat, take {number}", "seconds": "4"}
        return await self.clients[number % len(self.clients)].post("/v1/videos", json=body, headers=_bearer(key))

    async def held(self, key: str) -> float:
        """Dollars spent and reserved."""
        answer = await self.clients[0].get("/key/info", headers=_bearer(key))
        info = answer.json()["info"]
        return round(float(info["spend"] + info["reserved"]), 6)


@asynccontextmanager
async def several_apps(storage: str, folder: Path, processes: int = PROCESSES) -> AsyncIterator[Apps]:
    """The app in so many processes that share a storage account and a task hub. Raises
    ChildError.
    """
    async with AsyncExitStack() as running:
        (folder / "sora").mkdir()
        upstream = await running.enter_async_context(simulated_upstream(folder / "sora"))
        settings = app_settings(folder / "app", storage, upstream.url, "redirect")
        apps: list[App] = [await running.enter_async_context(running_app(folder / "app", settings)) for _ in range(processes)]
        limits = httpx.Limits(max_connections=100)
        clients = [
            await running.enter_async_context(httpx.AsyncClient(base_url=app.url, timeout=60, trust_env=False, limits=limits))
            for app in apps
        ]
        yield Apps(clients)


async def stampede(apps: Apps) -> Round:
    """All creates at once on a new key, while the key is watched."""
    key = await apps.new_key(max_budget=BUDGET)
    samples: list[float] = []

    async def watch() -> None:
        while True:
            samples.append(await apps.held(key))

    watcher = asyncio.create_task(watch())
    begin = time.monotonic()
    answers = await asyncio.gather(*(apps.create(number, key) for number in range(CREATES)))
    seconds = time.monotonic() - begin
    watcher.cancel()
    samples.append(await apps.held(key))
    codes = Counter("accepted" if each.status_code == 200 else str(each.json()["error"]["code"]) for each in answers)
    accepted, refused = codes.pop("accepted", 0), codes.pop("budget_exceeded", 0)
    return Round(accepted, refused, dict(codes), max(samples), seconds)


async def creates_per_second(apps: Apps, keys: Sequence[str]) -> float:
    """So many callers, each on the next of the keys, one create after the other."""
    numbers = iter(range(_HOT_CREATES))

    async def call() -> None:
        for number in numbers:
            (await apps.create(number, keys[number % len(keys)])).raise_for_status()

    begin = time.monotonic()
    await asyncio.gather(*(call() for _ in range(_HOT_CALLERS)))
    return _HOT_CREATES / (time.monotonic() - begin)


async def measure(rounds: int, console: Console) -> bool:
    """Print both tables; whether every round was right."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        async with Azurite(folder / "azurite") as storage, several_apps(storage.connection_string, folder) as apps:
            results = [await stampede(apps) for _ in track(range(rounds), "Stampeding", console=console)]
        async with Azurite(folder / "azurite") as storage:
            (folder / "hot").mkdir()
            async with several_apps(storage.connection_string, folder / "hot", processes=1) as apps:
                one = [await apps.new_key()]
                many = [await apps.new_key() for _ in range(_HOT_CALLERS)]
                await creates_per_second(apps, many)  # connections and caches are warm from here on
                hot, spread = await creates_per_second(apps, one), await creates_per_second(apps, many)
    console.print(_rounds_table(results))
    console.print(
        f"{_HOT_CALLERS} callers at once: {hot:.0f} creates/s on one key, {spread:.0f} on {_HOT_CALLERS} keys: "
        f"ratio {hot / spread:.2f} (goal: at least 0.5)"
    )
    return all(result.right for result in results)


def _rounds_table(results: Sequence[Round]) -> Table:
    title = f"{CREATES} creates of ${PRICE:.2f} at once against ${BUDGET:.2f}, through {PROCESSES} processes"
    table = Table("round", "accepted", "refused", "other", "most held", "seconds", "", title=title)
    for number, each in enumerate(results, 1):
        other = ", ".join(f"{count} × {code}" for code, count in each.others.items())
        row = (str(number), str(each.accepted), str(each.refused), other, f"${each.most:.2f}", f"{each.seconds:.1f}")
        table.add_row(*row, "right" if each.right else "WRONG")
    return table


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.trials.stampede", description="Many creates at once on one budget.")
    parser.add_argument("--rounds", type=int, default=20, help="how often (default: %(default)s)")
    given = parser.parse_args()
    if not asyncio.run(measure(given.rounds, Console())):
        raise SystemExit("The budget did not hold.")


if __name__ == "__main__":
    main()
