"""The Azure CLI, as these programs use it: asked for JSON, told to do something, or shown to a
person. Needs nothing but Python and `az`.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
# Where az writes: to a person who looks on, or into what this program reads.
SHOWN, CAPTURED = None, subprocess.PIPE


class Stop(Exception):
    """What keeps a program from going on; the message says what to do."""


class AzureError(Stop):
    """A command that failed: what az said of it, and the command, to be repeated by hand."""

    def __init__(self, command: Sequence[str], said: str) -> None:
        super().__init__(f"{said.strip()}\nIt was: {by_hand(command)}")
        self.said = said


class Runner(Protocol):
    """Runs az with these words; `given` is what it reads, `environment` all that it sees."""

    def __call__(
        self, words: Sequence[str], *, given: str, out: int | None, environment: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[str]": ...


def _run(
    words: Sequence[str], *, given: str, out: int | None, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("az")
    if program is None:
        raise Stop("The Azure CLI is not installed: https://aka.ms/azure-cli")
    return subprocess.run(
        [program, *words],
        input=given,
        stdout=out,
        stderr=CAPTURED,
        env=dict(environment),
        encoding="utf-8",
        errors="replace",
        check=False,
    )


@dataclass(frozen=True)
class Azure:
    """Commands to the subscription that az is signed in to. No secret may be among their words,
    which every user of the machine can read: it is `given`.
    """

    environment: Mapping[str, str]
    run: Runner = _run
    sleep: Callable[[float], None] = time.sleep

    def ask(self, command: str, *options: str) -> Any:
        """The JSON that it answers; None where it answers nothing. Raises AzureError."""
        answer = self._called([*command.split(), *options, "-o", "json"])
        return json.loads(answer) if answer.strip() else None

    def do(self, command: str, *options: str, given: str = "") -> None:
        """Raises AzureError."""
        self._called([*command.split(), *options, "-o", "none"], given)

    def show(self, command: str, *options: str) -> None:
        """Let a person see what it prints. Raises AzureError."""
        sys.stdout.flush()
        self._called([*command.split(), *options], out=SHOWN)

    def until_done(self, work: Callable[[], T], passing: re.Pattern[str], pauses: Sequence[float]) -> T:
        """The result of `work`, tried again after each pause (in seconds) for as long as it fails
        with what is known to pass. Raises AzureError for anything else, or after the last pause.
        """
        for pause in pauses:
            try:
                return work()
            except AzureError as error:
                if not passing.search(error.said):
                    raise
                print(f"{error.said.strip()}\nThis may pass: once more in {pause:.0f} s.", file=sys.stderr)
                self.sleep(pause)
        return work()

    def _called(self, words: Sequence[str], given: str = "", *, out: int | None = CAPTURED) -> str:
        result = self.run(words, given=given, out=out, environment=self.environment)
        if result.returncode != 0:
            raise AzureError(words, (result.stderr or "") + (result.stdout or ""))
        sys.stderr.write(result.stderr or "")
        return result.stdout or ""


def here() -> Azure:
    """The CLI on this machine. What a pipeline has no value for it sets to nothing, which counts as
    not set.
    """
    return Azure({name: value for name, value in os.environ.items() if value})


def by_hand(command: Sequence[str]) -> str:
    """A command of az as a person types it."""
    return shlex.join(["az", *command])


def is_in(group: str, resource: str) -> bool:
    """Whether this id is that of a resource of the group, whose name has no case in Azure."""
    return f"/resourcegroups/{group}/".lower() in resource.lower()


def make_group(az: Azure, group: str, location: str) -> None:
    """Make the group where there is none: what is brought back needs one. Raises AzureError."""
    if not az.ask("group exists", "-n", group):
        az.do("group create", "-n", group, "-l", location)


def a_name(text: str) -> str:
    """An argument that names something of Azure's. Raises ArgumentTypeError for what cannot."""
    if not re.match(r"[A-Za-z0-9]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name")
    return text


def heading(text: str) -> None:
    """Say which part begins."""
    print(f"\n== {text}", flush=True)


def ended(work: Callable[[], None]) -> int:
    """The exit code of a program: 1 with the reason where something stopped it, 130 where a person
    did.
    """
    try:
        work()
    except Stop as reason:
        print(reason, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped in the middle. The same command once more goes on from there.", file=sys.stderr)
        return 130
    return 0
