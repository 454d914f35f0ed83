"""Modules of the stand-ins and of the tests import each other in one direction."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


def modules(folder: str) -> dict[str, Path]:
    """Name → file of every module in a folder, packages under their own names."""
    found = {}
    for path in sorted((PROJECT / folder).rglob("*.py")):
        dotted = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        found[dotted.removesuffix(".__init__")] = path
    return found


def imported(path: Path) -> set[str]:
    """Everything that a file imports anywhere, for type checkers alone too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{each.name}" for each in node.names}
    return names


def uses(folder: str) -> dict[str, set[str]]:
    """Module → the modules of the same folder that it imports.

    `from package import module` is an import of the module. Packages are left out: their own files
    only list what others may import.
    """
    files = modules(folder)
    found = {}
    for name, path in files.items():
        wanted = imported(path)
        packages = {each for each in wanted if any(other.startswith(f"{each}.") for other in wanted & files.keys())}
        found[name] = (wanted & files.keys()) - packages - {name}
    return found


@pytest.mark.parametrize("folder", ["local", "tests"])
def test_no_module_is_imported_by_what_it_imports(folder: str) -> None:
    """A circle is told with its modules."""
    try:
        TopologicalSorter(uses(folder)).prepare()
    except CycleError as circle:
        pytest.fail(" imports ".join(reversed(circle.args[1])))
