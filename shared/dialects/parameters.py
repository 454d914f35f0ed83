"""Parameters that a kind of server takes beside OpenAI's: their types and bounds."""

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any, Literal

import msgspec

from shared.errors import InvalidRequest

Kind = Literal["integer", "number", "boolean", "text", "object"]

_LONGEST_OBJECT = 8_000  # characters of JSON


class Parameter(msgspec.Struct, frozen=True):
    """What one parameter may be. `least` and `most` are the bounds of a number, and of a text's
    length; `choices` are all that a text may be.
    """

    kind: Kind
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()

    def read(self, name: str, value: object) -> Any:
        """A caller's value, from JSON or as the text of a form. Raises InvalidRequest."""
        told = self._typed(value)
        if told is None:
            raise InvalidRequest(f"`{name}` must be {_NAMES[self.kind]}.", code="invalid_type", param=name)
        if not self._allows(told):
            raise InvalidRequest(f"`{name}` must be {self}.", param=name)
        return told

    def __str__(self) -> str:
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        bounds = [f"at least {self.least}"] if self.least is not None else []
        bounds += [f"at most {self.most}"] if self.most is not None else []
        return f"{_NAMES[self.kind]}{', ' if bounds else ''}{' and '.join(bounds)}{self._unit if bounds else ''}"

    @property
    def _unit(self) -> str:
        return " characters" if self.kind in ("text", "object") else ""

    def _typed(self, value: object) -> Any:
        """The value in its kind; None if it is of another kind."""
        if self.kind == "text":
            return value if isinstance(value, str) and _is_unicode(value) else None
        told = _json(value) if isinstance(value, str) else value
        if self.kind == "object":
            return told if isinstance(told, dict) else None
        if self.kind == "boolean":
            return told if isinstance(told, bool) else None
        return _number(told, whole=self.kind == "integer")

    def _allows(self, told: Any) -> bool:
        if self.choices:
            return told in self.choices
        measure = len(as_text(told)) if isinstance(told, str | dict) else told
        most = _LONGEST_OBJECT if self.kind == "object" and self.most is None else self.most
        return (self.least is None or measure >= self.least) and (most is None or measure <= most)


Parameters = Mapping[str, Parameter]

_NAMES: Mapping[Kind, str] = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "text": "a string",
    "object": "a JSON object",
}


def as_text(value: Any) -> str:
    """A parameter's value as the text of a form."""
    return value if isinstance(value, str) else json.dumps(value)


def _number(told: object, *, whole: bool) -> float | None:
    """A finite number; a whole one may be written as 4.0."""
    if isinstance(told, bool) or not isinstance(told, int | float) or (isinstance(told, float) and not isfinite(told)):
        return None
    if isinstance(told, float) and told.is_integer():
        return int(told)
    return None if whole and isinstance(told, float) else told


def _is_unicode(text: str) -> bool:
    """Whether it can be sent: JSON can hold half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json(text: str) -> object:
    """The value of a JSON text, or None. Not read by the standard library, which accepts NaN and
    lone surrogates; a form can hold neither.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
