"""The snippets of the README and of the pages, run as they stand: only the address is another."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.stack import Served, serving

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text()
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
SNIPPETS = [  # those that are marked otherwise have a test of their own
    snippet
    for page in PAGES
    for snippet in re.findall(r"<!-- run: (bash|python) -->\n```\w+\n(.*?)```", page.read_text(), re.DOTALL)
]
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
    if ".mp4" in snippet:
        (saved,) = tmp_path.glob("*.mp4")
        assert saved.read_bytes()[4:8] == b"ftyp"
    else:
        assert json.loads(done.stdout)["key"].startswith("sk-")


def test_every_snippet_that_can_run_is_marked() -> None:
    """A curl line or a piece of Python that is not run here could go stale unseen."""
    blocks = re.findall(r"(<!-- run: \w+ -->\n)?```(?:sh|python)\n(.*?)```", README, re.DOTALL)
    assert [text for marked, text in blocks if not marked and not re.fullmatch(r"(make \w+|func start)\n", text)] == []


def test_commands_that_are_named_exist() -> None:
    """Every `make` target that a page names is one."""
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for page in [*PAGES, PROJECT / "CONTRIBUTING.md"]:
        assert set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)) <= targets, page


@pytest.mark.parametrize("page", sorted(set(re.findall(r"\]\(([^):]+)\)", README))))
def test_links_lead_somewhere(page: str) -> None:
    """Every page that the README links to is there."""
    assert (PROJECT / page).exists()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])
def test_no_line_is_longer_than_120(name: str) -> None:
    """They are read in terminals and in reviews, side by side."""
    assert [line for line in (PROJECT / name).read_text().splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("page", [*PAGES, PROJECT / "CONTRIBUTING.md", PROJECT / "SECURITY.md"], ids=lambda page: page.name)
def test_paths_that_are_named_exist(page: Path) -> None:
    """A page that names a file or folder of this checkout that has moved is found out."""
    folders = "shared|local|tests|infra|docs|client|\\.github|\\.ci"
    named = set(re.findall(rf"[`( ]((?:{folders})/[\w./-]*)", page.read_text()))
    assert [name for name in sorted(named) if not (PROJECT / name.rstrip(".")).exists()] == []
