"""Every command that scripts and pages tell somebody to run: understood by the shell, and with options that the tool has."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
SCRIPTS = [PROJECT / "infra" / name for name in ("deploy", "destroy", "master-key")]
SOURCES = [
    *SCRIPTS,
    PROJECT / "azure.yaml",
    PROJECT / ".github" / "workflows" / "gateway.yml",
    PROJECT / "infra" / "main.bicepparam",
    PROJECT / "Makefile",
]
PAGES = [*sorted((PROJECT / "docs").glob("*.md")), PROJECT / "README.md"]

# The tools' own names for what is used here, where the tools are not installed to be asked.
COMMANDS = {
    "az login": "",
    "az account show": "",
    "az ad signed-in-user show": "",
    "az deployment sub what-if": "--location --template-file --parameters",
    "az deployment sub create": "--name --location --template-file --parameters",
    "az deployment sub show": "--name",
    "az deployment group what-if": "-g --template-file --parameters",
    "az deployment group create": "--name -g --template-file --parameters",
    "az deployment group show": "--name -g",
    "az functionapp list-flexconsumption-locations": "",
    "az functionapp deployment source config-zip": "-g -n --src --build-remote",
    "az functionapp log deployment list": "-g -n",
    "az functionapp restart": "-g -n",
    "az functionapp show": "-g -n",
    "az cognitiveservices account list": "-g",
    "az cognitiveservices account deployment list": "-g -n",
    "az cognitiveservices account purge": "-g -n -l",
    "az cognitiveservices usage list": "-l",
    "az consumption usage list": "",
    "az group delete": "-n --yes",
    "az resource list": "-g",
    "az rest": "--method --url",
    "az role assignment list": "--assignee --all",
    "az bicep build": "--file --stdout",
    "az bicep build-params": "--file --stdout",
    "az bicep lint": "--file",
    "az keyvault recover": "--name --resource-group --location",
    "az keyvault secret list": "--vault-name",
    "az keyvault secret recover": "--vault-name --name",
    "az keyvault secret set": "--vault-name --name --file --encoding",
    "az keyvault secret show": "--vault-name --name",
    "az storage blob undelete": "--account-name --container-name --name --auth-mode",
    "azd up": "",
}
# Options of every az command.
EVERYWHERE = {"-o", "--output", "--query"}


def command_at(text: str, start: int) -> str:
    """The command that begins there: up to the end of its line, pipe, list or substitution, continued lines included."""
    quote = ""
    for position in range(start, len(text)):
        character = text[position]
        if quote:
            if character == quote:
                quote = ""
            elif character == "\n":
                return text[start : text.index(quote, start) if quote in text[start:position] else position]
        elif character in "'\"" and text[position - 1] in " =":
            quote = character
        elif character in ");|&`'\"" or (character == "\n" and text[position - 1] != "\\"):
            return text[start:position]
    return text[start:]


def commands() -> Iterator[tuple[str, str]]:
    """Where a command of az or azd is written, and the command. In pages: what stands in fences and between backquotes."""
    for path in [*SOURCES, *PAGES]:
        if not path.exists():
            continue
        text = path.read_text()
        if path.suffix == ".md":
            fenced = re.findall(r"```(?:bash|sh|console)\n(.*?)```", text, re.DOTALL)
            text = "\n".join([*fenced, *re.findall(r"`(azd? [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))])
        else:
            text = "\n".join(line for line in text.splitlines() if not re.match(r"\s*#(?!!)", line))
        for match in re.finditer(r"(?<![\w./-])azd? (?=[a-z])", text):
            yield path.name, " ".join(command_at(text, match.start()).replace("\\\n", " ").split())


def parsed(command: str) -> tuple[str, list[str]]:
    """The command's name and its options. Raises KeyError for a command that the table does not have."""
    words = shlex.split(command)
    names = [name for name in COMMANDS if words[: len(name.split())] == name.split()]
    if not names:
        raise KeyError(command)
    name = max(names, key=len)
    return name, [word.partition("=")[0] for word in words[len(name.split()) :] if re.match(r"-[a-z]|--[a-z]", word)]


