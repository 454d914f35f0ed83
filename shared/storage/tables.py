"""Azure Table Storage: point reads, range reads, atomic commits, and retries after a conflict.

The rows of a partition change together or not at all (an entity group transaction: at most 100 rows
and 4 MiB). A write that depends on a read carries that row's etag, so of two writers one succeeds
and the other gets `WriteConflict`.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import cached_property
from random import Random
from typing import Any, Generic, NoReturn, TypeVar

import msgspec

from shared.clock import Clock
from shared.config.settings import Storage
from shared.errors import StorageUnavailable
from shared.storage import table_requests
from shared.storage.table_requests import NOT_JSON, Answer, Request
from shared.storage.table_service import TableService, refusal, table_service, unreadable
from shared.storage.table_values import IN_PARTS, Form, Values, key_and_etag, to_entity, to_form, to_values, with_whole_texts

_PAGE = 1000
_GONE = "ResourceNotFound"
_CONFLICTS = frozenset({_GONE, "EntityAlreadyExists", "UpdateConditionNotSatisfied", "ConditionNotMet"})
ANY = "*"  # the etag that every row has


class WriteConflict(Exception):
    """The row was changed, exists already, or does not exist: read again and decide again."""


class Row(msgspec.Struct, frozen=True, dict=True):
    """A row as it was read. Conditional writes need its etag. `told` are its values in the form of
    the service's JSON, or in their own.
    """

    key: str
    told: dict[str, Any]
    etag: str

    @cached_property
    def values(self) -> dict[str, Any]:
        """The values by name. Raises StorageUnavailable for one that is not of its type."""
        try:
            return to_values(self.told)
        except (KeyError, TypeError, ValueError) as error:
            raise unreadable() from error

    def read(self, form: type[Form], **also: Any) -> Form:
        """The values, and those of `also`, as a struct. Columns that another version has written
        are ignored. Raises StorageUnavailable for a value that is not of its type, or is missing.
        """
        try:
            return to_form(self.told, form, also)
        except ValueError as error:
            raise unreadable() from error


class Insert(msgspec.Struct, frozen=True):
    """Fails with WriteConflict where the row exists."""

    key: str
    values: Values


class Replace(msgspec.Struct, frozen=True):
    """Fails with WriteConflict where the row has changed since `row` was read."""

    row: Row
    values: Values


class Merge(msgspec.Struct, frozen=True):
    """Changes these values and keeps the others. Fails with WriteConflict where the row has changed
    since `row` was read.

    Only the key and the etag of `row` are used. None changes nothing: a value cannot be removed.
    """

    row: Row
    values: Values


class Delete(msgspec.Struct, frozen=True):
    """Fails with WriteConflict where the row has changed since `row` was read, or is gone."""

    row: Row


Write = Insert | Replace | Merge | Delete


def key_of(write: Write) -> str:
    """The key of the row that it writes."""
    return write.key if isinstance(write, Insert) else write.row.key


def unread(key: str) -> Row:
    """A row that was not read: a write of it succeeds whatever the row holds, as long as it
    exists.
    """
    return Row(key, {}, ANY)


class Table:
    """One table. The service is reached for at the first use, so nothing connects before."""

    def __init__(self, service: Callable[[], TableService], name: str) -> None:
        self._service = service
        self._name = name

    async def get(self, partition: str, key: str) -> Row | None:
        """One point read. Raises StorageUnavailable."""
        (answer,) = await self._send(table_requests.read(self._name, partition, key))
        if answer.is_success:
            return _row(*_whole(answer, [_decoded(answer, dict)]))
        return None if answer.code == _GONE else _refuse(answer)

    async def commit(self, partition: str, *writes: Write) -> list[str]:
        """Write all of these or none; returns the new etags, in order. Raises WriteConflict or
        StorageUnavailable.

        A conflict after several tries may be with the first of them, whose answer was lost: the
        rows tell.
        """
        answers = await self._send(*(_request(self._name, partition, write) for write in writes))
        refused = next((answer for answer in answers if not answer.is_success), None)
        if refused is None:
            return [answer.headers.get("etag", "") for answer in answers]
        if refused.tries > 1 and refused.code in _CONFLICTS:
            rows = [await self.get(partition, key_of(write)) for write in writes]
            if all(map(_is_done, writes, rows)):
                return [row.etag if row else "" for row in rows]
        return _refuse(refused)

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
        """Rows with after < key < before, in key order, read `page` at a time. With `where`, only
        rows with these values, which storage picks out.

        Raises StorageUnavailable.
        """
        condition = table_requests.between(partition, after, before, where or {})
        async with aclosing(self._pages(condition, select, min(page or _PAGE, _PAGE))) as pages:
            async for entities in pages:
                for entity in entities:
                    yield _row(entity)

    def beginning_with(self, partition: str, prefix: str) -> AsyncIterator[Row]:
        """The rows of a partition whose keys begin with `prefix`, in key order."""
        return self.scan(partition, after=prefix, before=f"{prefix}~")

    async def everything(self) -> AsyncGenerator[tuple[str, Row], None]:
        """Every row with its partition, in the order of both keys. Rows that are written meanwhile
        are read or not. Raises StorageUnavailable.
        """
        async with aclosing(self._pages(None, None, _PAGE)) as pages:
            async for entities in pages:
                for entity in entities:
                    yield _partition(entity), _row(entity)

    async def _pages(
        self, condition: str | None, select: Sequence[str] | None, size: int
    ) -> AsyncGenerator[list[dict[str, Any]], None]:
        following: dict[str, str] = {}
        while True:
            (answer,) = await self._send(table_requests.query(self._name, condition, select, size, following))
            if not answer.is_success:
                _refuse(answer)
            yield _whole(answer, _decoded(answer, _Page[dict[str, Any]]).value)
            following = table_requests.continuation(answer)
            if not following:
                return

    async def first(
        self,
        partition: str,
        count: int,
        *,
        after: str = "",
        before: str | None = None,
        select: Sequence[str] | None = None,
    ) -> list[Row]:
        """The first `count` rows of a range, or all if there are fewer; read in one request where
        storage has them at hand. Raises StorageUnavailable.
        """
        rows: list[Row] = []
        async with aclosing(self.scan(partition, after=after, before=before, page=count, select=select)) as found:
            async for row in found:
                rows.append(row)
                if len(rows) == count:
                    break
        return rows

    async def first_as(
        self, form: type[Form], partition: str, count: int, *, after: str = "", before: str | None = None
    ) -> list[Form]:
        """The first `count` rows of a range, or all if there are fewer, as structs whose field for
        the key has the name RowKey in JSON. That takes a third of the time of rows that are read
        one by one. They have no etags, so nothing can be written from them. Raises
        StorageUnavailable.
        """
        condition, following = table_requests.between(partition, after, before, {}), dict[str, str]()
        found: list[Form] = []
        while True:
            size = min(count - len(found), _PAGE)
            (answer,) = await self._send(table_requests.query(self._name, condition, None, size, following, bare=True))
            if not answer.is_success:
                _refuse(answer)
            found += _structs(answer, form)
            following = table_requests.continuation(answer)
            if not following or len(found) >= count:
                return found

    async def _send(self, *requests: Request) -> list[Answer]:
        """A table that is missing is made."""
        service = self._service()
        answers = await service.send(*requests)
        if answers[0].is_success or answers[0].code != "TableNotFound":
            return answers
        await service.create_table(self._name)
        return await service.send(*requests)


class Tables:
    """The two tables: `gateway` (keys and their videos, by key id) and `pools` (unfinished videos
    and capacity, by model).
    """

    def __init__(self, storage: Storage, credential: Callable[[], Any]) -> None:
        self.storage = storage
        self.gateway = Table(self._connect, "gateway")
        self.pools = Table(self._connect, "pools")
        self._credential = credential
        self._service: TableService | None = None

    def _connect(self) -> TableService:
        if self._service is None:
            self._service = table_service(self.storage, self._credential)
        return self._service

    async def ping(self) -> None:
        """Read a row that never exists. Raises StorageUnavailable where storage does not answer."""
        await self.gateway.get("health", "probe")

    async def close(self) -> None:
        if self._service is not None:
            await self._service.close()


_T = TypeVar("_T")


async def retry_conflicts(attempt: Callable[[], Awaitable[_T]], clock: Clock, random: Random, *, tries: int = 40) -> _T:
    """Run `attempt` (read, decide, commit) until it meets no conflict.

    Raises StorageUnavailable after `tries` conflicts.
    """
    for count in range(tries):
        try:
            return await attempt()
        except WriteConflict:
            await clock.sleep(random.uniform(0, min(0.005 * 2**count, 0.25)))
    raise StorageUnavailable("Too many writers want the same row; try again.", retry_after=1)


def partition_of(model_name: str) -> str:
    """The partition of a model. A row key may not contain a slash, and a model name contains no
    colon.
    """
    return model_name.replace("/", ":")


def _request(table: str, partition: str, write: Write) -> Request:
    match write:
        case Insert(key, values):
            return table_requests.insert(table, to_entity(partition, key, values))
        case Replace(row, values):
            entity = to_entity(partition, row.key, values)
            return table_requests.replace(table, partition, row.key, row.etag, entity)
        case Merge(row, values):
            entity = to_entity(partition, row.key, values)
            return table_requests.merge(table, partition, row.key, row.etag, entity)
        case Delete(row):
            return table_requests.delete(table, partition, row.key, row.etag)


def _is_done(write: Write, row: Row | None) -> bool:
    """Whether a row is as this write leaves it, in every value. A merge is never seen to be done:
    what it keeps may have changed before it or after.
    """
    match write:
        case Insert(_, values) | Replace(_, values):
            return row is not None and row.values == {name: value for name, value in values.items() if value is not None}
        case Delete():
            return row is None
        case Merge():
            return False


class _Page(msgspec.Struct, Generic[Form], frozen=True):
    value: list[Form]


def _decoded(answer: Answer, form: type[Form], *, strict: bool = True) -> Form:
    try:
        return msgspec.json.decode(answer.body, type=form, strict=strict)
    except NOT_JSON as error:
        raise unreadable() from error


def _structs(answer: Answer, form: type[Form]) -> list[Form]:
    """The rows of a page. Texts in parts are put together first, which takes longer."""
    if IN_PARTS.search(answer.body):
        return [_row(each).read(form) for each in _whole(answer, _decoded(answer, _Page[dict[str, Any]]).value)]
    return _decoded(answer, _Page[form], strict=False).value  # type: ignore[valid-type] # a type that is known when it runs


def _whole(answer: Answer, entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entities of an answer, none of whose texts is in parts any more."""
    if not IN_PARTS.search(answer.body):
        return entities
    try:
        return [with_whole_texts(entity) for entity in entities]
    except (TypeError, ValueError) as error:
        raise unreadable() from error


def _partition(entity: Mapping[str, Any]) -> str:
    try:
        return str(entity["PartitionKey"])
    except KeyError as error:
        raise unreadable() from error


def _row(entity: dict[str, Any]) -> Row:
    try:
        key, etag = key_and_etag(entity)
    except (KeyError, TypeError) as error:
        raise unreadable() from error
    return Row(key, entity, etag)


def _refuse(answer: Answer) -> NoReturn:
    """Raises WriteConflict or StorageUnavailable."""
    raise WriteConflict(answer.code) if answer.code in _CONFLICTS else refusal(answer)
