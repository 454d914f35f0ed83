"""Tables for tests: one in memory that behaves as the real one, and a wrapper that loses answers
and dies between writes.
"""

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Literal

from shared.config.settings import Storage
from shared.storage.table_values import Form, Values
from shared.storage.tables import ANY, Delete, Insert, Merge, Replace, Row, Table, Tables, Write, WriteConflict

Kind = Literal["point read", "page of a range", "transaction", "lost race"]

_PAGE = 1000
_MOST_WRITES = 100
_MOST_BYTES = 4 * 1024 * 1024


@dataclass
class Partition:
    """The rows of one partition, and their keys in order."""

    keys: list[str] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)


class MemoryTable(Table):
    """The semantics of `Table` without a server: etags, transactions of at most 100 rows and 4 MiB,
    ranges in pages of 1000 in the order of the keys.

    What is asked of it gives way once on its way, as I/O does; `_travel` and `_note` are for those
    who make that longer and count it.
    """

    def __init__(self) -> None:
        self.partitions: defaultdict[str, Partition] = defaultdict(Partition)
        self._etags = count(1)

    async def get(self, partition: str, key: str) -> Row | None:
        self._note("point read")
        await self._travel()
        row = self.peek(partition, key)
        return None if row is None else _copy(row)

    async def commit(self, partition: str, *writes: Write) -> list[str]:
        _check_limits(writes)
        await self._travel()
        there = self.partitions[partition]
        for write in writes:
            row = there.rows.get(key_of(write))
            wanted = None if isinstance(write, Insert) else write.row.etag
            if (row and row.etag) != (row.etag if row and wanted == ANY else wanted):
                self._note("lost race")
                raise WriteConflict("memory")
        self._note("transaction")
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
        where: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Row, None]:
        there, size = self.partitions[partition], min(page or _PAGE, _PAGE)
        while True:
            self._note("page of a range")
            await self._travel()
            start = bisect_right(there.keys, after)
            end = len(there.keys) if before is None else bisect_left(there.keys, before)
            looked_at = there.keys[start : min(start + _PAGE, end)]  # what the service looks at in one request
            found = (there.rows[key] for key in looked_at if (where or {}).items() <= there.rows[key].values.items())
            rows = list(islice(found, size))
            after = rows[-1].key if len(rows) == size else "".join(looked_at[-1:])
            more = after < "".join(there.keys[max(start, end - 1) : end])
            for row in rows:
                wanted = row.values if select is None else select
                yield Row(row.key, {name: row.values[name] for name in wanted if name in row.values}, row.etag)
            if not more:
                return

    async def first_as(
        self, form: type[Form], partition: str, count: int, *, after: str = "", before: str | None = None
    ) -> list[Form]:
        rows = await self.first(partition, count, after=after, before=before)
        return [row.read(form, RowKey=row.key) for row in rows]

    async def everything(self) -> AsyncGenerator[tuple[str, Row], None]:
        for partition in sorted(self.partitions):
            async for row in self.scan(partition):
                yield partition, row

    def keys(self, partition: str) -> Sequence[str]:
        """The keys of a partition in order, uncounted: for those who check."""
        return self.partitions[partition].keys

    def peek(self, partition: str, key: str) -> Row | None:
        """A row as it is now, uncounted."""
        return self.partitions[partition].rows.get(key)

    def _apply(self, there: Partition, write: Write) -> str:
        key = key_of(write)
        if isinstance(write, Delete):
            del there.rows[key]
            del there.keys[bisect_left(there.keys, key)]
            return ""
        if isinstance(write, Insert):
            insort(there.keys, key)
        kept = there.rows[key].values if isinstance(write, Merge) else {}
        changed = {name: value for name, value in write.values.items() if value is not None}
        there.rows[key] = Row(key, kept | changed, f'W/"{next(self._etags)}"')
        return there.rows[key].etag

    async def _travel(self) -> None:
        await asyncio.sleep(0)

    def _note(self, kind: Kind) -> None:
        """Called with every operation."""


@dataclass
class Faults:
    """What shall happen to the commits of one process. Shared by its tables.

    `before` and `after` are called with every commit and may raise: `after` is a commit that worked
    and whose answer is lost. `dies_after` commits the process is dead: the call never comes back,
    and `died` is set.
    """

    before: Callable[[Sequence[Write]], None] = lambda writes: None
    after: Callable[[Sequence[Write]], None] = lambda writes: None
    dies_after: int | None = None
    died: asyncio.Event = field(default_factory=asyncio.Event)
    commits: list[tuple[str, tuple[Write, ...]]] = field(default_factory=list)

    async def live(self) -> None:
        """Comes back only if the process is alive."""
        if self.dies_after is not None and len(self.commits) >= self.dies_after:
            self.died.set()
            await asyncio.Event().wait()


class FaultyTable(Table):
    """Another table, with faults."""

    def __init__(self, inner: Table, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    async def get(self, partition: str, key: str) -> Row | None:
        return await self._inner.get(partition, key)

    async def commit(self, partition: str, *writes: Write) -> list[str]:
        await self._faults.live()
        self._faults.before(writes)
        etags = await self._inner.commit(partition, *writes)
        self._faults.commits.append((partition, writes))
        self._faults.after(writes)
        return etags

    async def scan(
        self,
        partition: str,
        *,
        after: str = "",
        before: str | None = None,
        page: int | None = None,
        select: Sequence[str] | None = None,
        where: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Row, None]:
        async for row in self._inner.scan(partition, after=after, before=before, page=page, select=select, where=where):
            yield row

    async def first_as(
        self, form: type[Form], partition: str, count: int, *, after: str = "", before: str | None = None
    ) -> list[Form]:
        return await self._inner.first_as(form, partition, count, after=after, before=before)

    async def everything(self) -> AsyncGenerator[tuple[str, Row], None]:
        async for each in self._inner.everything():
            yield each


class FaultyTables(Tables):
    """The tables of one process: those of a storage account under names of their own, or `inner`
    ones; with faults.
    """

    def __init__(self, storage: Storage, faults: Faults, *, prefix: str = "", inner: tuple[Table, Table] | None = None) -> None:
        super().__init__(storage, lambda: None)
        gateway, pools = inner or (Table(self._connect, f"{prefix}gateway"), Table(self._connect, f"{prefix}pools"))
        self.inner = (gateway, pools)
        self.gateway = FaultyTable(gateway, faults)
        self.pools = FaultyTable(pools, faults)


def key_of(write: Write) -> str:
    return write.key if isinstance(write, Insert) else write.row.key


def values_of(write: Write) -> Values:
    return write.values if isinstance(write, Insert | Replace | Merge) else {}


def _check_limits(writes: Sequence[Write]) -> None:
    """The real table's refusal of such a transaction is a mistake of ours, and no race."""
    keys = {key_of(write) for write in writes}
    size = sum(_size_of(values_of(write)) for write in writes)
    if not 0 < len(keys) == len(writes) <= _MOST_WRITES or size > _MOST_BYTES:
        raise ValueError(f"{len(writes)} writes of {size} bytes to {len(keys)} rows are no transaction of Azure's")


def _size_of(values: Values) -> int:
    return sum(len(name) * 2 + (len(value) * 2 if isinstance(value, str) else 8) for name, value in values.items())


def _copy(row: Row) -> Row:
    return Row(row.key, {name: value for name, value in row.values.items() if value is not None}, row.etag)
