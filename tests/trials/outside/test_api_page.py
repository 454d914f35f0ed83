"""docs/api.md: every line on it works."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.stack import CHECKOUT, Served, serving

PAGE = (CHECKOUT / "docs" / "api.md").read_text()
LINES = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(scope="module")
def served(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(azurite, tmp_path_factory.mktemp("api")) as gateway:
        yield gateway


def test_every_line_works(served: Served, tmp_path: Path) -> None:
    """One after the other, in one shell; a line that is refused ends it, with the answer."""
    text = LINES.replace("http://localhost:4000", served.url)
    curl = 'curl() { command curl -sS --fail-with-body "$@"; }\n'
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-xc", curl + text], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, (ended.stderr[-600:], ended.stdout[-600:])
    assert (tmp_path / "cat.mp4").read_bytes()[4:8] == b"ftyp"
