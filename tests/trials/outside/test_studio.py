"""The studio in a real Chromium, driven by Playwright; and that what is served is what its source
builds.

Stories are in `studio/tests/stories.mjs`. Where no browser or no Node packages of the studio are
installed, these are skipped, and say so.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.chromium import CHROMIUM
from tests.fakes.simulator import picture
from tests.fakes.stack import CHECKOUT, MASTER_KEY, Served, arm, serving

STUDIO = CHECKOUT / "studio"
STATIC = CHECKOUT / "shared" / "static"
_LONGEST = 240  # seconds of one story, on a machine with much else to do

installed = pytest.mark.skipif(
    not (STUDIO / "node_modules" / "vite").exists(), reason="`make trials` installs the studio's tools"
)
in_a_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed: `apt-get install chromium` brings Debian's"
)


@pytest.fixture(scope="module")
def served(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(azurite, tmp_path_factory.mktemp("studio"), max_running=2) as gateway:
        yield gateway


def play(story: str, served: Served, folder: Path, key: str) -> None:
    """Run a story. What it says of a failure is the test's."""
    told = {"CHROMIUM": str(CHROMIUM), "ADDRESS": served.url, "KEY": key, "OPERATOR": MASTER_KEY, "FOLDER": str(folder)}
    command = ["node", str(STUDIO / "tests" / "stories.mjs"), story]
    ended = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, timeout=_LONGEST, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


STORIES: dict[str, dict[str, Any]] = {
    "from_prompt_to_played_video": {},
    "remix_and_go_on_from_the_last_frame": {},
    "a_reference_image_is_cut_to_size": {},
    "a_reload_in_the_middle_loses_nothing": {},
    "a_budget_is_refused_and_costs_nothing": {"max_budget": 0.1},
    "a_wrong_key_is_told_and_forgotten": {},
    "texts_of_others_are_only_text": {},
    "the_operators_side": {"key_alias": "Mia", "max_budget": 5},
    "axe_finds_nothing_serious": {},
    "hands_need_no_mouse": {},
    "a_first_load_is_quick_and_small": {},
}


@installed
@in_a_browser
@pytest.mark.parametrize("story", STORIES)
def test_in_a_browser(story: str, served: Served, tmp_path: Path) -> None:
    """Each story with a key of its own."""
    (tmp_path / "cat.png").write_bytes(picture((1000, 900)))
    play(story, served, tmp_path, served.new_key(**STORIES[story]))


@installed
@in_a_browser
def test_a_failure_says_what_to_do(served: Served, tmp_path: Path) -> None:
    """With its code and the ids that help to find it."""
    refused = {"error": {"message": "The prompt was refused.", "type": "invalid_request_error", "code": "moderation_blocked"}}
    arm(served.upstream, kind="status", operation="create", status=400, body=refused)
    play("a_failure_says_what_to_do", served, tmp_path, served.new_key())


@installed
def test_what_is_served_is_what_the_source_builds(tmp_path: Path) -> None:
    """Each file, to the byte."""
    command = ["npx", "--no", "vite", "build", "--outDir", str(tmp_path), "--emptyOutDir"]
    built = subprocess.run(command, cwd=STUDIO, capture_output=True, text=True, timeout=_LONGEST, check=False)
    assert built.returncode == 0, built.stderr
    assert contents(tmp_path) == contents(STATIC)


@installed
def test_its_types_are_right() -> None:
    """As strict as TypeScript can be."""
    checked = subprocess.run(["npx", "--no", "tsc"], cwd=STUDIO, capture_output=True, text=True, timeout=_LONGEST, check=False)
    assert checked.returncode == 0, checked.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
