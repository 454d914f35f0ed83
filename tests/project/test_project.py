"""The files around the code: what is installed, what is deployed, what the host is told."""

import json
import re
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt", "requirements-node.txt")
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-node.lock", "package-lock.json")


def lines(name: str) -> list[str]:
    return (PROJECT / name).read_text().splitlines()


def project_name(requirement: str) -> str:
    return re.split(r"[=<>!~; ]", requirement)[0].lower()


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_requirement_is_pinned(name: str) -> None:
    """Two installations of one commit get the same versions."""
    wanted = [line for line in lines(name) if line and not line.startswith(("#", "-r "))]
    assert wanted
    assert [line for line in wanted if not re.fullmatch(r'[\w.-]+==[\w.]+( ; python_version [<>]=? "3\.\d+")?', line)] == []


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_requirement_says_why_it_is_there(name: str) -> None:
    """The line above a requirement is its reason; the two lines of one package share theirs."""
    for above, line in pairwise(lines(name)):
        if line and not line.startswith(("#", "-r ")):
            assert above.startswith("# ") or project_name(above) == project_name(line), line


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_files_name_no_hosts(lock: str) -> None:
    """They work with any registry or mirror, and tell nobody which one was used."""
    text = (PROJECT / lock).read_text()
    assert "://" not in text
    assert '"resolved"' not in text
    assert "--index-url" not in text
    assert "--find-links" not in text


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_locks_hold_what_is_required(name: str) -> None:
    """A requirement that changed without `make lock` is found out here."""
    lock = "requirements-node.lock" if name == "requirements-node.txt" else "requirements-dev.lock"
    locked = {re.sub(r"\[[\w,-]+\]", "", line.split()[0].lower()) for line in lines(lock) if "==" in line}
    wanted = {line.split()[0].lower() for line in lines(name) if "==" in line}
    assert wanted <= locked


@pytest.mark.parametrize("lock", [each for each in LOCKS if each.startswith("requirements")])
def test_everything_in_a_python_lock_is_hashed(lock: str) -> None:
    """Every pinned package is followed by at least one hash."""
    text = lines(lock)
    for line, below in pairwise(text):
        if "==" in line:
            assert below.strip().startswith("--hash=sha256:"), line


def test_node_packages_are_pinned_and_hashed() -> None:
    """Azurite is an exact version, and whatever it brings along has its integrity hash."""
    package = json.loads((PROJECT / "package.json").read_text())
    lock = json.loads((PROJECT / "package-lock.json").read_text())
    assert re.fullmatch(r"\d+\.\d+\.\d+", package["devDependencies"]["azurite"])
    assert lock["packages"]["node_modules/azurite"]["version"] == package["devDependencies"]["azurite"]
    assert [name for name, entry in lock["packages"].items() if name and "integrity" not in entry] == []


def is_deployed(path: str) -> bool:
    """What .funcignore makes of a path: the last pattern that fits its first part decides, as in
    .gitignore.
    """
    first, deployed = path.partition("/")[0], True
    for line in lines(".funcignore"):
        pattern = line.strip()
        if pattern and not pattern.startswith("#") and fnmatch(first, pattern.removeprefix("!").rstrip("/")):
            deployed = pattern.startswith("!")
    return deployed


@pytest.mark.parametrize("path", ["function_app.py", "host.json", "requirements.txt", "config.yaml", "shared/clock.py"])
def test_the_app_is_deployed(path: str) -> None:
    """What the app needs at run time is not left behind."""
    assert is_deployed(path)


@pytest.mark.parametrize(
    "path",
    [
        "local/stack.py",
        "tests/project/test_project.py",
        "docs/a.md",
        "infra/main.bicep",
        "node_modules/azurite/package.json",
        "out/video.mp4",
        ".venv/bin/python",
        ".local/config.yaml",
        ".env",
        "local.settings.json",
        "local.settings.json.example",
        "README.md",
        "Makefile",
        "azure.yaml",
        "pyproject.toml",
        "package.json",
        "package-lock.json",
        "requirements-dev.txt",
        "requirements-dev.lock",
    ],
)
def test_only_the_app_is_deployed(path: str) -> None:
    """Tests, stand-ins, secrets and build tools never leave the checkout."""
    assert not is_deployed(path)


def test_the_host_serves_from_the_root() -> None:
    """Without a route prefix, so that clients find /v1/videos; the task hub comes from an app
    setting.
    """
    host = json.loads((PROJECT / "host.json").read_text())
    assert host["extensions"]["http"]["routePrefix"] == ""
    assert host["extensions"]["durableTask"]["hubName"] == "%TASK_HUB%"


def test_the_example_settings_give_the_host_all_it_refers_to() -> None:
    """`func start` with a copy of the example finds every setting that host.json and config.yaml
    name.
    """
    values = json.loads((PROJECT / "local.settings.json.example").read_text())["Values"]
    named = re.findall(r"%(\w+)%", (PROJECT / "host.json").read_text())
    named += re.findall(r"^[^#]*os\.environ/(\w+)", (PROJECT / "config.yaml").read_text(), re.MULTILINE)
    assert set(named) <= set(values)
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9]{2,44}", values["TASK_HUB"])


@pytest.mark.parametrize("target", ["demo", "run", "test", "check", "bench", "import-time", "setup", "clean", "help"])
def test_make_offers_the_promised_commands(target: str) -> None:
    """Each has a line in `make help`."""
    assert re.search(rf"^{target}:.*## \w", (PROJECT / "Makefile").read_text(), re.MULTILINE)


def test_ci_calls_what_a_person_calls() -> None:
    """CI has no steps of its own, and its script can be run."""
    script = PROJECT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "\nmake test\n" in script.read_text()
    assert "\nmake demo\n" in script.read_text()
