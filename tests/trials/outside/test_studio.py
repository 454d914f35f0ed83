"""The studio in a real Chromium, driven by Playwright; and that what is served is what its source
builds.

Stories are in `studio/tests/stories.mjs`; those with Entra are told by `test_studio_sign_in.py`
beside this. Where no browser or no Node packages of the studio are
installed, these are skipped, and say so.
"""

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.config.settings import load
from shared.media.video import Video, new_id
from shared.storage.tables import Insert, Tables
from shared.storage.video_store import listed
from tests.fakes.chromium import CHROMIUM
from tests.fakes.simulator import picture
from tests.fakes.stack import CHECKOUT, MASTER_KEY, Served, arm, client, eventually, serving
from tests.trials.test_kill import running

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


def play(story: str, address: str, folder: Path, key: str) -> None:
    """Run a story. What it says of a failure is the test's."""
    told = {"CHROMIUM": str(CHROMIUM), "ADDRESS": address, "KEY": key, "OPERATOR": MASTER_KEY, "FOLDER": str(folder)}
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
    "a_gateway_that_was_away_is_back": {},
    "two_tabs_see_the_same": {},
    "a_late_answer_brings_nothing_back": {},
    "changes_are_told_and_else_asked_for": {},
    "the_operators_side": {"key_alias": "Nora", "max_budget": 5},
    "axe_finds_nothing_serious": {},
    "hands_need_no_mouse": {},
    "a_first_load_is_small": {},
}


@installed
@in_a_browser
@pytest.mark.parametrize("story", STORIES)
def test_in_a_browser(story: str, served: Served, tmp_path: Path) -> None:
    """Each story with a key of its own. One that fails is told a second time: a browser among a
    dozen busy processes may miss one, and what is broken fails again.
    """
    (tmp_path / "cat.png").write_bytes(picture((1000, 900)))
    try:
        play(story, served.url, tmp_path, served.new_key(**STORIES[story]))
    except (AssertionError, subprocess.TimeoutExpired) as error:
        print(error)
        play(story, served.url, tmp_path, served.new_key(**STORIES[story]))


@installed
@in_a_browser
def test_a_server_that_is_killed_is_back(tmp_path: Path) -> None:
    """The whole app with -9, under an open page, which is not loaded again: its film plays on, and
    what was in the making is made.
    """
    port = free_port()
    with ThreadPoolExecutor(1) as thread:
        with running(tmp_path / "data", port, GATEWAY_MASTER_KEY=MASTER_KEY) as stack:
            told = thread.submit(play, "a_server_that_is_killed_is_back", stack.url, tmp_path, MASTER_KEY)
            eventually(lambda: (tmp_path / "kill").exists() or told.done(), _LONGEST)
            stack.kill()
        with running(tmp_path / "data", port, GATEWAY_MASTER_KEY=MASTER_KEY):
            (tmp_path / "back").touch()
            told.result()


def free_port() -> str:
    """One that no outgoing connection of this machine is given meanwhile."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return str(port)
    raise AssertionError("no port is free")


@installed
@in_a_browser
def test_a_thousand_videos_come_in_pages(served: Served, tmp_path: Path) -> None:
    """No more than a window needs, with counts of all, and each hundredth of them failed."""
    key = served.new_key()
    with served.client(key) as caller:
        owner = caller.get("/key/info").json()["info"]["key_id"]
    asyncio.run(remember(served, owner, 1_000))
    play("a_thousand_videos_come_in_pages", served.url, tmp_path, key)


async def remember(served: Served, owner: str, count: int) -> None:
    """Write videos as the gateway leaves them, in the tables."""
    tables = Tables(load(served.settings).storage, lambda: None)
    moments = [datetime.now(UTC) - timedelta(minutes=number + 1) for number in range(count)]
    rows = [row for number, moment in enumerate(moments) for row in stored(owner, number, moment, served.model)]
    for at in range(0, len(rows), 100):
        await tables.gateway.commit(owner, *rows[at : at + 100])
    await tables.close()


def stored(owner: str, number: int, moment: datetime, model: str) -> tuple[Insert, Insert]:
    """A video's two rows."""
    failed = number % 100 == 0
    video = Video(
        id=new_id(owner, moment),
        model=model,
        created_at=moment,
        prompt=f"Scene {number}",
        seconds=4,
        size="720x1280",
        cost=400_000,
        status="failed" if failed else "completed",
        error_code="generation_failed" if failed else None,
        finished_at=moment,
    )
    return Insert(video.id, video.to_row()), listed(video.id)


@installed
@in_a_browser
def test_pictures_for_the_page_about_it(served: Served, tmp_path: Path) -> None:
    """`PICTURES=docs` puts them where `docs/studio.md` shows them."""
    folder = Path(os.environ.get("PICTURES", tmp_path)).resolve()
    play("pictures_for_the_page_about_it", served.url, folder, served.new_key(key_alias="Mia", max_budget=25))
    page = (CHECKOUT / "docs" / "studio.md").read_text()
    assert set(re.findall(r"\]\((studio-\w+\.png)\)", page)) == {path.name for path in folder.glob("studio-*.png")}


@installed
@in_a_browser
def test_a_failure_says_what_to_do(served: Served, tmp_path: Path) -> None:
    """With its code and the ids that help to find it."""
    refused = {
        "error": {
            "message": "Refused: <img src=x onerror=alert(1)>",
            "type": "invalid_request_error",
            "code": "moderation_blocked",
        }
    }
    arm(served.upstream, kind="status", operation="create", status=400, body=refused)
    play("a_failure_says_what_to_do", served.url, tmp_path, served.new_key())


def test_make_studio_has_a_dozen_videos_made(tmp_path: Path) -> None:
    """And two with a key that has a budget. The second start makes no others."""
    for _ in range(2):
        with started(tmp_path) as operator:
            mia = eventually(lambda: paying(operator))
            assert (mia["key_alias"], mia["max_budget"]) == ("Mia", 5.0)
            counts = operator.get("/v1/videos/counts").json()
            assert sum(counts[status] for status in ("queued", "in_progress", "completed")) == 12


def paying(operator: httpx.Client) -> dict[str, Any] | None:
    """The key, once all its videos are asked for."""
    keys: list[dict[str, Any]] = operator.get("/key/list?return_full_object=true").json()["keys"]
    return next((key for key in keys if key["spend"] + key["reserved"] == 0.8), None)


@contextmanager
def started(data: Path) -> Iterator[httpx.Client]:
    """`make studio`, where no browser is to be opened, until the end of the test."""
    command = [sys.executable, "-m", "local", "studio", "--port", "0", "--data", str(data), "--speed", "100"]
    environment = {**os.environ, "BROWSER": "true", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True) as stack:
        try:
            assert stack.stdout is not None
            address = next(line.split()[-1] for line in stack.stdout if line.startswith("The studio is at "))
            with client(address.removesuffix("/studio"), MASTER_KEY) as operator:
                assert operator.get("/studio").status_code == 200
                yield operator
        finally:
            stack.terminate()
        assert stack.wait(timeout=30) == 0


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
