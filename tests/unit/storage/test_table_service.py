"""A table whose storage fails, is slow to take requests, or says what it never says."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from shared.config.settings import Storage
from shared.errors import ConfigurationError, StorageUnavailable
from shared.storage import table_connection, table_requests
from shared.storage.account import Account
from shared.storage.http_connection import Unanswered
from shared.storage.table_connection import Connection
from shared.storage.table_requests import Answer, Request
from shared.storage.table_service import TableService, table_service
from shared.storage.table_signing import SharedKey
from shared.storage.tables import Delete, Insert, Merge, Replace, Row, Table, Write, WriteConflict
from tests.fakes.loop import JumpingLoop
from tests.fakes.table_proxy import Fault, TableProxy

pytestmark = pytest.mark.anyio

FAILURES: list[Fault] = ["not reached", "answer lost"]
FAILURES += [
    b"HTTP/1.1 %d Odd\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status for status in (408, 429, 500, 502, 503, 504)
]
FAILURES += [b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", b"HTTP/1.1 2", b"no HTTP\r\n\r\n"]


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers])
    return f"{head}\r\n\r\n".encode() + body


class Pauses:
    """Sleeps that take no time."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
async def proxy(azurite: str) -> AsyncIterator[TableProxy]:
    async with TableProxy(azurite) as proxy:
        yield proxy


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def table(proxy: TableProxy, pauses: Pauses) -> AsyncIterator[Table]:
    """A table of the test's own, with the row "there" in the partition "p"."""
    account = Account.of(proxy.connection_string)
    service = TableService(Connection(account.endpoints["table"], SharedKey(account)), pauses.sleep)
    table = Table(lambda: service, f"t{secrets.token_hex(8)}")
    await table.commit("p", Insert("there", {"n": 1}))
    proxy.requests.clear()
    yield table
    await service.close()


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_read_that_fails_is_asked_again(table: Table, proxy: TableProxy, failure: Fault) -> None:
    proxy.faults = [failure]
    row = await table.get("p", "there")
    assert row is not None
    assert row.values == {"n": 1}
    proxy.faults = [failure]
    assert [row.key async for row in table.scan("p")] == ["there"]
    assert len(proxy.requests) == 4


@pytest.mark.parametrize("failure", FAILURES)
async def test_after_five_tries_storage_is_unavailable(table: Table, proxy: TableProxy, pauses: Pauses, failure: Fault) -> None:
    """None of which the HTTP client multiplies."""
    proxy.faults = [failure] * 10
    with pytest.raises(StorageUnavailable):
        await table.get("p", "there")
    assert pauses.seconds == [0.2, 0.4, 0.8, 1.6]
    assert len(proxy.requests) == 5


WRITES: list[Callable[[Row], tuple[Write, ...]]] = [
    lambda there: (Insert("new", {"n": 2}),),
    lambda there: (Replace(there, {"n": 2}),),
    lambda there: (Merge(there, {"n": 2}),),
    lambda there: (Delete(there),),
    lambda there: (Insert("new", {"n": 2}), Merge(there, {"n": 2})),
]


@pytest.mark.parametrize("writes", WRITES)
@pytest.mark.parametrize("failure", ["not reached", FAILURES[-4]])
async def test_a_write_that_failed_is_tried_again(
    table: Table, proxy: TableProxy, writes: Callable[[Row], tuple[Write, ...]], failure: Fault
) -> None:
    there = await table.get("p", "there")
    assert there is not None
    proxy.faults = [failure]
    await table.commit("p", *writes(there))
    assert there not in [row async for row in table.scan("p")] or await table.get("p", "new")


@pytest.mark.parametrize("writes", WRITES)
async def test_a_write_whose_answer_was_lost_is_done_once(
    table: Table, proxy: TableProxy, writes: Callable[[Row], tuple[Write, ...]]
) -> None:
    """It is found in its row, with the row's version. Of a merge its caller finds out."""
    there = await table.get("p", "there")
    assert there is not None
    before = len(proxy.requests)
    proxy.faults = ["answer lost"]
    try:
        etags = await table.commit("p", *writes(there))
    except WriteConflict:
        assert any(isinstance(each, Merge) for each in writes(there))
    else:
        assert len(proxy.requests) - before == 3  # it, once more, and its row
        assert etags == [row.etag async for row in table.scan("p") if row.values == {"n": 2}] or [""]
    kept = {row.key: row.values["n"] async for row in table.scan("p")}
    assert kept in ({"there": 1, "new": 2}, {"there": 2}, {}, {"there": 2, "new": 2})


