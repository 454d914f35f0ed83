"""The package `video-gateway` as a stranger gets it: a wheel, in an environment of its own."""

import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.fakes.stack import Served, serving

CLIENT = Path(__file__).parents[3] / "client"
SNIPPETS = re.findall(r"<!-- run: (\w+) -->\n```\w+\n(.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def served(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(azurite, tmp_path_factory.mktemp("client")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of a new environment, which has the wheel and what the wheel asks for.

    The latter lies in the tests' own environment already: a link to it takes no time. What the
    wheel forgets to ask for is not there.
    """
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(CLIENT)], check=True)
    (wheel,) = folder.glob("video_gateway-*.whl")
    venv.create(folder / "venv", with_pip=False)
    commands = folder / "venv" / "bin"
    install = ["--python", str(commands / "python"), "install", "--no-deps", "--no-compile"]
    subprocess.run([*pip, *install, str(wheel)], check=True)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (installed,) = distributions(name="video-gateway", path=[str(packages)])
    link_requirements(installed, packages)
    return commands


def link_requirements(package: Distribution, packages: Path) -> None:
    """Whatever a package asks for, directly and indirectly, appears in another environment."""
    for requirement in map(Requirement, package.requires or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed = distribution(requirement.name)
            assert needed.version in requirement.specifier, requirement
            tops = {file.parts[0] for file in needed.files or ()} - {"..", "__pycache__"}
            missing = [top for top in tops if not (packages / top).exists()]
            for top in missing:
                (packages / top).symlink_to(str(needed.locate_file(top)))
            if missing:
                link_requirements(needed, packages)


def test_the_readme_runs_where_only_the_wheel_is_installed(environment: Path, served: Served, tmp_path: Path) -> None:
    """Its functions, its errors and its command, against a running gateway."""
    variables = {
        "PATH": f"{environment}:{os.defpath}",
        "VIDEO_GATEWAY_URL": served.url,
        "VIDEO_GATEWAY_KEY": served.new_key(),
        "HOME": str(tmp_path),
    }
    assert [kind for kind, _ in SNIPPETS] == ["python", "python", "bash"]
    for kind, text in SNIPPETS:
        command = [environment / "python", "-W", "ignore", "-c"] if kind == "python" else ["bash", "-euc"]
        ended = subprocess.run([*command, text], env=variables, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, (text, ended.stderr)
    assert (tmp_path / "cat.mp4").read_bytes()[4:8] == (tmp_path / "yarn.mp4").read_bytes()[4:8] == b"ftyp"
