"""The files around the code: what is installed, what is deployed, what the host is told."""

import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
# Each with the lock that holds it.
REQUIREMENTS = {
    "requirements.txt": "requirements-dev.lock",
    "requirements-dev.txt": "requirements-dev.lock",
    "requirements-node.txt": "requirements-node.lock",
    "requirements-worker.txt": "requirements-worker.lock",
}
LOCKS = ("requirements.lock", *sorted(set(REQUIREMENTS.values())), "package-lock.json")


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
    locked = {re.sub(r"\[[\w,-]+\]", "", line.split()[0].lower()) for line in lines(REQUIREMENTS[name]) if "==" in line}
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
        "LICENSE",
        "CHANGELOG.md",
        ".pre-commit-config.yaml",
        "Makefile",
        "azure.yaml",
        "pyproject.toml",
        "package.json",
        "package-lock.json",
        "requirements-dev.txt",
        "requirements-dev.lock",
        "requirements-worker.txt",
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


@pytest.mark.parametrize("target", ["demo", "run", "test", "check", "bench", "audit", "import-time", "setup", "clean", "help"])
def test_make_offers_the_promised_commands(target: str) -> None:
    """Each has a line in `make help`."""
    assert re.search(rf"^{target}:.*## \w", (PROJECT / "Makefile").read_text(), re.MULTILINE)


def test_ci_calls_what_a_person_calls() -> None:
    """CI has no steps of its own, and its script can be run."""
    script = PROJECT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "\nmake test\n" in script.read_text()
    assert "\nmake demo\n" in script.read_text()


def checks_of(target: str) -> set[str]:
    """The Python tools that a target of the Makefile runs."""
    recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    return set(re.findall(r"@\$\(PYTHON\) -m (.+)", recipe[1]))


def test_a_commit_is_checked_as_make_check_does() -> None:
    """The hooks run the same tools with the same arguments."""
    (local,) = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"]
    assert {hook["entry"].removeprefix(".venv/bin/python -m ") for hook in local["hooks"]} == checks_of("check")


def test_every_kind_of_dependency_is_kept_up_to_date() -> None:
    """Dependabot proposes updates of Python packages, of Azurite and of the workflow's actions."""
    updates = yaml.safe_load((PROJECT / ".github" / "dependabot.yml").read_text())["updates"]
    assert {each["package-ecosystem"] for each in updates} == {"pip", "npm", "github-actions"}


def test_coverage_has_a_floor() -> None:
    """`make test` fails where coverage falls below it."""
    tools = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]
    assert tools["coverage"]["report"]["fail_under"] >= 85
    assert "-m pytest --cov " in (PROJECT / "Makefile").read_text()


@pytest.mark.parametrize(("gone", "again"), [("python", True), ("node", True), ("nothing", False)])
def test_setup_notices_what_runs_no_more(tmp_path: Path, gone: str, again: bool) -> None:
    """With every stamp there, `make setup` installs again what was removed from the machine, and
    nothing else.
    """
    bin_ = tmp_path / ".venv" / "bin"
    bin_.mkdir(parents=True)
    (tmp_path / "node_modules").mkdir()
    for name in (
        "Makefile",
        "package.json",
        "package-lock.json",
        "requirements-dev.lock",
        "requirements-node.lock",
        "requirements-worker.lock",
    ):
        (tmp_path / name).write_bytes((PROJECT / name).read_bytes())
    for stamp in (".venv/.created", ".venv/.node", ".venv/.installed", "node_modules/.installed"):
        (tmp_path / stamp).touch()
    for tool in ("python", "node"):
        (bin_ / tool).write_text(f"#!/bin/sh\nexit {127 if tool == gone else 0}\n")
        (bin_ / tool).chmod(0o755)
    would = subprocess.run(["make", "-n", "setup"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert ("Installing Azurite" in would) is again
    assert ("-m venv" in would) is (gone == "python")


def test_setup_tells_at_once_what_pip_does(tmp_path: Path) -> None:
    """A line comes while pip still works, whatever buffers lie between."""
    (tmp_path / "show").write_text("include Makefile\nshow:\n\t@printenv PIP_PROGRESS\n")
    show = ["make", "-f", str(tmp_path / "show"), "show"]
    program = subprocess.run(show, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as progress:
        assert progress.stdin
        assert progress.stdout
        progress.stdin.write("Collecting a==1\n" * 5)
        progress.stdin.flush()
        assert progress.stdout.readline() == "  looked at 5\n"
        progress.stdin.write("Installing collected packages: a, b\n")
        progress.stdin.flush()
        assert progress.stdout.readline() == "  unpacking 2\n"
        assert progress.communicate("Successfully installed a-1 b-1\n")[0] == "  installed 2\n"
