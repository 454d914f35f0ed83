"""docs/upstreams.md: its configurations make videos."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.stack import CHECKOUT
from tests.project.test_upstreams_page import BLOCKS, named


def addressed(block: str) -> str:
    """A block whose servers are all simulated: Google's has an address that needs no setting."""
    return block.replace("model: gemini/", "api_base: os.environ/AZURE_OPENAI_API_BASE\n      model: gemini/")


@pytest.mark.parametrize("block", BLOCKS, ids=named)
def test_a_configuration_of_the_page_makes_a_video(tmp_path: Path, block: str) -> None:
    """As it stands, with simulated servers where it says no address."""
    config = tmp_path / "config.yaml"
    config.write_text(addressed(block))
    given = {name: value for name, value in os.environ.items() if not re.match("AZURE|Azure|GATEWAY|.*_API_(BASE|KEY)$", name)}
    words = ["-m", "local", "demo", "--speed", "50", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    demo = subprocess.run(
        [sys.executable, *words],
        cwd=CHECKOUT,
        env={**given, "GATEWAY_CONFIG": str(config), "GEMINI_API_KEY": "simulated"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert list((tmp_path / "out").glob("*.mp4"))
