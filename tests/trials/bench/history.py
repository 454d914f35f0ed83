"""Requests to storage per call, beside a history that has nothing to do with the call.

`python -m tests.trials.bench.history` makes 100,000 videos on one key, half of them deleted, and
10,000 keys, in tables in memory that count; and prints for half of that and for all of it how many
requests each call takes. Nothing may grow.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random

import msgspec
from msgspec.structs import replace

from shared import gateway as composition
from shared.accounts.account import Account
from shared.accounts.commits import ACCOUNT
from shared.accounts.keys import KEYS
from shared.accounts.spend_lines import SPEND, SpendLine
from shared.config import settings
from shared.config.settings import Storage
from shared.gateway import Gateway
from shared.media.video import Video, VideoFilter, new_id
from shared.routes.spend import Filter, Spend
from shared.storage.tables import Insert, Row, Tables
from shared.storage.video_store import INDEXING, UPKEEP, VideoRow, hiding, listed
from shared.upkeep.sweep import Sweep
from tests.fakes.clock import SkippingClock
from tests.fakes.orchestrations import Engine
from tests.fakes.table import Kind, MemoryTable

_NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)  # a full hour: the sweep does its housekeeping
_EVERY = timedelta(minutes=5)  # between two videos of the key: a year, where there are 100,000
_OWNER = "key_00000001"
_ENVIRONMENT = {
    "AzureWebJobsStorage": "UseDevelopmentStorage=true",
    "AZURE_OPENAI_API_BASE": "https://example.openai.azure.com/",
    "AZURE_OPENAI_API_KEY": "upstream-secret",
}
FILTERS = {
    "one user's": VideoFilter(user="user 3"),
    "all that are completed": VideoFilter(status="completed"),
    "status of none": VideoFilter(status="failed"),
    "model of none": VideoFilter(model="sora-1"),
    "user of none": VideoFilter(user="nobody"),
    "metadata of none": VideoFilter(metadata=(("shot", "1"),)),
}
FILTERED = tuple(f"list, {name}{order}" for name in FILTERS for order in ("", ", oldest first"))
CALLS = (
    "list, newest first",
    "list, oldest first",
    "list, page 2, oldest first",
    *FILTERED,
    "spend logs",
    "spend report",
    "sweep",
)
PAGE = 20


class CountingTable(MemoryTable):
    """Counts every request; lost races too."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0

    def _note(self, kind: Kind) -> None:
        self.requests += 1


class CountingTables(Tables):
    def __init__(self) -> None:
        super().__init__(Storage(), lambda: None)
        self.gateway: CountingTable = CountingTable()
        self.pools: CountingTable = CountingTable()

    @property
    def requests(self) -> int:
        return self.gateway.requests + self.pools.requests


@dataclass(frozen=True)
class History:
    """A gateway with so much behind it."""

    gateway: Gateway
    tables: CountingTables
    size: int

    async def counts(self) -> dict[str, int]:
        """Requests of each call."""
        listing = self.gateway.videos
        first = await listing.oldest_first(_OWNER, PAGE)
        spend = Spend(listing, self.gateway.lines, self.gateway.keys, log_prompts=True)
        today = _NOW.date()
        filtered = [
            partial(read, _OWNER, PAGE, wanted=wanted)
            for wanted in FILTERS.values()
            for read in (listing.newest_first, listing.oldest_first)
        ]
        calls: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: listing.newest_first(_OWNER, PAGE),
            lambda: listing.oldest_first(_OWNER, PAGE),
            lambda: listing.oldest_first(_OWNER, PAGE, after=first.last),
            *filtered,
            lambda: spend.logs(Filter(), 1, 50),
            lambda: spend.report(Filter(start=today - timedelta(days=30), end=today), "key"),
            lambda: Sweep(self.gateway, Engine()).run(),
        )
        return {name: await self._counted(call) for name, call in zip(CALLS, calls, strict=True)}

    async def _counted(self, call: Callable[[], Awaitable[object]]) -> int:
        before = self.tables.requests
        await call()
        return self.tables.requests - before


async def history(videos: int, keys: int) -> History:
    """`videos` of one key, five minutes apart, the later half deleted; and `keys` keys in all."""
    tables = CountingTables()
    given = settings.load(_ENVIRONMENT)
    given = replace(given, knobs=replace(given.knobs, retention_days=30))
    gateway = composition.build(given, SkippingClock(_NOW), Random(1), tables=tables)
    await tables.gateway.commit(UPKEEP, Insert(INDEXING, {"done": True}))
    await tables.gateway.commit(UPKEEP, Insert("identities", {"until": _NOW - timedelta(hours=25)}))
    for number in range(1, keys + 1):
        key_id = f"key_{number:08x}"
        await tables.gateway.commit(KEYS, Insert(key_id, {}))
        await tables.gateway.commit(key_id, Insert(ACCOUNT, Account(alias=f"alias {number}").to_row()))
    for number in range(videos):
        await _record(gateway, number, deleted=number < videos // 2)
    return History(gateway, tables, videos)


async def _record(gateway: Gateway, number: int, *, deleted: bool) -> None:
    """A completed video, as the gateway leaves it."""
    made = _NOW - (number + 1) * _EVERY
    video = Video(
        id=new_id(_OWNER, made),
        model="sora-2",
        created_at=made,
        prompt="A cat",
        seconds=4,
        size="720x1280",
        cost=400_000,
        user=f"user {number % 10}",
        status="completed",
        finished_at=made + timedelta(minutes=2),
    )
    table = gateway.tables.gateway
    (etag, listing) = await table.commit(_OWNER, Insert(video.id, video.to_row()), listed(video.id))
    line = msgspec.structs.asdict(SpendLine.of(video))
    del line["id"]
    await table.commit(SPEND, Insert(f"done_{video.id}", line))
    if deleted:
        entry = VideoRow(video, Row(video.id, video.to_row(), etag))
        gone = replace(video, deleted=True)
        await table.commit(_OWNER, *hiding(entry, gone, Row(listed(video.id).key, {}, listing)))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=10_000)
    given = parser.parse_args()
    half = await (await history(given.videos // 2, given.keys // 2)).counts()
    whole = await (await history(given.videos, given.keys)).counts()
    print(f"{'requests a call':36}{given.videos // 2:>10,} videos{given.videos:>10,} videos")
    print(f"{'':36}{given.keys // 2:>10,} keys  {given.keys:>10,} keys")
    for name in CALLS:
        print(f"{name:36}{half[name]:>10}       {whole[name]:>10}")


if __name__ == "__main__":
    asyncio.run(main())
