"""What a change of the templates does, shown without Azure, and the examples it is shown on."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.project.bicep import INFRA, braced, code, parameters

EXAMPLES = sorted((INFRA / "examples").glob("*.bicepparam"))
# Evaluates a parameter file to its own text, as often as it compiles.
BICEP = """#!/bin/bash
[ "$1" = snapshot ] || exit 2
if grep -q broken "$2"; then echo "Error BCP018" >&2; exit 1; fi
cat "$2" >"${2%.bicepparam}.snapshot.json"
"""


class Checkout:
    """A project with a parameter file, an example and a commit of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkout"
        self.example = self.folder / "infra" / "examples" / "small.bicepparam"
        self.example.parent.mkdir(parents=True)
        self.example.write_text("memory 512\n")
        (self.folder / "infra" / "main.bicepparam").write_text("as it stands\n")
        (self.folder / "config.yaml").write_text("")
        shutil.copy(INFRA / "snapshots", self.folder / "infra")
        (folder / "bicep").write_text(BICEP)
        (folder / "bicep").chmod(0o755)
        self.commit()

    def commit(self) -> None:
        self.git("init", "-q")
        self.git("add", "-A")
        self.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a")

    def git(self, *words: str) -> str:
        return subprocess.run(["git", *words], cwd=self.folder, check=True, capture_output=True, text=True).stdout

    def snapshots(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {"PATH": f"{self.folder.parent}:/usr/bin:/bin"}
        program = [str(self.folder / "infra" / "snapshots"), *arguments]
        return subprocess.run(program, cwd="/", env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_a_change_shows_in_the_example_that_it_touches(checkout: Checkout) -> None:
    """And nothing in the others; the checkout stays as it was."""
    checkout.example.write_text("memory 2048\n")
    shown = checkout.snapshots("HEAD")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == (
        "== infra/main.bicepparam\n"
        "== infra/examples/small.bicepparam\n--- before\n+++ after\n@@ -1 +1 @@\n-memory 512\n+memory 2048\n"
    )
    assert checkout.git("status", "--porcelain") == " M infra/examples/small.bicepparam\n"


def test_an_example_without_a_before_is_new(checkout: Checkout) -> None:
    """Or was broken before; the others are shown all the same."""
    checkout.example.write_text("broken\n")
    checkout.commit()
    checkout.example.write_text("memory 512\n")
    checkout.example.with_name("tall.bicepparam").write_text("memory 4096\n")
    shown = checkout.snapshots("HEAD")
    assert shown.returncode == 0, shown.stderr
    assert "small.bicepparam\nIt could not be evaluated before.\n" in shown.stdout
    assert "tall.bicepparam\nIt is new.\n" in shown.stdout


def test_an_example_that_is_broken_now_is_an_error(checkout: Checkout) -> None:
    """With the compiler's own words."""
    checkout.example.write_text("broken\n")
    shown = checkout.snapshots("HEAD")
    assert shown.returncode == 1
    assert "BCP018" in shown.stderr


@pytest.mark.parametrize("arguments", [(), ("--help",), ("HEAD", "HEAD")])
def test_a_commit_is_asked_for(checkout: Checkout, arguments: tuple[str, ...]) -> None:
    """Anything else prints how it is used."""
    shown = checkout.snapshots(*arguments)
    assert shown.returncode == 2
    assert "infra/snapshots COMMIT" in shown.stderr


def test_examples_make_every_choice_that_has_to_be_made() -> None:
    """Each is a parameter file of its own, to be copied: only what may be left out is."""
    wanted = parameters(code(INFRA / "main.bicep"))
    optional = set(re.findall(r"(?m)^param (\w+) [\w.]+\?$", code(INFRA / "main.bicep")))
    assert len(EXAMPLES) >= 7
    for path in EXAMPLES:
        assert {*wanted} - optional <= {*parameters(code(path))} <= {*wanted}, path.name
        assert f"param name = '{path.stem}'" in path.read_text()
        assert re.search(r"(?m)^// .+\.$", path.read_text()), path.name


def test_what_examples_share_is_what_the_parameter_file_has() -> None:
    """So that they differ from it in what they are about, and in nothing else."""
    main, usual = code(INFRA / "main.bicepparam"), code(INFRA / "examples" / "usual.bicep")
    for field in (
        "instanceMemoryMB",
        "maximumInstanceCount",
        "httpConcurrency",
        "undeleteDays",
        "videoDays",
        "logDays",
        "dailyCapGb",
    ):
        (shared,) = re.findall(rf"{field}: ([\w]+)", usual)
        assert re.search(rf"(?m)^  {field}: {shared}$", main), field
    for name in ("resilience", "network"):
        (shared,) = re.findall(rf"var {name} = ('\w+')", usual)
        assert f"param {name} = {shared}" in main


def fields(kind: str) -> set[str]:
    """What an object of this type of types.bicep must have."""
    text = code(INFRA / "types.bicep")
    body = re.sub(r"'[^'\n]*'", "", braced(text, text.index(f"type {kind} = {{")))
    return {name for name, of in re.findall(r"(?m)^  (\w+): (.*)$", body) if not of.endswith("?")}


def written(text: str, name: str) -> set[str] | None:
    """The fields of an object that is written out; None where it is another's."""
    if not (found := re.search(rf"(?m)^(?:param|var) {name} = (?=\{{)", text)):
        return None
    body = re.sub(r"'[^'\n]*'", "", braced(text, found.end()))
    while (flat := re.sub(r"\{[^{}]*\}|\[[^\[\]]*\]", "", body)) != body:
        body = flat
    return set(re.findall(r"(\w+):", body))


@pytest.mark.parametrize(
    "path", [INFRA / "main.bicepparam", *sorted((INFRA / "examples").iterdir())], ids=lambda path: path.name
)
def test_objects_have_every_field_of_their_type(path: Path) -> None:
    """The compiler refuses a file in which a field of a choice is missing; what checks types here
    does not see it.
    """
    text = code(path)
    for kind in ("scale", "retention", "settings", "durable", "monitoring", "pipelines"):
        found = written(text, kind)
        assert found is None or fields(kind) <= found, kind


def test_a_missing_field_would_be_noticed() -> None:
    """Nested objects and lists are not taken for it, and texts neither."""
    text = "param monitoring = { logDays: 30, inner: { dailyCapGb: 1 }, list: [{ auditLogs: true }], emails: ['a: b'] }\n"
    assert written(text, "monitoring") == {"logDays", "inner", "list", "emails"}
    assert {"dailyCapGb", "availabilityTest"} <= fields("monitoring")


def test_the_linter_asks_for_everything() -> None:
    """No rule is off, those included that are by default; none is an error, which would stop a
    deployment on the day that an interface of Azure gets old.
    """
    text = (INFRA / "bicepconfig.json").read_text()
    rules = json.loads(re.sub(r"(?m)^\s*//.*$", "", text))["analyzers"]["core"]["rules"]
    assert {each["level"] for each in rules.values()} == {"warning"}
    assert {"use-recent-api-versions", "what-if-short-circuiting", "use-resource-id-functions", "use-user-defined-types"} <= {
        *rules
    }
