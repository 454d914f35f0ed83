"""The pages: what they say is what the code, the templates and arithmetic say."""

import ast
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from shared.errors import GatewayError, UpstreamError

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
FACTS = "facts"
GROUND = {"config", "dialects", FACTS}


def page(name: str) -> str:
    return (DOCS / name).read_text()


def diagram() -> str:
    (found,) = re.findall(r"```mermaid\n(.*?)```", page("architecture.md"), re.DOTALL)
    return str(found)


def boxes() -> dict[str, str]:
    """Module, as `room.name`, → the box it is drawn in."""
    found: dict[str, str] = {"function_app": "function_app"}
    for name, body in re.findall(r"subgraph (\w+) \[[^\]]*\]\n(.*?)\n    end", diagram(), re.DOTALL):
        for module, label in re.findall(r"^ +([\w.]+)\[(\w+)\]$", body, re.MULTILINE):
            assert module == f"{name}.{label}", module
            assert module not in found, module
            found[module] = name
    return found


def module_of(dotted: str) -> str:
    """`room.name` of a module of `shared`; what lies beside the rooms is a fact, or the gateway."""
    *rooms, name = dotted.removeprefix("shared.").split(".")
    return f"{rooms[0]}.{name}" if rooms else f"{name if name == 'gateway' else FACTS}.{name}"


def is_module(dotted: str) -> bool:
    return (PROJECT / f"{dotted.replace('.', '/')}.py").is_file()


@cache
def imports() -> dict[str, set[str]]:
    """Module → the modules of `shared` that it imports anywhere, from their syntax trees."""
    found: dict[str, set[str]] = {}
    for path in [PROJECT / "function_app.py", *(PROJECT / "shared").rglob("*.py")]:
        if path.stem == "__init__":
            continue
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "shared":
                module = str(node.module)
                named = [module] if is_module(module) else [f"{module}.{each.name}" for each in node.names]
                names |= {module_of(each) for each in named}
        dotted = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        found[module_of(dotted) if dotted.startswith("shared.") else dotted] = names
    return found


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of the Markdown table whose first column has this heading."""
    start = text.index(f"\n| {heading} |") + 1
    rows = []
    for line in text[start:].splitlines()[2:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_the_diagram_has_every_module_once() -> None:
    """A new module has to be drawn into the box it belongs to; one that is gone has to be taken
    out.
    """
    assert set(boxes()) == set(imports())


def test_the_arrows_are_the_imports() -> None:
    """Every arrow between two boxes is an import, and every import between two boxes is an
    arrow.
    """
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", diagram(), re.MULTILINE))
    box = boxes()
    real = {
        (box[module], box[other])
        for module, others in imports().items()
        for other in others
        if box[module] != box[other] and box[other] not in GROUND
    }
    assert drawn == real


def test_the_ground_uses_nothing_but_the_ground() -> None:
    """That is what the page says, and why their arrows are left out."""
    box = boxes()
    for module, others in imports().items():
        if box[module] in GROUND:
            assert {box[other] for other in others} <= GROUND, module


def test_imports_between_boxes_go_one_way() -> None:
    """No box uses another that, by whatever way, uses it."""
    arrows = set(re.findall(r"^    (\w+) --> (\w+)$", diagram(), re.MULTILINE))
    left = {name for arrow in arrows for name in arrow}
    while left:
        ends = {name for name in left if not any(source == name and target in left for source, target in arrows)}
        assert ends, f"a circle among {sorted(left)}"
        left -= ends


def codes_in(path: Path) -> set[str]:
    """Every text that a module may give as a code: `code=`, `error_code`, the first argument of
    `failed`, `default_code`.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.keyword) and node.arg in ("code", "error_code"):
            found |= texts(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failed":
            found |= texts(node.args[0])
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(each, ast.Name) and each.id in ("code", "default_code") for each in targets):
                found |= texts(node.value)
    return found


def texts(value: ast.expr) -> set[str]:
    """The texts that an expression may come to, as far as they are written in it."""
    parts: dict[type[ast.expr], Callable[[Any], list[ast.expr]]] = {
        ast.IfExp: lambda node: [node.body, node.orelse],
        ast.BoolOp: lambda node: node.values,
        ast.Subscript: lambda node: [node.value],
    }
    if isinstance(value, ast.Constant):
        return {value.value} if isinstance(value.value, str) else set()
    return set().union(*map(texts, parts.get(type(value), lambda _: [])(value)))


def test_every_error_code_is_explained() -> None:
    """A code that is new, renamed or gone has to be so on the page too; the status of an answer is
    that of its class.
    """
    text = page("errors.md")
    answers = {row[0].strip("`"): int(row[1]) for row in table(text, "code | status")}
    ends = {row[0].strip("`") for row in table(text, "code | what happened")}
    assert set().union(*(codes_in(path) for path in (PROJECT / "shared").rglob("*.py"))) == {*answers, *ends}
    for kind in subclasses(GatewayError):
        if not issubclass(kind, UpstreamError):
            assert answers[kind.default_code] == kind.status, kind
        elif kind is not UpstreamError:
            assert kind.default_code in ends, kind


def subclasses(kind: type[GatewayError]) -> list[type[GatewayError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in subclasses(child))]


def test_every_threat_names_tests_that_exist() -> None:
    """A defence that no test guards, or whose test was renamed, is found here."""
    rows = table(page("security.md"), "threat")
    assert len(rows) >= 15
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row[2])
        assert named, row[0]
        for path, test in named:
            assert re.search(rf"^(async )?def {test}\(", (PROJECT / path).read_text(), re.MULTILINE), (path, test)


def test_every_role_of_the_templates_is_on_the_page() -> None:
    """Who may do what is complete."""
    text = page("security.md").lower()
    for path in (PROJECT / "infra").rglob("*.bicep"):
        for name in re.findall(r"^var (\w+) = subscriptionResourceId", path.read_text(), re.MULTILINE):
            words = (
                re.sub(r"(?<!^)([A-Z])", r" \1", name).lower().replace("open ai", "openai").replace("event grid", "eventgrid")
            )
            assert words in text, name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_that_a_page_names_exist(path: Path) -> None:
    """A path in backquotes leads somewhere, as do links to other pages."""
    text = path.read_text()
    named = re.findall(r"`((?:infra|shared|local|tests|docs|\.github)/[\w./-]+\w)`", text)
    named += [str(Path("docs") / link) for link in re.findall(r"\]\((?!https?:|#)([\w./-]+)", text)]
    for name in named:
        assert (PROJECT / name).exists(), name
