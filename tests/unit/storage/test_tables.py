"""The app's client of the real table, the table in memory and Microsoft's client: the same stories,
the same endings.
"""

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from shared.config.settings import Storage
from shared.errors import StorageUnavailable
from shared.storage.table_requests import Answer, Request
from shared.storage.table_service import TableService
from shared.storage.tables import Delete, Insert, Merge, Replace, Row, Table, Tables, WriteConflict, unread
from tests.fakes.sdk_table import SdkTable
from tests.fakes.table import MemoryTable

pytestmark = pytest.mark.anyio

VALUES: dict[str, Any] = {
    "money": 2**40,
    "text": "A cat, 'quoted' & <marked> 🐈",
    "long": "🐈" * 32_000,
    "empty": "",
    "flag": False,
    "least": -(2**63),
    "ratio": 2.0,
    "share": 0.1,
    "endless": float("-inf"),
    "bytes": bytes(range(256)),
    "time": datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC),
}


ODD_KEYS = ("it's", "100%", "a+b & c=d", "%2F", "(x),RowKey='y'", "naïve 🐈", "~", "a:b;c|d", '"', " ")


@pytest.fixture
async def ours(azurite: str) -> AsyncIterator[Table]:
    tables = Tables(Storage(connection_string=azurite), lambda: None)
    yield tables.gateway
    await tables.close()


@pytest.fixture
async def judge(azurite: str) -> AsyncIterator[Table]:
    """The same table, by Microsoft's client."""
    judge = SdkTable(azurite, "gateway")
    yield judge
    await judge.close()


@pytest.fixture(params=["ours", "memory", "judge"])
def table(request: pytest.FixtureRequest, ours: Table, judge: Table) -> Table:
    return {"ours": ours, "memory": MemoryTable(), "judge": judge}[request.param]


@pytest.fixture(params=["ours writes", "the judge writes"])
def both(request: pytest.FixtureRequest, ours: Table, judge: Table) -> tuple[Table, Table]:
    """One that writes, and one that reads."""
    return (ours, judge) if request.param == "ours writes" else (judge, ours)


@pytest.fixture
def partition() -> str:
    """One of the test's own."""
    return f"p{secrets.token_hex(6)}"


async def read(table: Table, partition: str, key: str) -> Row:
    row = await table.get(partition, key)
    assert row is not None
    return row


def content(row: Row) -> tuple[str, dict[str, Any], str]:
    return row.key, row.values, row.etag


async def test_what_was_written_is_read(table: Table, partition: str) -> None:
    """Every kind of value comes back equal, also a text longer than one property holds; None is not
    stored.
    """
    assert await table.get(partition, "a") is None
    (etag,) = await table.commit(partition, Insert("a", {**VALUES, "none": None}))
    row = await read(table, partition, "a")
    assert content(row) == ("a", VALUES, etag)


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


class Told(msgspec.Struct):
    """Some of a row's columns."""

    key: str = msgspec.field(name="RowKey")
    money: int
    text: str
    time: datetime
    flag: bool = True
    long: str | None = None
    absent: str | None = None


@pytest.mark.parametrize("table", ["ours", "memory"], indirect=True)
async def test_rows_are_read_as_structs(table: Table, partition: str) -> None:
    """As many as are asked for, in the order of keys, whatever else the rows have."""
    plain = {name: value for name, value in VALUES.items() if name != "long"}
    for key in ("b", "d", "a", "c"):
        await table.commit(partition, Insert(key, plain if key != "c" else VALUES))
    told = {name: VALUES[name] for name in ("money", "text", "time", "flag")}
    expected = [Told(key, **told) for key in "ab"] + [Told("c", long=VALUES["long"], **told), Told("d", **told)]
    assert await table.first_as(Told, partition, 4) == expected
    assert await table.first_as(Told, partition, 9, after="a", before="d") == expected[1:3]
    assert await table.first_as(Told, partition, 2) == expected[:2]
    assert await table.first_as(Told, f"{partition}x", 2) == []


class Scripted(TableService):
    """Gives these pages one after the other, each with where the next one begins."""

    def __init__(self, *pages: bytes) -> None:
        self.pages = list(pages)
        self.asked: list[str] = []

    async def send(self, *requests: Request) -> list[Answer]:
        (request,) = requests
        self.asked.append(request.query)
        body = self.pages.pop(0)
        return [Answer(200, {"x-ms-continuation-nextrowkey": f"page{len(self.pages)}"} if self.pages else {}, body)]


def page(*keys: str, **more: object) -> bytes:
    told = {"money": "5", "text": "t", "time": "2026-11-22T12:00:00.1234567Z", **more}
    return msgspec.json.encode({"value": [{"RowKey": key, "Timestamp": "now", **told} for key in keys]})


