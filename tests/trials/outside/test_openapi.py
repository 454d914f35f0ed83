"""The OpenAPI document against a running gateway: schemathesis sends what the document allows and
what it forbids, and compares every answer with it.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.stack import MASTER_KEY, Served, serving

# Schemathesis has more. They want all refused that the document does not describe, and all done
# that it does; but the gateway takes more spellings than it names, and what a model can make is not
# in the document.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
)


@pytest.fixture(scope="module")
def served(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway whose upstream is so slow that no film is rendered meanwhile, and where no call
    waits for one for long.
    """
    knobs: dict[str, Any] = {"waiting": {"longest_seconds": 0.2}}
    with serving(azurite, tmp_path_factory.mktemp("openapi"), speed=1, max_running=1, **knobs) as gateway:
        yield gateway


PHASES = {
    # Every field at its bounds and beyond. Routes of keys, which share their fields, would be most
    # of the work; second addresses of one handler find nothing that the first does not.
    "coverage": ["--exclude-path-regex", "/key/|/generations|/global/"],
    "fuzzing": ["--max-examples", "4"],
}


# Methods that a path does not take are in test_http_surface.
CONFIGURATION = "[phases.coverage]\nunexpected-methods = []\n"


@pytest.mark.parametrize("phase", PHASES)
def test_every_answer_is_as_the_document_says(phase: str, served: Served, tmp_path: Path) -> None:
    """To a thousand requests, the same ones in each run."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{served.url}/openapi.json", "--phases", phase]
    asked = ["--header", f"Authorization: Bearer {MASTER_KEY}", "--checks", ",".join(CHECKS)]
    steady = ["--seed", "1", "--generation-database", "none"]
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    ran = subprocess.run(
        [*command, *asked, *steady, *PHASES[phase]], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stdout[-10_000:] + ran.stderr