@cache
def help_of(name: str) -> str:
    return subprocess.run([*name.split(), "--help"], capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.parametrize(("where", "command"), sorted(set(commands())))
def test_a_command_has_options_that_exist(where: str, command: str) -> None:
    """Asked of the tool itself where it is installed, of the table above where not."""
    name, options = parsed(command)
    assert set(options) <= {*COMMANDS[name].split(), *EVERYWHERE}
    if shutil.which(name.split()[0]):
        known = help_of(name)
        for option in options:
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", known), option


def test_commands_are_found_everywhere() -> None:
    """The search above does not pass because it finds nothing, and the table has nothing that is not used."""
    found = list(commands())
    assert {"deploy", "destroy", "master-key", "azure.yaml", "operations.md", "main.bicepparam"} <= {
        where for where, _ in found
    }
    assert {parsed(command)[0] for _, command in found} == set(COMMANDS)


def test_a_wrong_command_would_be_noticed() -> None:
    """An unknown command, and an option that no command has."""
    with pytest.raises(KeyError):
        parsed("az functionapp deploy -g GROUP")
    assert parsed("az group delete -n GROUP --no-prompt") == ("az group delete", ["-n", "--no-prompt"])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_understood_by_the_shell(path: Path) -> None:
    """They can be run, stop at the first error, and have no mistake in their syntax."""
    assert path.stat().st_mode & 0o111
    text = path.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text
    subprocess.run(["bash", "-n", str(path)], check=True)


def blocks() -> Iterator[tuple[str, str]]:
    for path in PAGES:
        if path.exists():
            for block in re.findall(r"```(?:bash|sh)\n(.*?)```", path.read_text(), re.DOTALL):
                yield path.name, block


@pytest.mark.parametrize(("where", "block"), list(blocks()))
def test_blocks_of_pages_can_be_pasted(where: str, block: str) -> None:
    """The shell finds no mistake in their syntax."""
    subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_programs_that_scripts_run_exist() -> None:
    """Files of infra/ and modules of local/ that scripts and pages name."""
    for path in [*SOURCES, *PAGES]:
        if path.exists():
            for name in re.findall(r"python3? -m (local\.\w+)", path.read_text()):
                assert (PROJECT / f"{name.replace('.', '/')}.py").exists(), name


def fake_tools(folder: Path, az: str) -> dict[str, str]:
    """An environment in which `az` is this script, which notes every call in `calls`."""
    (folder / "az").write_text(f'#!/bin/bash\necho "$@" >> "{folder}/calls"\n{az}\n')
    (folder / "az").chmod(0o755)
    (folder / "python3").write_text(f'#!/bin/bash\nexec "{sys.executable}" "$@"\n')
    (folder / "python3").chmod(0o755)
    for name in ("bash", "seq", "cat", "sed", "dirname", "rm", "grep"):
        (folder / name).symlink_to(shutil.which(name) or name)
    return {"PATH": str(folder), "HOME": str(folder)}


def test_the_master_key_is_random_and_never_shown(tmp_path: Path) -> None:
    """It travels from one program's output to the next one's input: not on a command line, not on the screen."""
    environment = fake_tools(tmp_path, 'case "$*" in *"secret set"*) cat /dev/stdin > "$HOME/key";; esac')
    keys = set()
    for _ in range(2):
        result = subprocess.run(
            [str(PROJECT / "infra" / "master-key"), "kv-test"], env=environment, capture_output=True, text=True, check=True
        )
        key = (tmp_path / "key").read_text()
        assert re.fullmatch(r"sk-[\w-]{43}", key)
        assert key not in result.stdout + result.stderr + (tmp_path / "calls").read_text()
        keys.add(key)
    assert len(keys) == 2


def test_a_master_key_that_exists_is_kept(tmp_path: Path) -> None:
    """Deploying again does not lock the operator out."""
    environment = fake_tools(tmp_path, "case $* in *'secret list'*) echo gateway-master-key;; *) cat > /dev/null;; esac")
    subprocess.run([str(PROJECT / "infra" / "master-key"), "kv-test"], env=environment, capture_output=True, check=True)
    assert "secret set" not in (tmp_path / "calls").read_text()
    subprocess.run(
        [str(PROJECT / "infra" / "master-key"), "kv-test", "--rotate"], env=environment, capture_output=True, check=True
    )
    assert "secret set" in (tmp_path / "calls").read_text()


@pytest.mark.parametrize("answer", ["", "y", "another"])
def test_nothing_is_destroyed_without_the_name_of_the_group(tmp_path: Path, answer: str) -> None:
    """A yes is not enough."""
    environment = fake_tools(tmp_path, "true")
    script = str(PROJECT / "infra" / "destroy")
    result = subprocess.run(
        [script, "rg-test"], env=environment, input=f"{answer}\n", text=True, capture_output=True, check=False
    )
    assert result.returncode == 1
    assert "group delete" not in (tmp_path / "calls").read_text()


def test_the_group_is_destroyed_when_its_name_is_typed(tmp_path: Path) -> None:
    """Its model accounts are purged, so that their names and quota are free again."""
    environment = fake_tools(
        tmp_path, "case $* in *'account list'*) printf 'oai-a\\teastus2\\noai-b\\tswedencentral\\n';; esac"
    )
    script = str(PROJECT / "infra" / "destroy")
    subprocess.run([script, "rg-test"], env=environment, input="rg-test\n", text=True, capture_output=True, check=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert "group delete -n rg-test --yes" in calls
    assert calls[-2:] == [
        "cognitiveservices account purge -g rg-test -n oai-a -l eastus2",
        "cognitiveservices account purge -g rg-test -n oai-b -l swedencentral",
    ]


def deployed(tmp_path: Path, *arguments: str, answer: str = "") -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run infra/deploy with an az that offers East US 2 and finds nothing else; its result, and the calls."""
    environment = fake_tools(
        tmp_path, "case $* in *list-flexconsumption-locations*) echo eastus2;; *signed-in-user*) echo 1-2-3;; esac"
    )
    script = str(PROJECT / "infra" / "deploy")
    result = subprocess.run([script, *arguments], env=environment, input=answer, text=True, capture_output=True, check=False)
    calls = tmp_path / "calls"
    return result, calls.read_text().splitlines() if calls.exists() else []


def test_what_if_changes_nothing(tmp_path: Path) -> None:
    """It ends after showing what would change."""
    result, calls = deployed(tmp_path, "--what-if")
    assert result.returncode == 0, result.stderr
    assert calls[-1].startswith("deployment sub what-if --location eastus2 --template-file infra/main.bicep")


def test_a_deployment_that_is_not_wanted_changes_nothing(tmp_path: Path) -> None:
    """Anything but y is a no."""
    result, calls = deployed(tmp_path, answer="n\n")
    assert result.returncode == 1
    assert calls[-1].startswith("deployment sub what-if ")


def test_a_group_that_exists_gets_the_same_parameters(tmp_path: Path) -> None:
    """The parameter file is turned to the other entry, and not left behind."""
    parameters = PROJECT / "infra" / ".group.bicepparam"
    result, calls = deployed(tmp_path, "--group", "rg-mine", "--what-if")
    assert result.returncode == 0, result.stderr
    assert calls[-1].startswith(
        "deployment group what-if -g rg-mine --template-file infra/group.bicep --parameters infra/.group.bicepparam"
    )
    assert not parameters.exists()


def test_an_unknown_option_gets_the_usage(tmp_path: Path) -> None:
    """And nothing is asked of Azure."""
    result, calls = deployed(tmp_path, "--force")
    assert result.returncode == 2
    assert "infra/deploy --what-if" in result.stderr
    assert calls == []
