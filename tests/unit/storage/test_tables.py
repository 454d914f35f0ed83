"""The table in memory against the real one: the same stories, the same endings."""

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.config.settings import Storage
from shared.storage.tables import Delete, Insert, Merge, Replace, Row, Table, Tables, WriteConflict, unread
from tests.fakes.table import MemoryTable

pytestmark = pytest.mark.anyio

VALUES: dict[str, Any] = {
    "money": 2**40,
    "text": "A cat, 'quoted' & <marked> 🐈",
    "long": "🐈" * 32_000,
    "empty": "",
    "flag": False,
    "time": datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC),
}


@pytest.fixture(params=["azurite", "memory"])
async def table(request: pytest.FixtureRequest, azurite: str) -> AsyncIterator[Table]:
    """The real one, and the one in memory."""
    if request.param == "memory":
        yield MemoryTable()
        return
    tables = Tables(Storage(connection_string=azurite), lambda: None)
    yield tables.gateway
    await tables.close()


@pytest.fixture
def partition() -> str:
    """One of the test's own."""
    return f"p{secrets.token_hex(6)}"


async def read(table: Table, partition: str, key: str) -> Row:
    row = await table.get(partition, key)
    assert row is not None
    return row


async def test_what_was_written_is_read(table: Table, partition: str) -> None:
    """Every kind of value comes back equal, also a text longer than one property holds; None is not
    stored.
    """
    assert await table.get(partition, "a") is None
    (etag,) = await table.commit(partition, Insert("a", {**VALUES, "none": None}))
    row = await read(table, partition, "a")
    assert (row.key, row.values, row.etag) == ("a", VALUES, etag)


async def test_a_row_is_inserted_once(table: Table, partition: str) -> None:
    """The second insert is a conflict and changes nothing."""
    await table.commit(partition, Insert("a", {"n": 1}))
    with pytest.raises(WriteConflict):
        await table.commit(partition, Insert("a", {"n": 2}))
    assert (await read(table, partition, "a")).values == {"n": 1}


async def test_only_what_was_read_last_can_be_replaced_or_deleted(table: Table, partition: str) -> None:
    """An etag is good for one write; replacing forgets properties that are not given; what is gone
    is a conflict.
    """
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


async def test_a_merge_keeps_what_it_does_not_name(table: Table, partition: str) -> None:
    """It needs the key and the etag alone, and is a conflict where the row has changed or is
    gone.
    """
    (etag,) = await table.commit(partition, Insert("a", {"n": 1, "text": "long" * 10_000}))
    (newer,) = await table.commit(partition, Merge(Row("a", {}, etag), {"n": 2, "m": 3, "text": None}))
    assert (await read(table, partition, "a")).values == {"n": 2, "m": 3, "text": "long" * 10_000}
    for late in (Row("a", {}, etag), Row("b", {}, newer)):
        with pytest.raises(WriteConflict):
            await table.commit(partition, Merge(late, {"n": 4}))
    assert (await read(table, partition, "a")).etag == newer


@pytest.mark.parametrize("beside", [(), (Insert("other", {}),)])
async def test_a_row_can_be_deleted_unread_while_it_is_there(table: Table, partition: str, beside: tuple[Insert, ...]) -> None:
    """Whatever it holds; where it is gone, that is a conflict, and nothing beside it is written."""
    await table.commit(partition, Insert("a", {"n": 1}))
    await table.commit(partition, Delete(unread("a")))
    assert await table.get(partition, "a") is None
    with pytest.raises(WriteConflict):
        await table.commit(partition, *beside, Delete(unread("a")))
    assert await table.get(partition, "other") is None


async def test_a_commit_is_all_or_nothing(table: Table, partition: str) -> None:
    """One write that conflicts takes the others with it, wherever it stands."""
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


async def test_a_scan_goes_in_the_order_of_keys_between_its_bounds(table: Table, partition: str) -> None:
    """Both bounds are out, other partitions are not seen, and a page is only how much is read at a
    time.
    """
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
