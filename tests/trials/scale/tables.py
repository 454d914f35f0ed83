"""Tables in memory with the semantics of the real ones, every operation counted and as slow as on a
network.
"""

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Literal

from shared.config.settings import Storage
from shared.storage.tables import Delete, Insert, Row, Table, Tables, Values, Write, WriteConflict

Kind = Literal["point read", "page of a range", "transaction", "lost race"]

PART: ContextVar[str] = ContextVar("PART", default="other")  # what the operations of this task are counted for

_PAGE = 1000
_MOST_WRITES = 100
_MOST_BYTES = 4 * 1024 * 1024
_LATENCY = (0.002, 0.012)  # seconds


@dataclass
class Operations:
    """What was asked of the tables, by part of the work and kind of operation."""

    counts: Counter[tuple[str, Kind]] = field(default_factory=Counter)

    def add(self, kind: Kind) -> None:
        self.counts[PART.get(), kind] += 1

    def of(self, part: str | None = None, kind: Kind | None = None) -> int:
        return sum(n for (a, b), n in self.counts.items() if part in (None, a) and kind in (None, b))


@dataclass
class _Partition:
    keys: list[str] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)


class CountedTable(Table):
    """Etag conditions, transactions of at most 100 rows and 4 MiB, ranges in pages of 1000 in the
    order of the keys.
    """

    def __init__(self, operations: Operations, random: Random) -> None:
        self._operations = operations
        self._random = random
        self._partitions: defaultdict[str, _Partition] = defaultdict(_Partition)
        self._etags = count(1)

    async def get(self, partition: str, key: str) -> Row | None:
        self._operations.add("point read")
        await self._travel()
        row = self._partitions[partition].rows.get(key)
        return None if row is None else Row(row.key, dict(row.values), row.etag)

    async def commit(self, partition: str, *writes: Write) -> list[str]:
        _check_limits(writes)
        await self._travel()
        there = self._partitions[partition]
        for write in writes:
            row = there.rows.get(_key_of(write))
            if (row.etag if row else None) != (None if isinstance(write, Insert) else write.row.etag):
                self._operations.add("lost race")
                raise WriteConflict("memory")
        self._operations.add("transaction")
        etags = [self._apply(there, write) for write in writes]
        await self._travel()
        return etags

    async def scan(
        self,
        partition: str,
        *,
        after: str = "",
        before: str | None = None,
        page: int | None = None,
        select: Sequence[str] | None = None,
    ) -> AsyncIterator[Row]:
        there, size = self._partitions[partition], min(page or _PAGE, _PAGE)
        while True:
            self._operations.add("page of a range")
            await self._travel()
            start = bisect_right(there.keys, after)
            end = len(there.keys) if before is None else bisect_left(there.keys, before)
            rows = [there.rows[key] for key in there.keys[start : min(start + size, end)]]
            for row in rows:
                wanted = row.values if select is None else select
                yield Row(row.key, {name: row.values[name] for name in wanted if name in row.values}, row.etag)
            if start + size >= end:
                return
            after = rows[-1].key

    def keys(self, partition: str) -> Sequence[str]:
        """What lies in a partition now, uncounted: for those who check."""
        return self._partitions[partition].keys

    def peek(self, partition: str, key: str) -> Row | None:
        """A row as it is now, uncounted."""
        return self._partitions[partition].rows.get(key)

    def _apply(self, there: _Partition, write: Write) -> str:
        key = _key_of(write)
        if isinstance(write, Delete):
            del there.rows[key]
            del there.keys[bisect_left(there.keys, key)]
            return ""
        if isinstance(write, Insert):
            insort(there.keys, key)
        values = {name: value for name, value in write.values.items() if value is not None}
        there.rows[key] = Row(key, values, f'W/"{next(self._etags)}"')
        return there.rows[key].etag

    async def _travel(self) -> None:
        await asyncio.sleep(self._random.uniform(*_LATENCY))


class CountedTables(Tables):
    """Both tables of the gateway."""

    def __init__(self, operations: Operations, random: Random) -> None:
        super().__init__(Storage(), lambda: None)
        self.pools: CountedTable = CountedTable(operations, random)
        self.gateway: CountedTable = CountedTable(operations, random)


def _check_limits(writes: Sequence[Write]) -> None:
    """What the real table refuses is a mistake of ours, and no race."""
    keys = {_key_of(write) for write in writes}
    size = sum(_size_of(write.values) for write in writes if not isinstance(write, Delete))
    if not 0 < len(keys) == len(writes) <= _MOST_WRITES or size > _MOST_BYTES:
        raise ValueError(f"{len(writes)} writes of {size} bytes to {len(keys)} rows are no transaction of Azure's")


def _size_of(values: Values) -> int:
    return sum(len(name) * 2 + (len(value) * 2 if isinstance(value, str) else 8) for name, value in values.items())


def _key_of(write: Write) -> str:
    return write.key if isinstance(write, Insert) else write.row.key