async def test_what_another_has_written_is_a_conflict_also_after_a_lost_answer(table: Table, proxy: TableProxy) -> None:
    """Or what another has changed in one of several rows, or has not deleted."""
    there = await table.get("p", "there")
    assert there is not None
    await table.commit("p", Replace(there, {"n": 3}), Insert("new", {"n": 2}))
    for writes in (
        (Replace(there, {"n": 2}),),
        (Replace(there, {"n": 3, "m": 1}),),
        (Insert("new", {"n": 3}),),
        (Insert("new", {"n": 2}), Replace(there, {"n": 2})),
        (Delete(there),),
    ):
        proxy.faults = [FAILURES[-4]]
        with pytest.raises(WriteConflict):
            await table.commit("p", *writes)


async def test_what_another_has_written_at_once_is_no_work_of_ours(table: Table, proxy: TableProxy) -> None:
    """Though it is the same: where no answer was lost, nothing is read."""
    await table.commit("p", Insert("new", {"n": 2}))
    proxy.requests.clear()
    with pytest.raises(WriteConflict):
        await table.commit("p", Insert("new", {"n": 2}))
    assert len(proxy.requests) == 1


async def test_storage_is_left_the_time_that_it_asks_for(table: Table, proxy: TableProxy, pauses: Pauses) -> None:
    """Where that is too long for a caller to wait, the caller is told how long."""
    proxy.faults = [answer(b"", "503 Busy", "retry-after: 2"), answer(b"", "503 Busy", "retry-after: soon")]
    assert await table.get("p", "there")
    assert pauses.seconds == [2.0, 0.4]
    proxy.faults = [answer(b"", "503 Busy", "retry-after: 60")]
    with pytest.raises(StorageUnavailable) as raised:
        await table.get("p", "there")
    assert raised.value.retry_after == 60
    proxy.faults = [answer(b"", "503 Busy", f"retry-after: {'9' * 400}")]
    with pytest.raises(StorageUnavailable) as raised:
        await table.get("p", "there")
    assert raised.value.retry_after == 3600


