"""The scripts of infra/ as somebody types them: by the shell, from anywhere, with an `az` on PATH.
What they do is tested in the other files beside this one.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.tools import deleted, deploy, destroy, refresh, vault
from tests.fakes.azure_cli import Chosen, Cli, providers
from tests.project.bicep import PROJECT

# An az that answers what a first deployment asks, up to the upload, and notes its arguments, its
# input and the variables that it sees.
AZ = """#!/bin/bash
echo "$*" >> "$HOME/calls"
case "$*" in
  version*) echo '{"azure-cli": "2.91.0"}' ;;
  "account show"*) echo '{"name": "S", "user": {"name": "ada", "type": "user"}}' ;;
  "ad signed-in-user"*) echo '{"id": "1-2-3"}' ;;
  "bicep build-params"*) env > "$HOME/environment"; cat "$HOME/compiled" ;;
  "functionapp list-flex"*) echo '[{"name": "eastus2"}]' ;;
  "provider list"*) cat "$HOME/providers" ;;
  "cognitiveservices account list-deleted"*|"keyvault list"*) echo '[]' ;;
  "deployment sub what-if"*) echo "what-if says" ;;
  "deployment sub show"*) cat "$HOME/outputs" ;;
  "keyvault secret list"*) if [ -e "$HOME/key" ]; then echo '[{"name": "gateway-master-key"}]'; else echo '[]'; fi ;;
  "keyvault secret set"*) cat /dev/stdin > "$HOME/key" ;;
  "functionapp deployment"*) echo "no such app" >&2; exit 3 ;;
esac
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with nothing on its PATH but what the scripts need."""
    (tmp_path / "az").write_text(AZ)
    (tmp_path / "az").chmod(0o755)
    for name in ("bash", "cat", "env", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    (tmp_path / "python3").symlink_to(sys.executable)
    (tmp_path / "compiled").write_text(json.dumps(Chosen().compiled({})))
    (tmp_path / "providers").write_text(json.dumps(providers()))
    (tmp_path / "outputs").write_text(json.dumps(Cli().azure.ask("deployment sub show", "--name", "x")))
    (tmp_path / "tmp").mkdir()
    return tmp_path


def run(script: str, *arguments: str, home: Path, given: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(PROJECT / "infra" / script), *arguments],
        cwd=home,
        env={"PATH": str(home), "HOME": str(home), "TMPDIR": str(home / "tmp"), "AZURE_ENV_NAME": ""},
        input=given,
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_a_deployment_from_another_folder(home: Path) -> None:
    """It asks on the terminal, hands the key over by az's input, and ends with what az said. A
    variable that a pipeline sets to nothing is none. Nothing is left behind.
    """
    found = run("deploy", home=home, given="y\n")
    assert found.returncode == 1
    assert "what-if says" in found.stdout
    assert "no such app" in found.stderr
    key, calls = (home / "key").read_text(), (home / "calls").read_text()
    assert key.startswith("sk-")
    assert key not in calls + found.stdout + found.stderr
    assert "AZURE_ENV_NAME" not in (home / "environment").read_text()
    assert "AZURE_PRINCIPAL_ID=1-2-3" in (home / "environment").read_text()
    assert list((home / "tmp").iterdir()) == []


@pytest.mark.parametrize("script", ["deploy", "destroy", "master-key", "refresh"])
def test_a_wrong_word_gets_the_usage_from_anywhere(home: Path, script: str) -> None:
    """And nothing is asked of Azure."""
    found = run(script, "--bogus", home=home)
    assert found.returncode == 2
    assert f"usage: infra/{script}" in found.stderr
    assert not (home / "calls").exists()


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (deploy.main, ["--what-iff", "--yes"]),
        (deploy.main, ["--group"]),
        (deploy.main, ["--group", "--yes"]),
        (vault.main, []),
        (vault.main, ["kv-x", "--rotat"]),
        (vault.main, ["kv-x", ""]),
        (vault.main, ["kv-x", "--rotate", "more"]),
        (refresh.main, ["rg-x"]),
        (refresh.main, ["rg-x", ""]),
        (refresh.main, ["--group", "func-x"]),
        (destroy.main, []),
        (destroy.main, ["rg-a", "rg-b"]),
        (deleted.main, ["forget", "films", "rg-x", "eastus2"]),
    ],
)
def test_what_is_not_understood_is_not_guessed(
    program: Callable[[list[str]], int], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Half an option, or an empty name: a variable that was not set."""
    with pytest.raises(SystemExit) as ended:
        program(arguments)
    assert ended.value.code == 2
    assert "usage: " in capsys.readouterr().err


def test_an_old_python_is_named(home: Path) -> None:
    """Instead of an import that it does not know."""
    (home / "python3").unlink()
    (home / "python3").write_text('#!/bin/bash\ncase "$1" in -c) exit 1 ;; esac\necho started\n')
    (home / "python3").chmod(0o755)
    found = run("deploy", home=home)
    assert found.returncode == 1
    assert found.stdout == ""
    assert "3.11" in found.stderr
