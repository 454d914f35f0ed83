"""Tables in memory, every operation counted and as slow as on a network."""

import asyncio
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random

from shared.config.settings import Storage
from shared.storage.tables import Tables
from tests.fakes.table import Kind, MemoryTable

PART: ContextVar[str] = ContextVar("PART", default="other")  # what the operations of this task are counted for

_LATENCY = (0.002, 0.012)  # seconds


@dataclass
class Operations:
    """What was asked of the tables, by part of the work and kind of operation."""

    counts: Counter[tuple[str, Kind]] = field(default_factory=Counter)

    def add(self, kind: Kind) -> None:
        self.counts[PART.get(), kind] += 1

    def of(self, part: str | None = None, kind: Kind | None = None) -> int:
        return sum(n for (a, b), n in self.counts.items() if part in (None, a) and kind in (None, b))


class CountedTable(MemoryTable):
    """A table in memory whose every operation is counted and takes its time: a commit twice."""

    def __init__(self, operations: Operations, random: Random, latency: tuple[float, float] = _LATENCY) -> None:
        super().__init__()
        self.operations = operations
        self._random = random
        self._latency = latency

    async def _travel(self) -> None:
        await asyncio.sleep(self._random.uniform(*self._latency))

    def _note(self, kind: Kind) -> None:
        self.operations.add(kind)


class CountedTables(Tables):
    """Both tables of the gateway."""

    def __init__(self, operations: Operations, random: Random) -> None:
        super().__init__(Storage(), lambda: None)
        self.pools: CountedTable = CountedTable(operations, random)
        self.gateway: CountedTable = CountedTable(operations, random)