class Slow(Connection):
    """Gives no answer, and takes its time for that."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.tries = 0

    async def ask(self, request: Request, until: float) -> Answer:
        self.tries += 1
        await asyncio.sleep(min(self.seconds, until - asyncio.get_running_loop().time()))
        raise Unanswered


@pytest.mark.parametrize(("each", "tries", "waited"), [(0.0, 5, 3.0), (10.0, 5, 53.0), (35.0, 2, 60.0), (1e6, 1, 60.0)])
def test_storage_is_waited_for_a_minute_at_most(each: float, tries: int, waited: float) -> None:
    """However long each try would take."""
    connection = Slow(each)

    async def story() -> float:
        with pytest.raises(StorageUnavailable):
            await TableService(connection).send(table_requests.read("t", "p", "a"))
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        assert runner.run(story()) == pytest.approx(waited)
    assert connection.tries == tries


PART = "content-type: application/http\r\n\r\nHTTP/1.1 204 No Content\r\netag: W/1\r\n\r\n\r\n"
INNER = "--a\r\ncontent-type: multipart/mixed; boundary=b\r\n\r\n"


async def values(table: Table, key: str) -> dict[str, Any] | None:
    row = await table.get("p", key)
    return row.values if row else None


MULTIPART = "content-type: multipart/mixed; boundary=a"


@pytest.mark.parametrize(
    "lie",
    [
        answer(b"{"),
        answer(b"[]"),
        answer(b'{"a": "\xff"}'),
        answer(b'{"a":' * 5000),
        answer(b'{"odata.error": {"code": "\xff"}}', "404 Not Found"),
        answer(b'{"value": [{"n": 1}]}'),
        answer(b'{"RowKey": "there", "odata.etag": "e", "n@odata.type": "Edm.Int64", "n": "many"}'),
        answer(b"<html>", "404 Not Found"),
        answer(b"", "307 Temporary Redirect", "location: http://127.0.0.1:1/elsewhere"),
        answer(b"", "202 Accepted"),
        answer(f"{INNER}--b\r\n{PART}--b\r\n{PART}--b--\r\n--a--".encode(), "202 Accepted", MULTIPART + "other"),
        answer(f"{INNER}--c\r\n{PART}--c\r\n{PART}--c--\r\n--a--".encode(), "202 Accepted", MULTIPART),
        answer(f"{INNER}--b\r\n{PART}--b--\r\n--a--".encode(), "202 Accepted", MULTIPART),
        answer(f"{INNER}--b\r\n{PART}--b\r\n{PART}--b--\r\n{INNER}--a--".encode(), "202 Accepted", MULTIPART),
        answer(b"--a--", "202 Accepted", MULTIPART),
        answer(f"{INNER}--b\r\n{PART}--b\r\n{PART}".encode(), "202 Accepted", MULTIPART),
        answer(f"{INNER}--b\r\n{PART}--b\r\n\r\n--b--\r\n--a--".encode(), "202 Accepted", MULTIPART),
    ],
)
async def test_what_is_no_answer_of_the_service_is_none(table: Table, proxy: TableProxy, lie: bytes) -> None:
    """It is neither a missing row nor a write that worked, and it is not asked again; a redirect is
    followed nowhere.
    """
    proxy.faults = [lie] * 3
    with pytest.raises(StorageUnavailable):
        await values(table, "there")
    with pytest.raises(StorageUnavailable):
        await anext(table.scan("p"))
    with pytest.raises(StorageUnavailable):
        await table.commit("p", Insert("a", {}), Insert("b", {}))
    assert len(proxy.requests) == 3


async def test_an_answer_without_an_end_is_given_up(table: Table, proxy: TableProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_connection, "_LARGEST", 1000)
    proxy.faults = [answer(b'{"value": [' + b" " * 2000)]
    with pytest.raises(StorageUnavailable):
        await table.get("p", "there")


async def test_a_table_that_is_missing_is_made_once(proxy: TableProxy, table: Table) -> None:
    """By whatever comes first, beside others that do the same."""
    fresh = Table(table._service, f"t{secrets.token_hex(8)}")
    assert await fresh.get("p", "a") is None
    assert [row async for row in fresh.scan("p")] == []
    assert sum(line.startswith("POST /devstoreaccount1/Tables") for line in proxy.requests) == 1
    again = Table(table._service, f"t{secrets.token_hex(8)}")
    await again.commit("p", Insert("a", {}), Insert("b", {}))
    assert len([row async for row in again.scan("p")]) == 2


async def test_a_table_that_is_being_deleted_is_unavailable(table: Table, proxy: TableProxy) -> None:
    deleted = answer(b'{"odata.error": {"code": "TableBeingDeleted"}}', "409 Conflict")
    missing = answer(b'{"odata.error": {"code": "TableNotFound"}}', "404 Not Found")
    proxy.faults = [deleted, missing, deleted]
    with pytest.raises(StorageUnavailable):
        await table.commit("p", Insert("a", {}))
    with pytest.raises(StorageUnavailable):
        await table.get("p", "a")


async def test_the_log_says_what_a_refused_signature_may_mean(
    table: Table, proxy: TableProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """The service's code, and a clock that is wrong."""
    head = "x-ms-error-code: AuthenticationFailed"
    proxy.faults = [
        answer(b"", "403 Forbidden", head),
        answer(b"", "403 Forbidden", head, "date: Thu, 01 Jan 2015 00:00:00 GMT"),
    ]
    with caplog.at_level(logging.WARNING, "gateway"):
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                await table.get("p", "there")
    role, clock = caplog.messages
    assert "HTTP 403 AuthenticationFailed: check the account's key" in role
    assert "clock" in clock
    assert "ahead of storage's" in clock


def test_a_token_is_sent_to_https_alone() -> None:
    with pytest.raises(ConfigurationError, match="https"):
        table_service(Storage(table_url="http://account.table.core.windows.net"), lambda: None)
    table_service(Storage(table_url="https://account.table.core.windows.net"), lambda: None)
