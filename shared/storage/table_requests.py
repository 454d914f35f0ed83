"""What the table service is asked, as its REST interface has it
(https://learn.microsoft.com/rest/api/storageservices/table-service-rest-api).
"""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

import msgspec

# Which JSON is meant. Each request of a transaction says it for itself, as in every client of
# Microsoft's.
DIALECT = {"dataserviceversion": "3.0"}
# With the types of values, and without what else a client might like to know.
_READS = DIALECT | {"accept": "application/json;odata=minimalmetadata"}
_BARE_READS = DIALECT | {"accept": "application/json;odata=nometadata"}  # without types and etags: three fifths as long
_WRITES = _READS | {"content-type": "application/json", "prefer": "return-no-content"}
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_CONTINUES = ("NextPartitionKey", "NextRowKey")


class Request(msgspec.Struct, frozen=True):
    """A request; `path` and `query` are encoded, and stand behind the account's address."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = msgspec.field(default_factory=lambda: _READS)
    body: bytes = b""


class Answer(msgspec.Struct, frozen=True):
    """What the service said; the names of `headers` are looked up in small letters. `tries` is how
    often it was asked: after more than one, an earlier one may have been carried out.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    tries: int = 1

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        """The service's own code of an error, "" where there is none."""
        try:
            return msgspec.json.decode(self.body, type=_Told).error.code
        except NOT_JSON:
            return self.headers.get("x-ms-error-code", "")


class Unreadable(Exception):
    """An answer that is none of the table service's: the request may have been carried out."""


def header_lines(headers: Mapping[str, str]) -> str:
    """An etag was read from an answer, and must not begin another header. Raises Unreadable."""
    for name, value in headers.items():
        if not value.isprintable():
            raise Unreadable(f"the header {name} is {value!r}, which does not end where its line does")
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])


class _Error(msgspec.Struct, frozen=True):
    code: str


class _Told(msgspec.Struct, frozen=True):
    error: _Error = msgspec.field(name="odata.error")


def new_table(name: str) -> Request:
    return Request("POST", "/Tables", headers=_WRITES, body=msgspec.json.encode({"TableName": name}))


def read(table: str, partition: str, key: str) -> Request:
    return Request("GET", _row(table, partition, key))


def query(
    table: str,
    condition: str | None,
    columns: Sequence[str] | None,
    size: int,
    after: Mapping[str, str],
    *,
    bare: bool = False,
) -> Request:
    """A page of a range, or of the whole table, which begins where `after`, of the page before it,
    says. A `bare` one has values alone.
    """
    asked = [] if condition is None else [f"%24filter={condition}"]
    asked += [f"%24top={size}", *(f"{name}={quote(value, safe='')}" for name, value in after.items())]
    if columns is not None:
        asked.append(f"%24select={'%2C'.join(('RowKey', *columns))}")
    return Request("GET", f"/{table}()", "&".join(asked), _BARE_READS if bare else _READS)


def continuation(page: Answer) -> dict[str, str]:
    """Where the next page begins; empty after the last one."""
    told = {name: page.headers.get(f"x-ms-continuation-{name.lower()}") for name in _CONTINUES}
    return {name: value for name, value in told.items() if value}


def between(partition: str, after: str, before: str | None, where: Mapping[str, str]) -> str:
    """The condition of a range, encoded: after < key < before, and these values."""
    conditions = [f"PartitionKey%20eq%20{_text(partition)}", f"RowKey%20gt%20{_text(after)}"]
    if before is not None:
        conditions.append(f"RowKey%20lt%20{_text(before)}")
    conditions += [f"{name}%20eq%20{_text(value)}" for name, value in where.items()]
    return "%20and%20".join(conditions)


def insert(table: str, entity: bytes) -> Request:
    return Request("POST", f"/{table}", headers=_WRITES, body=entity)


def replace(table: str, partition: str, key: str, etag: str, entity: bytes) -> Request:
    return Request("PUT", _row(table, partition, key), headers=_WRITES | {"if-match": etag}, body=entity)


def merge(table: str, partition: str, key: str, etag: str, entity: bytes) -> Request:
    return Request("PATCH", _row(table, partition, key), headers=_WRITES | {"if-match": etag}, body=entity)


def delete(table: str, partition: str, key: str, etag: str) -> Request:
    return Request("DELETE", _row(table, partition, key), headers=_READS | {"if-match": etag})


def _row(table: str, partition: str, key: str) -> str:
    return f"/{table}(PartitionKey={_text(partition)},RowKey={_text(key)})"


def _text(value: str) -> str:
    """A text in the service's language, where a quote stands twice, encoded."""
    doubled = value.replace("'", "''")
    return f"%27{quote(doubled, safe='')}%27"
