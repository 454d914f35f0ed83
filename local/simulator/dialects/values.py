"""Values of forms and JSON bodies as pydantic reads them: text that looks like a number is one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

_TRUE, _FALSE = ("true", "1", "yes", "on", "t", "y"), ("false", "0", "no", "off", "f", "n")

Kind = type[int] | type[float] | type[bool] | type[str] | type[dict[str, Any]]


class WrongValue(Exception):
    """A parameter that cannot be read. `missing`: it is not there at all."""

    def __init__(self, name: str, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.name = name
        self.message = message
        self.missing = missing


def read(name: str, value: object, kind: Kind) -> Any:
    """The value as this kind of thing. Raises WrongValue."""
    try:
        if kind is bool:
            return _boolean(value)
        if kind is int:
            return _integer(value)
        if kind is float:
            return _number(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise WrongValue(name, f"Input should be a valid {_WORDS[kind]}") from error
    if not isinstance(value, kind):
        raise WrongValue(name, f"Input should be a valid {_WORDS.get(kind, 'dictionary')}")
    return value


def within(values: Mapping[str, Any], bounds: Mapping[str, tuple[float, float]]) -> None:
    """Raises WrongValue for the first one that is out of its bounds."""
    for name, (least, most) in bounds.items():
        if name in values and not least <= values[name] <= most:
            raise WrongValue(name, f"Input should be between {least:g} and {most:g}")


def one_of(values: Mapping[str, Any], name: str, allowed: Sequence[str]) -> None:
    """Raises WrongValue."""
    if name in values and values[name] not in allowed:
        raise WrongValue(name, f"{name} must be one of {', '.join(allowed)}")


_WORDS: Mapping[Any, str] = {int: "integer", float: "number", bool: "boolean", str: "string"}


def _boolean(value: object) -> bool:
    word = str(value).lower()
    if word not in (*_TRUE, *_FALSE):
        raise ValueError(word)
    return word in _TRUE


def _integer(value: object) -> int:
    if not isinstance(value, int | float | str):
        raise TypeError(value)
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
        return int(value)  # a float could not hold it
    number = float(value)
    if not number.is_integer():
        raise ValueError(value)
    return int(number)


def _number(value: object) -> float:
    if not isinstance(value, int | float | str):
        raise TypeError(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number
