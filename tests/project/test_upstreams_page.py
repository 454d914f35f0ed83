"""docs/upstreams.md: its table says what the dialects say. Its configurations make videos in
`tests/trials/outside`.
"""

import re
from pathlib import Path

import yaml

from shared.dialects.known import DIALECTS

PAGE = (Path(__file__).parents[2] / "docs" / "upstreams.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def named(block: str) -> str:
    return "+".join(entry["params"]["model"].partition("/")[0] for entry in yaml.safe_load(block)["model_list"])


def test_the_page_has_every_dialect() -> None:
    """A block for each that needs one, and a column in the table."""
    assert {provider for block in BLOCKS for provider in named(block).split("+")} | {"openai"} == DIALECTS.keys()
    head = next(line for line in PAGE.splitlines() if line.startswith("| |"))
    assert set(re.findall(r"`(\w+)/`", head)) == DIALECTS.keys()


def _row(start: str) -> dict[str, str]:
    """The cells of a line of the table, by the dialects of the column."""
    cells = next(line for line in PAGE.splitlines() if line.startswith(f"| {start}")).strip("| ").split(" | ")[1:]
    return dict(zip(("azure", "hosted_vllm", "sglang", "gemini"), cells, strict=True))


def test_the_table_says_what_the_dialects_say() -> None:
    """Whoever changes one changes the other."""
    for name, cell in _row("remix").items():
        assert cell.startswith("yes") is DIALECTS[name].remixes, name
    for name, cell in _row("thumbnail").items():
        assert cell.startswith("yes") is ("thumbnail" in DIALECTS[name].variants), name
    for name, cell in _row("its progress").items():
        assert cell.startswith("told") is DIALECTS[name].tells_progress, name
    for name, cell in _row("a deleted video").items():
        assert cell.startswith("is stopped") is DIALECTS[name].stops, name
    for name, cell in _row("a restart").items():
        assert cell.startswith("forgets every") is DIALECTS[name].forgets, name
    for name, cell in _row("runs at once").items():
        assert int(cell) == DIALECTS[name].max_running, name


def test_the_page_names_every_parameter() -> None:
    """Of each server, and none that it does not take."""
    listed = [
        set(re.findall(r"`(\w+)`", told)) for told in re.findall(r"\*\*Parameters:\*\*(.*?)(?=\n- |\n\n)", PAGE, re.DOTALL)
    ]
    assert listed == [set(DIALECTS[name].parameters) for name in ("hosted_vllm", "sglang", "gemini")]
