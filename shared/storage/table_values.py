"""A row as the table service's JSON has it: a type beside each value that JSON has no word for
(https://learn.microsoft.com/rest/api/storageservices/payload-format-for-table-service-operations).
"""

import json
import math
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

Values = Mapping[str, Any]
Form = TypeVar("Form")

_SYSTEM = frozenset({"PartitionKey", "RowKey", "Timestamp"})
_TYPE = "@odata.type"
# A property holds 64 KiB of UTF-16, and a character takes at most two units of two bytes.
_PROPERTY_CHARACTERS = 16_000
_PART = "__"  # between a property's name and the number of its part
IN_PARTS = re.compile(rb'__\d+"')  # in JSON; the underscores alone may be in any text
_NOT_NUMBERS = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}


def to_entity(partition: str, key: str, values: Values) -> bytes:
    """The stored form of a row: 64-bit integers (money exceeds 32 bits), no property for None, long
    text in numbered parts.
    """
    entity: dict[str, Any] = {"PartitionKey": partition, "RowKey": key}
    for name, value in values.items():
        if type(value) in _WRITTEN:
            entity[name + _TYPE], form = _WRITTEN[type(value)]
            entity[name] = form(value)
        elif isinstance(value, str) and len(value) > _PROPERTY_CHARACTERS:
            entity |= _in_parts(name, value)
        elif value is not None:
            entity[name] = value
    return _ascii(msgspec.json.encode(entity))


def key_and_etag(entity: Values) -> tuple[str, str]:
    """Raises KeyError for what is no row.

    Where the answer has no etag, it follows from the time of the last write.
    """
    etag = entity.get("odata.etag") or f"W/\"datetime'{quote(entity.get('Timestamp', ''), safe='')}'\""
    return entity["RowKey"], etag


def to_values(entity: Values) -> dict[str, Any]:
    """The values, each of the type that stands beside it. Raises KeyError, ValueError or TypeError
    for one that is not.

    Azure tells null for a column that was asked for and that the row has not; the emulator tells
    nothing (https://github.com/Azure/Azurite/issues/2535).
    """
    shape = _shape(tuple(entity))
    values = {name: value for name in shape.names if (value := entity[name]) is not None}
    for annotation, name in shape.annotations:
        read = _READ.get(entity[annotation])
        if read is not None and entity[name] is not None:
            values[name] = read(entity[name])
    return values


def to_form(entity: Values, form: type[Form], also: Values) -> Form:
    """The values, with those of `also`, as a struct that says their types itself, which is several
    times as fast. It leaves out what it has no field for. Raises ValueError.
    """
    return msgspec.convert({**entity, **also}, form, strict=False)


def with_whole_texts(entity: dict[str, Any]) -> dict[str, Any]:
    """The entity with each text that was stored in parts as one. Raises ValueError or TypeError for
    what is no part.
    """
    texts: dict[str, str] = {}
    parts = [(name, *name.split(_PART)) for name in entity if _PART in name]
    for part, name, _ in sorted(parts, key=lambda part: int(part[2])):
        texts[name] = texts.get(name, "") + entity.pop(part)
    return entity | texts


def _in_parts(name: str, text: str) -> dict[str, str]:
    starts = range(0, len(text), _PROPERTY_CHARACTERS)
    return {f"{name}{_PART}{number}": text[start : start + _PROPERTY_CHARACTERS] for number, start in enumerate(starts)}


class _Shape(msgspec.Struct, frozen=True):
    """Which names of an entity are values, and which are annotations, each with the name of the
    value that it is about.
    """

    names: tuple[str, ...]
    annotations: tuple[tuple[str, str], ...]


@lru_cache(maxsize=512)
def _shape(names: tuple[str, ...]) -> _Shape:
    """Rows of one kind have the same names, so that few are looked at one by one."""
    return _Shape(
        tuple(name for name in names if "." not in name and name not in _SYSTEM),
        tuple((name, name.removesuffix(_TYPE)) for name in names if name.endswith(_TYPE)),
    )


def _ascii(text: bytes) -> bytes:
    """The same JSON in ASCII: the emulator garbles a character that comes in two packets."""
    return text if text.isascii() else json.dumps(json.loads(text), separators=(",", ":")).encode()


def _utc(time: datetime) -> datetime:
    return time.astimezone(UTC)


def _stored_float(number: float) -> float | str:
    return number if math.isfinite(number) else _NOT_NUMBERS[str(number)]


_WRITTEN: dict[type, tuple[str, Callable[[Any], Any]]] = {
    int: ("Edm.Int64", str),
    float: ("Edm.Double", _stored_float),
    datetime: ("Edm.DateTime", _utc),
    bytes: ("Edm.Binary", bytes),
}
_READ: dict[str, Callable[[Any], Any]] = {
    "Edm.Int64": int,
    "Edm.Double": float,
    "Edm.DateTime": datetime.fromisoformat,  # cuts off the tenths of a microsecond that storage tells
    "Edm.Binary": b64decode,
}
