"""Tables for tests: one in memory that behaves as the real one, and a wrapper that loses answers
and dies between writes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from shared.config.settings import Storage
from shared.storage.tables import Delete, Insert, Replace, Row, Table, Tables, Values, Write, WriteConflict

_MOST_WRITES = 100


class MemoryTable(Table):
    """The semantics of `Table` without a server: etags, transactions, key order. Every call gives
    way once, as I/O does.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}
        self._etags = 0

    async def get(self, partition: str, key: str) -> Row | None:
        await asyncio.sleep(0)
        row = self.rows.get((partition, key))
        return None if row is None else _copy(row)

    async def commit(self, partition: str, *writes: Write) -> list[str]:
        await asyncio.sleep(0)
        keys = [key_of(write) for write in writes]
        assert 0 < len(set(keys)) == len(keys) <= _MOST_WRITES, "no transaction of the real table"
        for key, write in zip(keys, writes, strict=True):
            there = self.rows.get((partition, key))
            if (there and there.etag) != (None if isinstance(write, Insert) else write.row.etag):
                raise WriteConflict("memory")
        return [self._apply(partition, write) for write in writes]

    async def scan(
        self,
        partition: str,
        *,
        after: str = "",
        before: str | None = None,
        page: int | None = None,
        select: Sequence[str] | None = None,
    ) -> AsyncIterator[Row]:
        for place in sorted(self.rows):
            if place[0] == partition and place[1] > after and (before is None or place[1] < before):
                await asyncio.sleep(0)
                row = self.rows.get(place)
                if row is not None:
                    wanted = row.values if select is None else select
                    yield Row(row.key, {name: row.values[name] for name in wanted if name in row.values}, row.etag)

    def _apply(self, partition: str, write: Write) -> str:
        self._etags += 1
        if isinstance(write, Delete):
            del self.rows[partition, write.row.key]
            return ""
        etag = f'W/"{self._etags}"'
        self.rows[partition, key_of(write)] = _copy(Row(key_of(write), dict(write.values), etag))
        return etag


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
    ) -> AsyncIterator[Row]:
        async for row in self._inner.scan(partition, after=after, before=before, page=page, select=select):
            yield row


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
    return write.values if isinstance(write, Insert | Replace) else {}


def _copy(row: Row) -> Row:
    return Row(row.key, {name: value for name, value in row.values.items() if value is not None}, row.etag)