async def test_structs_are_read_on_where_a_page_is_short_or_empty() -> None:
    """The service may end a page anywhere."""
    service = Scripted(page("a"), page(), page("b", "c"), page("d"))
    found = await Table(lambda: service, "gateway").first_as(Told, "p", 3)
    assert [each.key for each in found] == ["a", "b", "c"]
    wanted = ["%24top=3", "%24top=2&NextRowKey=page3", "%24top=2&NextRowKey=page2"]
    assert [query[query.index("%24top") :] for query in service.asked] == wanted


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b'{"value": 1}', b'{"value": [{}]}', b'{"value": [1]}', page("a")[:-3], b"\xff"),
        *(page("a", money="much"), page("a", time="now"), page("a", text=None), page("a", long__x="a", long__0="b")),
        *(page("a", long__0=1), page("a", money="much", long__0="b")),
    ],
)
async def test_a_page_that_is_no_page_is_unreadable(body: bytes) -> None:
    with pytest.raises(StorageUnavailable, match="cannot be read"):
        await Table(lambda: Scripted(body), "gateway").first_as(Told, "p", 3)


async def test_a_scan_finds_only_rows_with_these_values(table: Table, partition: str) -> None:
    """Whatever characters they have."""
    for number, value in enumerate(ODD_KEYS):
        await table.commit(partition, Insert(f"{number}", {"name": value, "model": "m"}))
    for number, value in enumerate(ODD_KEYS):
        assert [row.key async for row in table.scan(partition, where={"name": value, "model": "m"})] == [f"{number}"]
    assert [row async for row in table.scan(partition, where={"name": "it's", "model": "n"})] == []


async def test_each_client_reads_and_changes_what_the_other_has_written(both: tuple[Table, Table], partition: str) -> None:
    """Every kind of value, under every kind of key, one by one and in a range, with the same
    etags.
    """
    writer, reader = both
    etags = [etag for key in ODD_KEYS for etag in await writer.commit(partition, Insert(key, VALUES))]
    for key, etag in zip(ODD_KEYS, etags, strict=True):
        for each in both:
            assert content(await read(each, partition, key)) == (key, VALUES, etag)
    ranged = [row async for row in reader.scan(partition, page=3)]
    assert [content(row) for row in ranged] == [content(row) async for row in writer.scan(partition, page=3)]
    assert sorted(row.key for row in ranged) == sorted(ODD_KEYS)
    await reader.commit(partition, *(Merge(row, {"text": row.key}) for row in ranged))
    assert [row.values async for row in writer.scan(partition)] == [{**VALUES, "text": row.key} for row in ranged]
    with pytest.raises(WriteConflict):
        await writer.commit(partition, Delete(ranged[0]))
    odd = f"{partition} 'x' & 100% 🐈"
    await writer.commit(odd, Insert("a", {"n": 1}), Insert("b", {"n": 2}))
    assert [row.values async for row in reader.scan(odd)] == [{"n": 1}, {"n": 2}]


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # by the judge
async def test_a_transaction_has_at_most_a_hundred_rows_and_4_mib(both: tuple[Table, Table], partition: str) -> None:
    """At its limits it is written whole; what is beyond them or names a row twice is refused,
    whole.
    """
    table, reader = both
    await table.commit(partition, *(Insert(f"{number:03}", {"n": number}) for number in range(100)))
    large = {"text": "x" * 640_000}
    assert len(await table.commit(partition, *(Insert(f"large{number}", large) for number in range(6)))) == 6
    for refused in (
        [Insert(f"many{number:03}", {}) for number in range(101)],
        [Insert("twice", {}), Insert("twice", {})],
        [Insert(f"larger{number}", large) for number in range(7)],
    ):
        with pytest.raises(StorageUnavailable):
            await table.commit(partition, *refused)
    assert len([row async for row in reader.scan(partition)]) == 106


@pytest.mark.parametrize("real", [True, False])
async def test_everything_is_every_row_in_the_order_of_partitions_and_keys(azurite: str, *, real: bool) -> None:
    """More than a page, on a table of its own, which is made by the first request."""
    tables = Tables(Storage(connection_string=azurite), lambda: None)
    table = Table(tables._connect, f"t{secrets.token_hex(8)}") if real else MemoryTable()
    assert [each async for each in table.everything()] == []
    wanted = [("it's", "b")] + [("p", f"{number:04d}") for number in range(1100)] + [("q", "a")]
    for start in range(1, 1101, 100):
        await table.commit("p", *(Insert(key, {"n": 1}) for _, key in wanted[start : start + 100]))
    await table.commit("q", Insert("a", VALUES))
    await table.commit("it's", Insert("b", {}))
    found = [(partition, row) async for partition, row in table.everything()]
    assert [(partition, row.key) for partition, row in found] == wanted
    assert found[-1][1].values == VALUES
    await tables.close()
