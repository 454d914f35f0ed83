"""A table through Microsoft's own client: the judge of the app's. It needs several times the
processor, and says the same.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from http.client import HTTPException
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.data.tables import EdmType, EntityProperty, UpdateMode
from azure.data.tables.aio import TableClient

from shared.errors import StorageUnavailable
from shared.storage.table_values import Values
from shared.storage.tables import Delete, Insert, Merge, Replace, Row, Table, Write, WriteConflict

_PART = 16_000  # characters of a property


class SdkTable(Table):
    """The same table as another client sees it, for tests that write with one and read with the
    other.
    """

    def __init__(self, connection_string: str, name: str) -> None:
        self._client = TableClient.from_connection_string(connection_string, name, retry_total=0)

    async def get(self, partition: str, key: str) -> Row | None:
        async with self._guarded() as client:
            try:
                return _row(await client.get_entity(partition, key))
            except ResourceNotFoundError:
                return None

    async def commit(self, partition: str, *writes: Write) -> list[str]:
        operations = [_operation(partition, write) for write in writes]
        async with self._guarded() as client:
            answers = await client.submit_transaction(operations)
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
    ) -> AsyncGenerator[Row, None]:
        condition = "PartitionKey eq @partition and RowKey gt @after"
        parameters = {"partition": partition, "after": after}
        if before is not None:
            condition += " and RowKey lt @before"
            parameters["before"] = before
        for number, (name, value) in enumerate((where or {}).items()):
            condition += f" and {name} eq @value{number}"
            parameters[f"value{number}"] = value
        columns = None if select is None else ["PartitionKey", "RowKey", *select]
        async with self._guarded() as client:
            async for entity in client.query_entities(condition, parameters=parameters, select=columns, results_per_page=page):
                yield _row(entity)

    async def close(self) -> None:
        await self._client.close()

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[TableClient]:
        with suppress(ResourceExistsError):
            await self._client.create_table()
        try:
            yield self._client
        except HttpResponseError as error:
            if error.status_code in (404, 409, 412):
                raise WriteConflict from error
            raise StorageUnavailable("refused") from error
        except (AzureError, HTTPException) as error:  # the latter for an answer that it cannot read
            raise StorageUnavailable("not reached") from error


def _operation(partition: str, write: Write) -> tuple[Any, ...]:
    match write:
        case Insert(key, values):
            return ("create", _entity(partition, key, values))
        case Replace(row, values) | Merge(row, values):
            mode = UpdateMode.REPLACE if isinstance(write, Replace) else UpdateMode.MERGE
            return ("update", _entity(partition, row.key, values), {**_unchanged(row), "mode": mode})
        case Delete(row):
            return ("delete", {"PartitionKey": partition, "RowKey": row.key}, _unchanged(row))


def _unchanged(row: Row) -> dict[str, Any]:
    return {"etag": row.etag, "match_condition": MatchConditions.IfNotModified}


def _entity(partition: str, key: str, values: Values) -> dict[str, Any]:
    entity: dict[str, Any] = {"PartitionKey": partition, "RowKey": key}
    for name, value in values.items():
        if type(value) is int:
            entity[name] = EntityProperty(value, EdmType.INT64)
        elif isinstance(value, str) and len(value) > _PART:
            entity |= {f"{name}__{at // _PART}": value[at : at + _PART] for at in range(0, len(value), _PART)}
        elif value is not None:
            entity[name] = value
    return entity


def _row(entity: Any) -> Row:
    values = {name: getattr(value, "value", value) for name, value in entity.items() if name not in ("PartitionKey", "RowKey")}
    for base in {name.partition("__")[0] for name in values if "__" in name}:
        parts = sorted((name for name in values if name.startswith(f"{base}__")), key=lambda name: int(name.partition("__")[2]))
        values[base] = "".join(values.pop(name) for name in parts)
    return Row(entity["RowKey"], values, entity.metadata["etag"])
