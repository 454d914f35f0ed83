"""The templates as tests read them: resources, variables and parameters, as they are written."""

import re
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parent.parent
INFRA = PROJECT / "infra"
TEMPLATES = sorted(INFRA.rglob("*.bicep"))


@dataclass(frozen=True)
class Resource:
    """A resource as it is written: in which module, under which symbol, of which type, and its text between the braces."""

    module: str
    symbol: str
    kind: str
    body: str


def code(path: Path) -> str:
    """A template without its comments."""
    return re.sub(r"(?m)(^|\s)//.*$", "", path.read_text())


def braced(text: str, start: int) -> str:
    """The text from the first brace after `start` to the one that closes it."""
    first = text.index("{", start)
    depth = 0
    for position in range(first, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[first + 1 : position]
    raise AssertionError("a brace is not closed")


def resources(kind: str) -> list[Resource]:
    """Every resource of a type that the templates make."""
    found = []
    for path in TEMPLATES:
        text = code(path)
        for match in re.finditer(r"resource (\w+) '([\w./]+)@[\w-]+' = (\[[^:\n]*: )?\{", text):
            if match[2] == kind:
                found.append(Resource(path.stem, match[1], match[2], braced(text, match.end() - 1)))
    assert found, kind
    return found


def variable(name: str, text: str) -> str:
    """The text of an object that a variable holds."""
    return braced(text, text.index(f"var {name} = {{"))


def keys(body: str) -> set[str]:
    return set(re.findall(r"(?:^|\{)\s*(\w+):", body, re.MULTILINE))


def parameters(text: str) -> list[str]:
    return re.findall(r"^param (\w+)", text, re.MULTILINE)
