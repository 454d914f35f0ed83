"""A row as the table service's JSON has it: a type beside each value that JSON has no word for
(https://learn.microsoft.com/rest/api/storageservices/payload-format-for-table-service-operations).
"""

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import msgspec

Values = Mapping[str, Any]

_TYPE = "@odata.type"
# A property holds 64 KiB of UTF-16, and a character takes at most two units of two bytes.
_PROPERTY_CHARACTERS = 16_000
_PART = "__"  # between a property's name and the number of its part
_NOT_NUMBERS = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}


def to_entity(partition: str, key: str, values: Values) -> bytes:
    """The stored form of a row: 64-bit integers (money exceeds 32 bits), no property for None, long
    text in numbered parts.
    """
    entity: dict[str, Any] = {"PartitionKey": partition, "RowKey": key}
    for name, value in values.items():
        if isinstance(value, str) and len(value) > _PROPERTY_CHARACTERS:
            entity |= _in_parts(name, value)
        elif type(value) in _WRITTEN:
            kind, form = _WRITTEN[type(value)]
            entity[f"{name}{_TYPE}"], entity[name] = kind, form(value)
        elif value is not None:
            entity[name] = value
    # In ASCII: the emulator garbles a character that comes in two packets.
    return json.dumps(entity, separators=(",", ":")).encode()


def take_apart(entity: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
    """The row's key, its values and its etag. `entity` becomes the values. Raises KeyError,
    ValueError or TypeError for what is no row, or has a value that is not of its type.

    Where the answer has no etag, it follows from the time of the last write.
    """
    key, etag, time = entity.pop("RowKey"), entity.pop("odata.etag", None), entity.pop("Timestamp", "")
    entity.pop("PartitionKey", None)
    shape = _shape(tuple(entity))
    for annotation, name in shape.annotations:
        read = _READ.get(entity.pop(annotation))
        if read is not None:
            entity[name] = read(entity[name])
    texts: dict[str, str] = {}
    for part, name in shape.parts:
        texts[name] = texts.get(name, "") + entity.pop(part)
    entity.update(texts)
    return key, entity, etag or f"W/\"datetime'{quote(time, safe='')}'\""


def _in_parts(name: str, text: str) -> dict[str, str]:
    starts = range(0, len(text), _PROPERTY_CHARACTERS)
    return {f"{name}{_PART}{number}": text[start : start + _PROPERTY_CHARACTERS] for number, start in enumerate(starts)}


class _Shape(msgspec.Struct, frozen=True):
    """Which names of an entity are annotations, each with the name of the value that it is about;
    and which are parts of a text, in order, each with the text's name.
    """

    annotations: tuple[tuple[str, str], ...]
    parts: tuple[tuple[str, str], ...]


@lru_cache(maxsize=512)
def _shape(names: tuple[str, ...]) -> _Shape:
    """Rows of one kind have the same names, so that few are looked at one by one."""
    parts = [(name, *name.split(_PART)) for name in names if _PART in name]
    return _Shape(
        tuple((name, name.removesuffix(_TYPE)) for name in names if "." in name),
        tuple((name, base) for name, base, number in sorted(parts, key=lambda part: int(part[2]))),
    )


def _stored_time(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def _stored_float(number: float) -> float | str:
    return number if math.isfinite(number) else _NOT_NUMBERS[str(number)]


_WRITTEN: dict[type, tuple[str, Callable[[Any], Any]]] = {
    int: ("Edm.Int64", str),
    float: ("Edm.Double", _stored_float),
    datetime: ("Edm.DateTime", _stored_time),
    bytes: ("Edm.Binary", lambda value: b64encode(value).decode()),
}
_READ: dict[str, Callable[[Any], Any]] = {
    "Edm.Int64": int,
    "Edm.Double": float,
    "Edm.DateTime": datetime.fromisoformat,  # cuts off the tenths of a microsecond that storage tells
    "Edm.Binary": b64decode,
}
