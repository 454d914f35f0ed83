"""Azure Table Storage: point reads, range reads, atomic commits, and retries after a conflict.

The rows of a partition change together or not at all (an entity group transaction: at most 100 rows
and 4 MiB). A write that depends on a read carries that row's etag, so of two writers one succeeds
and the other gets `WriteConflict`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from shared.clock import Clock
from shared.config.settings import Storage
from shared.errors import StorageUnavailable

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient, TableServiceClient

Values = Mapping[str, Any]

_OPTIONS: dict[str, Any] = {
    "retry_total": 4,
    "retry_backoff_factor": 0.2,
    "retry_backoff_max": 3,
    # Ignore the machine's proxies and .netrc: looking for them costs two calls in a thread for
    # every request.
    "use_env_settings": False,
}
# A commit is a POST, which the library does not repeat after a broken connection, such as an idle
# one that storage has closed. Repeating is safe: if the first one worked, the second is a
# WriteConflict, and the caller reads again.
_REPEATED = frozenset({"POST"})
# A property holds 64 KiB of UTF-16, and a character takes at most two units of two bytes.
_PROPERTY_CHARACTERS = 16_000
_PAGE = 1000
ANY = "*"  # the etag that every row has


class WriteConflict(Exception):
    """The row was changed, exists already, or does not exist: read again and decide again."""


class Row(msgspec.Struct, frozen=True):
    """A row as it was read. Conditional writes need its etag."""

    key: str
    values: dict[str, Any]
    etag: str


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


def unread(key: str) -> Row:
    """A row that was not read: a write of it succeeds whatever the row holds, as long as it
    exists.
    """
    return Row(key, {}, ANY)


class Table:
    """One table. The client is made at the first use, so nothing connects before."""

    def __init__(self, service: "Callable[[], TableServiceClient]", name: str) -> None:
        self._service = service
        self._name = name
        self._client: TableClient | None = None

    async def get(self, partition: str, key: str) -> Row | None:
        """One point read. Raises StorageUnavailable."""
        from azure.core.exceptions import ResourceNotFoundError

        async with self._guarded() as client:
            try:
                return _row(await client.get_entity(partition, key))
            except ResourceNotFoundError:
                return None

    async def commit(self, partition: str, *writes: Write) -> list[str]:
        """Write all of these or none; returns the new etags, in order. Raises WriteConflict or
        StorageUnavailable.
        """
        operations = [_operation(partition, write) for write in writes]
        async with self._guarded() as client:
            match operations:
                # A single row is not sent as a batch, which takes several times as long. A deletion
                # is: alone, the library hides that the row did not exist.
                case [("create", entity)]:
                    answers = [await client.create_entity(entity, retry_on_methods=_REPEATED)]
                case [("update", entity, condition)]:
                    answers = [await client.update_entity(entity, **condition)]
                case _:
                    answers = await client.submit_transaction(operations, retry_on_methods=_REPEATED)
            return [str(answer.get("etag", "")) for answer in answers]

    async def scan(
        self,
        partition: str,
        *,
        after: str = "",
        before: str | None = None,
        page: int | None = None,
        select: Sequence[str] | None = None,
        where: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Row]:
        """Rows with after < key < before, in key order, read `page` at a time. With `where`, only
        rows with these values, which storage picks out.

        Raises StorageUnavailable.
        """
        condition = "PartitionKey eq @partition and RowKey gt @after"
        parameters = {"partition": partition, "after": after}
        if before is not None:
            condition += " and RowKey lt @before"
            parameters["before"] = before
        for number, (name, value) in enumerate((where or {}).items()):
            condition += f" and {name} eq @value{number}"
            parameters[f"value{number}"] = value
        columns = None if select is None else ["PartitionKey", "RowKey", *select]
        size = min(page or _PAGE, _PAGE)
        async with self._guarded() as client:
            async for entity in client.query_entities(condition, parameters=parameters, select=columns, results_per_page=size):
                yield _row(entity)

    def beginning_with(self, partition: str, prefix: str) -> AsyncIterator[Row]:
        """The rows of a partition whose keys begin with `prefix`, in key order."""
        return self.scan(partition, after=prefix, before=f"{prefix}~")

    @asynccontextmanager
    async def _guarded(self) -> "AsyncIterator[TableClient]":
        """The client, made on first use. Turns the library's errors into WriteConflict and
        StorageUnavailable.
        """
        from azure.core.exceptions import AzureError, HttpResponseError

        if self._client is None:
            client = self._service().get_table_client(self._name)
            await _create_if_missing(client)
            self._client = client
        try:
            yield self._client
        except HttpResponseError as error:
            if error.status_code in (404, 409, 412):
                raise WriteConflict(self._name) from error
            raise StorageUnavailable("Storage refused a table operation; try again.") from error
        except AzureError as error:
            raise StorageUnavailable("Storage cannot be reached; try again.") from error


class Tables:
    """The two tables: `gateway` (keys and their videos, by key id) and `pools` (unfinished videos
    and capacity, by model).
    """

    def __init__(self, storage: Storage, credential: Callable[[], Any]) -> None:
        self.storage = storage
        self.gateway = Table(self._connect, "gateway")
        self.pools = Table(self._connect, "pools")
        self._credential = credential
        self._service: TableServiceClient | None = None

    def _connect(self) -> "TableServiceClient":
        if self._service is None:
            from azure.data.tables.aio import TableServiceClient

            if self.storage.connection_string:
                self._service = TableServiceClient.from_connection_string(self.storage.connection_string, **_OPTIONS)
            else:
                url = self.storage.table_url or ""
                self._service = TableServiceClient(endpoint=url, credential=self._credential(), **_OPTIONS)
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


async def _create_if_missing(client: "TableClient") -> None:
    """Create a table. In Azure the templates make it; on a new laptop this does, once per
    process.
    """
    from azure.core.exceptions import AzureError, ResourceExistsError

    try:
        await client.create_table()
    except ResourceExistsError:
        return
    except AzureError as error:
        raise StorageUnavailable("Storage cannot be reached; try again.") from error


def _operation(partition: str, write: Write) -> tuple[Any, ...]:
    from azure.core import MatchConditions
    from azure.data.tables import UpdateMode

    match write:
        case Insert(key, values):
            return ("create", _entity(partition, key, values))
        case Replace(row, values) | Merge(row, values):
            mode = UpdateMode.REPLACE if isinstance(write, Replace) else UpdateMode.MERGE
            condition = {"etag": row.etag, "match_condition": MatchConditions.IfNotModified, "mode": mode}
            return ("update", _entity(partition, row.key, values), condition)
        case Delete(row):
            condition = {"etag": row.etag, "match_condition": MatchConditions.IfNotModified}
            return ("delete", {"PartitionKey": partition, "RowKey": row.key}, condition)


def _entity(partition: str, key: str, values: Values) -> dict[str, Any]:
    """The stored form of a row: 64-bit integers (money exceeds 32 bits), no property for None, long
    text in numbered parts.
    """
    from azure.data.tables import EdmType, EntityProperty

    entity: dict[str, Any] = {"PartitionKey": partition, "RowKey": key}
    for name, value in values.items():
        if value is None:
            continue
        if isinstance(value, int) and not isinstance(value, bool):
            entity[name] = EntityProperty(value, EdmType.INT64)
        elif isinstance(value, str) and len(value) > _PROPERTY_CHARACTERS:
            parts = range(0, len(value), _PROPERTY_CHARACTERS)
            entity |= {f"{name}__{at // _PROPERTY_CHARACTERS}": value[at : at + _PROPERTY_CHARACTERS] for at in parts}
        else:
            entity[name] = value
    return entity


def _row(entity: Any) -> Row:
    values: dict[str, Any] = {}
    parts: dict[str, dict[int, str]] = {}
    for name, value in entity.items():
        base, _, number = name.partition("__")
        if name in ("PartitionKey", "RowKey"):
            continue
        if number:
            parts.setdefault(base, {})[int(number)] = value
        else:
            values[name] = value.value if hasattr(value, "edm_type") else value
    for name, pieces in parts.items():
        values[name] = "".join(pieces[number] for number in sorted(pieces))
    return Row(entity["RowKey"], values, entity.metadata["etag"])
