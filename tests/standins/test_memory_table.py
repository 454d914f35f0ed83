"""The table in memory against the real one: the same stories, the same endings."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.config.settings import Storage
from shared.storage.tables import Delete, Insert, Replace, Row, Table, Tables, WriteConflict
from tests.fakes.table import MemoryTable

Story = Callable[[Table, str], Awaitable[None]]

VALUES: dict[str, Any] = {
    "money": 2**40,
    "text": "A cat, 'quoted' & <marked> 🐈",
    "long": "🐈" * 32_000,
    "empty": "",
    "flag": False,
    "time": datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC),
}


@pytest.fixture(params=["azurite", "memory"])
def tell(request: pytest.FixtureRequest, azurite: str) -> Callable[[Story], None]:
    """Runs a story on a table with a partition of its own."""

    async def told(story: Story) -> None:
        partition = f"p{secrets.token_hex(6)}"
        if request.param == "memory":
            return await story(MemoryTable(), partition)
        tables = Tables(Storage(connection_string=azurite), lambda: None)
        try:
            await story(tables.gateway, partition)
        finally:
            await tables.close()

    return lambda story: asyncio.run(told(story))


async def read(table: Table, partition: str, key: str) -> Row:
    row = await table.get(partition, key)
    assert row is not None
    return row


def test_what_was_written_is_read(tell: Callable[[Story], None]) -> None:
    """Every kind of value comes back equal, also a text longer than one property holds; None is not
    stored.
    """

    async def story(table: Table, partition: str) -> None:
        assert await table.get(partition, "a") is None
        (etag,) = await table.commit(partition, Insert("a", {**VALUES, "none": None}))
        row = await read(table, partition, "a")
        assert (row.key, row.values, row.etag) == ("a", VALUES, etag)

    tell(story)


def test_a_row_is_inserted_once(tell: Callable[[Story], None]) -> None:
    """The second insert is a conflict and changes nothing."""

    async def story(table: Table, partition: str) -> None:
        await table.commit(partition, Insert("a", {"n": 1}))
        with pytest.raises(WriteConflict):
            await table.commit(partition, Insert("a", {"n": 2}))
        assert (await read(table, partition, "a")).values == {"n": 1}

    tell(story)


def test_only_what_was_read_last_can_be_replaced_or_deleted(tell: Callable[[Story], None]) -> None:
    """An etag is good for one write; replacing forgets properties that are not given; what is gone
    is a conflict.
    """

    async def story(table: Table, partition: str) -> None:
        await table.commit(partition, Insert("a", {"n": 1, "m": 1}))
        row = await read(table, partition, "a")
        (etag,) = await table.commit(partition, Replace(row, {"n": 2}))
        assert (await read(table, partition, "a")).values == {"n": 2}
        for stale in (Replace(row, {"n": 3}), Delete(row)):
            with pytest.raises(WriteConflict):
                await table.commit(partition, stale)
        fresh = Row("a", {}, etag)
        await table.commit(partition, Delete(fresh))
        assert await table.get(partition, "a") is None
        for late in (Replace(fresh, {"n": 3}), Delete(fresh)):
            with pytest.raises(WriteConflict):
                await table.commit(partition, late)

    tell(story)


def test_a_commit_is_all_or_nothing(tell: Callable[[Story], None]) -> None:
    """One write that conflicts takes the others with it, wherever it stands."""

    async def story(table: Table, partition: str) -> None:
        await table.commit(partition, Insert("a", {"n": 1}), Insert("b", {"n": 1}))
        row = await read(table, partition, "a")
        for writes in (
            (Replace(row, {"n": 2}), Insert("b", {})),
            (Insert("b", {}), Delete(row)),
            (Insert("c", {}), Insert("b", {})),
        ):
            with pytest.raises(WriteConflict):
                await table.commit(partition, *writes)
        assert (await read(table, partition, "a")).values == {"n": 1}
        assert await table.get(partition, "c") is None
        assert len(await table.commit(partition, Insert("c", {}), Delete(row), Insert("d", {}))) == 3

    tell(story)


def test_a_scan_goes_in_the_order_of_keys_between_its_bounds(tell: Callable[[Story], None]) -> None:
    """Both bounds are out, other partitions are not seen, and a page is only how much is read at a
    time.
    """

    async def story(table: Table, partition: str) -> None:
        keys = ["video_b", "key", "video_a", "once_1", "video_c", "video`"]
        for key in keys:
            await table.commit(partition, Insert(key, {"n": 1}))
        assert [row.key async for row in table.scan(partition)] == sorted(keys)
        between = table.scan(partition, after="video_", before="video`", page=2)
        assert [(row.key, row.values) async for row in between] == [(f"video_{each}", {"n": 1}) for each in "abc"]
        assert [row.key async for row in table.scan(partition, after="video_a", before="video_c", select=[])] == ["video_b"]
        assert [row.values async for row in table.scan(partition, after="video_a", before="video_c", select=["n", "m"])] == [
            {"n": 1}
        ]
        assert [row async for row in table.scan(f"{partition}x")] == []

    tell(story)
