"""Every command that scripts and pages tell somebody to run: understood by the shell, and with
options that the tool has.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SCRIPTS = [PROJECT / "infra" / name for name in ("deploy", "destroy", "master-key", "references", "refresh")]
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
    "az deployment sub what-if": "--location --template-file --parameters --validation-level",
    "az deployment sub create": "--name --location --template-file --parameters",
    "az deployment sub show": "--name",
    "az deployment group what-if": "-g --template-file --parameters --validation-level",
    "az deployment group create": "--name -g --template-file --parameters",
    "az deployment group show": "--name -g",
    "az functionapp list-flexconsumption-locations": "",
    "az functionapp deployment source config-zip": "-g -n --src --build-remote",
    "az functionapp list": "-g",
    "az functionapp config appsettings list": "-g -n",
    "az functionapp log deployment list": "-g -n",
    "az functionapp keys list": "-g -n",
    "az functionapp keys set": "-g -n --key-type --key-name",
    "az functionapp restart": "-g -n",
    "az functionapp show": "-g -n",
    "az cognitiveservices account list": "-g",
    "az cognitiveservices account deployment list": "-g -n",
    "az cognitiveservices account purge": "-g -n -l",
    "az cognitiveservices usage list": "-l",
    "az consumption usage list": "",
    "az group create": "-n -l",
    "az group delete": "-n --yes",
    "az resource list": "-g",
    "az resource delete": "--ids",
    "az rest": "--method --url",
    "az role assignment list": "--assignee --all",
    "az role assignment delete": "--ids",
    "az role definition create": "--role-definition",
    "az monitor diagnostic-settings delete": "--name --resource",
    "az provider list": "",
    "az provider register": "--namespace --wait",
    "az upgrade": "",
    "az version": "",
    "az bicep build": "--file --stdout",
    "az bicep build-params": "--file --stdout",
    "az bicep lint": "--file",
    "az keyvault list": "",
    "az keyvault list-deleted": "--resource-type",
    "az keyvault recover": "--name --resource-group --location",
    "az keyvault secret list": "--vault-name",
    "az keyvault secret recover": "--vault-name --name",
    "az keyvault secret set": "--vault-name --name --file --encoding",
    "az keyvault secret show": "--vault-name --name",
    "az storage blob undelete": "--account-name --container-name --name --auth-mode",
    "azd up": "",
    "azd provision": "",
    "azd deploy": "",
}
# Options of every az command.
EVERYWHERE = {"-o", "--output", "--query"}


def command_at(text: str, start: int) -> str:
    """The command that begins there: up to the end of its line, pipe, list or substitution,
    continued lines included.
    """
    quote = ""
    for position in range(start, len(text)):
        character = text[position]
        if quote:
            if character == quote and not (quote == '"' and text[position - 1] == "\\"):
                quote = ""
            elif character == "\n":
                return text[start : text.index(quote, start) if quote in text[start:position] else position]
        elif character in "'\"" and text[position - 1] in " =":
            quote = character
        elif character in ");|&`'\"" or (character == "\n" and text[position - 1] != "\\"):
            return text[start:position]
    return text[start:]


def commands() -> Iterator[tuple[str, str]]:
    """Where a command of az or azd is written, and the command. In pages: what stands in fences and
    between backquotes.
    """
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
    """The command's name and its options. Raises KeyError for a command that the table does not
    have.
    """
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
    """The search above does not pass because it finds nothing, and the table has nothing that is
    not used.
    """
    found = list(commands())
    assert {*(path.name for path in SCRIPTS), "azure.yaml", "operations.md", "main.bicepparam"} <= {where for where, _ in found}
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
