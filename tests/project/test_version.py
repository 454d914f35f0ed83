"""One version: pyproject.toml has it, and everything that tells a version tells that one."""

import logging
import tomllib
from pathlib import Path

import pytest

from local.__main__ import main
from shared.config.version import SERVER, VERSION
from tests.fakes.world import World

PROJECT = Path(__file__).parents[2]


def test_the_app_has_the_version_of_the_project() -> None:
    """pyproject.toml is not deployed, so that the app carries a copy."""
    assert tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_the_changelog_tells_of_the_version() -> None:
    """A release that users cannot read about is not one."""
    assert f"\n## {VERSION} (" in (PROJECT / "CHANGELOG.md").read_text()


def test_the_command_tells_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m local --version` prints it and ends."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{SERVER}\n"


@pytest.mark.anyio
async def test_each_record_of_the_log_tells_the_version(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that sends fields sends `server` with each record of the app."""
    logging.getLogger("gateway").warning("something happened")
    assert [record.server for record in caplog.records if record.name == "gateway"] == [SERVER]  # type: ignore[attr-defined]
