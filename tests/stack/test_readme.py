"""The README's commands and snippets, run as they stand: only the address is another."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.stack import Served, serving

README = (Path(__file__).parents[2] / "README.md").read_text()
SNIPPETS = re.findall(r"<!-- run: (\w+) -->\n```\w+\n(.*?)```", README, re.DOTALL)
COMMANDS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-W", "error::SyntaxWarning", "-c"]}


@pytest.fixture(scope="module")
def served(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(azurite, tmp_path_factory.mktemp("readme")) as gateway:
        yield gateway


@pytest.mark.parametrize(("language", "snippet"), SNIPPETS, ids=[snippet.split("\n")[0][:40] for _, snippet in SNIPPETS])
def test_a_snippet_does_what_it_shows(served: Served, tmp_path: Path, language: str, snippet: str) -> None:
    """Pasted into a shell or into Python it works, and answers with what the text around it
    promises.
    """
    text = snippet.replace("http://localhost:4000", served.url)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    done = subprocess.run(
        [*COMMANDS[language], text], cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    if language == "bash":
        answer = json.loads(done.stdout)
        assert "error" not in answer or answer["error"] is None, answer
        assert answer.get("status") == "queued" or answer["key"].startswith("sk-")
    else:
        (saved,) = tmp_path.glob("*.mp4")
        assert saved.read_bytes()[4:8] == b"ftyp"


def test_every_snippet_that_can_run_is_marked() -> None:
    """A curl line or a piece of Python that is not run here could go stale unseen."""
    blocks = re.findall(r"(<!-- run: \w+ -->\n)?```(?:sh|python)\n(.*?)```", README, re.DOTALL)
    assert [text for marked, text in blocks if not marked and not re.fullmatch(r"(make \w+|func start)\n", text)] == []


def test_commands_that_are_named_exist() -> None:
    """Every `make` target the README names is one."""
    targets = set(re.findall(r"^([a-z-]+):", (Path(__file__).parents[2] / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.MULTILINE)) <= targets


@pytest.mark.parametrize("page", sorted(set(re.findall(r"\]\(([^):]+)\)", README))))
def test_links_lead_somewhere(page: str) -> None:
    """Every page that the README links to is there."""
    assert (Path(__file__).parents[2] / page).exists()
