"""Every command that scripts and pages tell somebody to run: understood by the shell, and with
options that the tool has.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.azure_cli import COMMANDS, EVERYWHERE, parsed

PROJECT = Path(__file__).parents[2]
SCRIPTS = [PROJECT / "infra" / name for name in ("deploy", "destroy", "master-key", "refresh", "tools/run")]
SOURCES = [
    *SCRIPTS,
    *sorted((PROJECT / "infra" / "tools").glob("*.py")),
    PROJECT / "azure.yaml",
    PROJECT / ".github" / "workflows" / "gateway.yml",
    PROJECT / "infra" / "main.bicepparam",
    PROJECT / "Makefile",
]
PAGES = [*sorted((PROJECT / "docs").glob("*.md")), PROJECT / "README.md"]


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
    between backquotes. What programs run, the stand-in of az sees.
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
        # In a program: what a message tells somebody to run.
        before = r'(?:(?<=[\w"]: )|(?<=\\n  )|(?<= f"))' if path.suffix == ".py" else r"(?<![\w./-])"
        for match in re.finditer(before + "azd? (?=[a-z])", text):
            yield path.name, " ".join(command_at(text, match.start()).replace("\\\n", " ").split())


def help_of(name: str) -> str:
    return subprocess.run([*name.split(), "--help"], capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.parametrize(("where", "command"), sorted(set(commands())))
def test_a_command_has_options_that_exist(where: str, command: str) -> None:
    """By the table that the stand-in of az refuses everything else by, too."""
    name, options = parsed(shlex.split(command))
    assert set(options) <= {*COMMANDS[name].split(), *EVERYWHERE}


@pytest.mark.parametrize("tool", ["az", "azd"])
def test_the_tools_themselves_know_the_commands(tool: str) -> None:
    """Asked of the tool where it is installed, several at a time: each question takes seconds."""
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    names = [name for name in COMMANDS if name.split()[0] == tool]
    with ThreadPoolExecutor(4) as several:
        for name, known in zip(names, several.map(help_of, names), strict=True):
            for option in COMMANDS[name].split():
                assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", known), (name, option)


def test_commands_are_found_everywhere() -> None:
    """The search above does not pass because it finds nothing, and the table has nothing that is
    not used, by pages or by the programs behind the scripts.
    """
    found = list(commands())
    assert {"operations.md", "main.bicepparam", "Makefile"} <= {where for where, _ in found}
    programs = "".join(path.read_text() for path in (PROJECT / "infra" / "tools").glob("*.py"))
    run = {name for name in COMMANDS if f'"{name.removeprefix("az ")}"' in programs}
    assert {parsed(shlex.split(command))[0] for _, command in found} | run == set(COMMANDS)


def test_a_wrong_command_would_be_noticed() -> None:
    """An unknown command, and an option that no command has."""
    with pytest.raises(KeyError):
        parsed(shlex.split("az functionapp deploy -g GROUP"))
    assert parsed(shlex.split("az group delete -n GROUP --no-prompt")) == ("az group delete", ["-n", "--no-prompt"])


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


# An argument of a program that is, or holds, a key: every user of the machine can read it.
KEY_AS_ARGUMENT = re.compile(
    r"""(?:-H|--header)\s+["']?(?:authorization|api-key|x-[\w-]*key)|="authorization:|--(?:api-key|value)[ =]|\?key=|/key/\$"""
    r"""|-d\s+["'{][^\n]*(?:\$one|sk-)""",
    re.IGNORECASE,
)


def has_key(line: str) -> bool:
    """Not counting what the shell hands over as input."""
    return KEY_AS_ARGUMENT.search(re.sub(r"<<<.*|< <\(.*", "", line)) is not None


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=lambda path: path.name)
def test_no_key_is_an_argument(path: Path) -> None:
    """In scripts, in what they print, in pages: keys are read from files, input or variables."""
    text = path.read_text()
    shown = "\n".join(re.findall(r"```(?:bash|sh|text)\n(.*?)```", text, re.DOTALL)) if path.suffix == ".md" else text
    assert [line for line in shown.replace("\\\n", " ").splitlines() if has_key(line)] == []


def test_a_key_as_an_argument_would_be_noticed() -> None:
    """As pages used to show it."""
    for line in (
        'curl $url -H "Authorization: Bearer $master"',
        'vllm serve x --api-key "$KEY"',
        'curl $url -d \'{"key": "sk-1"}\'',
    ):
        assert has_key(line)
    assert not has_key('curl $url -H @key.txt -d @- <<<\'{"key": "sk-1"}\'')
