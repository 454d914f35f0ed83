"""The package `video-gateway`, beside the app."""

import re
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "client"


def test_the_package_shares_no_code_with_the_app() -> None:
    """It is installed where the app is not."""
    for path in (CLIENT / "video_gateway").glob("*.py"):
        imported = re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
        assert not {"shared", "local", "tests", "function_app"} & set(imported), path
