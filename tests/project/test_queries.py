"""The queries of the workbook and of the alerts ask for what the app really tells."""

import inspect
import re
from pathlib import Path
from typing import get_args

import pytest

from shared.events.record import Record, Type
from shared.events.webhooks.webhooks import Webhooks
from shared.telemetry import telemetry
from tests.project.bicep import INFRA, PROJECT, code

QUERIES = sorted((INFRA / "queries").rglob("*.kql"))
ALERTS = [path for path in QUERIES if path.parent.name == "alerts"]
CODE = "\n".join(path.read_text() for path in (PROJECT / "shared").rglob("*.py"))
# Of the workspace: those that Application Insights fills, and Azure's own about itself.
TABLES = {"AppMetrics", "AppTraces", "AppRequests", "AppDependencies", "_LogOperation"}


def text_of(path: Path) -> str:
    """A query without its comments."""
    return re.sub(r"(?m)^//.*\n", "", path.read_text())


def found(pattern: str) -> set[str]:
    """What the pattern's group is, in all queries."""
    return {match for path in QUERIES for match in re.findall(pattern, text_of(path))}


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_a_query_begins_with_a_table_and_is_used_once(path: Path) -> None:
    """A chart of the workbook, or an alert called like its file."""
    first, *steps = text_of(path).splitlines()
    assert first in TABLES
    assert all(step.startswith(("| ", "    ")) for step in steps)
    module = "alerts" if path in ALERTS else "workbook"
    used = f"loadTextContent('../queries/{path.relative_to(INFRA / 'queries').as_posix()}')"
    assert code(INFRA / "modules" / f"{module}.bicep").count(used) == 1
    if path in ALERTS:
        assert f"name: '{path.stem}'" in code(INFRA / "modules" / "alerts.bicep")


def test_metrics_are_measured_with_these_attributes() -> None:
    """By their names in the code; each attribute is one that is given with a measurement."""
    measured = {value for name, value in vars(telemetry).items() if name.isupper() and isinstance(value, str)}
    asked = found(r'"(video_gateway\.[\w.]+\w)"')
    assert len(asked) >= 6
    assert asked <= measured
    for attribute in found(r'Properties\["([\w.]+)"\]'):
        assert f'"{attribute}"' in CODE, attribute


def test_the_journal_has_these_fields() -> None:
    """And lines of these types, in the form that is taken apart."""
    fields = found(r"record\.(\w+)")
    assert {"type", "id", "cost"} < fields <= set(Record.__struct_fields__)
    types = {each for line in found(r"record\.type\)([^\n]*)") for each in re.findall(r'"([\w.]+)"', line)}
    assert len(types) == 3
    assert types <= {value for each in get_args(Type) for value in (get_args(each) or (each,))}
    assert 'logger.info("journal %s", ' in CODE


def test_alerts_look_for_what_the_code_logs() -> None:
    """An alert on a text that nobody writes would never fire."""
    sought = found(r'Message has "([^"]+)"') | found(r'Message startswith "(\w+ \w+)"')
    assert len(sought) >= 5
    for words in sought:
        assert re.search(rf'logger\.\w+\(\s*"[^"]*{re.escape(words)}', CODE), words
    for operation in found(r'contains ": (\w+): "'):
        assert re.search(rf'log_failure\([\w.]+, "{operation}"', CODE), operation
    assert found(r'!startswith "(\w+):"') == {inspect.signature(Webhooks).parameters["name"].default}


def test_every_table_of_another_is_seen() -> None:
    """Nothing that is not looked at above."""
    assert found(r"(?m)^(\w+)$") == TABLES
