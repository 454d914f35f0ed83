"""A row as the table service's JSON has it: a type beside each value that JSON has no word for
(https://learn.microsoft.com/rest/api/storageservices/payload-format-for-table-service-operations).
"""

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

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


def key_of(entity: Values) -> str:
    return str(entity["RowKey"])


def values_of(entity: Values) -> dict[str, Any]:
    """What a row holds beside its keys. Raises ValueError or TypeError for a value that is not of
    its type.
    """
    values = {name: value for name, value in entity.items() if "." not in name and name not in _OF_THE_SERVICE}
    for name, kind in entity.items():
        if name.endswith(_TYPE) and kind in _READ:
            base = name[: -len(_TYPE)]
            values[base] = _READ[kind](entity[base])
    return _joined(values)


def etag_of(entity: Values) -> str:
    """The row's version. Where the answer has none it follows from the time of the last write."""
    return str(entity.get("odata.etag") or f"W/\"datetime'{quote(entity['Timestamp'], safe='')}'\"")


def _in_parts(name: str, text: str) -> dict[str, str]:
    starts = range(0, len(text), _PROPERTY_CHARACTERS)
    return {f"{name}{_PART}{number}": text[start : start + _PROPERTY_CHARACTERS] for number, start in enumerate(starts)}


def _joined(values: dict[str, Any]) -> dict[str, Any]:
    """With each long text in one piece."""
    parts = sorted((name.partition(_PART) for name in values if _PART in name), key=lambda part: int(part[2]))
    texts: dict[str, str] = {}
    for name, _, number in parts:
        texts[name] = texts.get(name, "") + values.pop(f"{name}{_PART}{number}")
    return values | texts if texts else values


def _stored_time(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def _stored_float(number: float) -> float | str:
    return number if math.isfinite(number) else _NOT_NUMBERS[str(number)]


_OF_THE_SERVICE = frozenset({"PartitionKey", "RowKey", "Timestamp"})
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
