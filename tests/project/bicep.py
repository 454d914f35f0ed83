"""The templates as tests read them: resources, variables and parameters, as they are written."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parents[2]
INFRA = PROJECT / "infra"
TEMPLATES = sorted(INFRA.rglob("*.bicep"))

_OPENED = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Resource:
    """A resource as it is written: in which module, under which symbol, of which full type, and its
    text between the braces.

    `conditional` tells that it is made only `if` something holds; `existing` that it is only
    referred to.
    """

    module: str
    symbol: str
    kind: str
    body: str
    conditional: bool
    existing: bool


def code(path: Path) -> str:
    """A template without its comments."""
    return re.sub(r"(?m)(^|\s)//.*$", "", path.read_text())


def braced(text: str, start: int) -> str:
    """The text from the first brace after `start` to the one that closes it."""
    first = text.index("{", start)
    return text[first + 1 : _end(text, first)]


def _end(text: str, start: int) -> int:
    """Where the bracket that opens at `start` is closed."""
    expected: list[str] = []
    for position in range(start, len(text)):
        character = text[position]
        if character in _OPENED:
            expected.append(_OPENED[character])
        elif expected and character == expected[-1]:
            expected.pop()
            if not expected:
                return position
    raise AssertionError("a bracket is not closed")


def _body(text: str, start: int) -> tuple[int, int]:
    """Where a declaration's object begins and ends, past the condition and the loop that may stand
    before it.
    """
    position = start
    looping = False
    while True:
        character = text[position]
        if character == "{":
            return position, _end(text, position)
        if character == "[" and not looping:
            looping = True
        elif character in "([":
            position = _end(text, position)
        position += 1


@cache
def declared(path: Path) -> tuple[Resource, ...]:
    """Every resource of a template, made or existing, nested ones too."""
    text = code(path)
    found: list[Resource] = []
    around: list[tuple[int, str]] = []  # the end and the type of each declaration that this one is inside of
    for match in re.finditer(r"(?m)^\s*resource\s+(\w+)\s+'([^'@]+)(?:@[\w-]+)?'\s*(existing\s*)?=", text):
        around = [each for each in around if each[0] > match.start()]
        kind = match[2] if match[2].startswith("Microsoft.") else f"{around[-1][1]}/{match[2]}"
        begin, end = _body(text, match.end())
        conditional = re.search(r"\bif\s*\(", text[match.end() : begin]) is not None
        found.append(Resource(path.stem, match[1], kind, text[begin + 1 : end], conditional, bool(match[3])))
        around.append((end, kind))
    return tuple(found)


def resources(kind: str) -> list[Resource]:
    """Every resource of a type that the templates make."""
    found = [each for path in TEMPLATES for each in declared(path) if each.kind == kind and not each.existing]
    assert found, kind
    return found


def outputs(text: str) -> dict[str, str]:
    """Name → type and expression of each output, with whatever stands up to the next: rather too
    much of it than too little.
    """
    _, *parts = re.split(r"(?m)^[ \t]*output[ \t]+(?=\w)", text)
    return {re.split(r"\W", part, maxsplit=1)[0]: part for part in parts}


def variable(name: str, text: str) -> str:
    """The text of an object that a variable holds."""
    return braced(text, text.index(f"var {name} = {{"))


def keys(body: str) -> set[str]:
    return set(re.findall(r"(?:^|\{)\s*(\w+):", body, re.MULTILINE))


def parameters(text: str) -> list[str]:
    return re.findall(r"^param (\w+)", text, re.MULTILINE)
