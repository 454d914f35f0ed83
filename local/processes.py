"""Child processes that end with their parent, even when it is killed."""

import asyncio
import os
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_LOOK_AGAIN_SECONDS = 0.02
_TETHER = Path(__file__).with_name("tethered.py")


class ChildError(RuntimeError):
    """A child process ended or printed nothing while output of it was awaited."""


class Child:
    """A running child. Its output goes to a file: writing to a pipe would fail once the parent is
    killed.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self._name = name
        self._process = process
        self._log = log

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        keep: Sequence[int] = (),
    ) -> "Child":
        """Start `command` in a session of its own, so that a signal to our process group does not
        reach it.

        `log` is emptied and receives its output; `environment` is added to ours; `keep` are file
        descriptors it inherits. Raises RuntimeError outside the main thread: the kernel ties the
        child to the thread that starts it, and only the main thread lives as long as the process.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(f"{name} must be started from the main thread")
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", _TETHER, str(os.getpid()), *command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
                start_new_session=True,
                pass_fds=keep,
            )
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def says(self, pattern: str, *, times: int = 1, patience: float = 30.0) -> list[re.Match[str]]:
        """Wait until `times` lines of the output match `pattern`, and return the matches.

        Raises ChildError, with the last lines of the output, if it ends or `patience` seconds pass
        first.
        """
        line = re.compile(pattern, re.MULTILINE)
        try:
            async with asyncio.timeout(patience):
                while True:
                    ended = self._process.returncode is not None
                    complete = self._output().rpartition("\n")[0]
                    if len(matches := list(line.finditer(complete))) >= times:
                        return matches
                    if ended:
                        raise ChildError(f"{self._name} ended with {self._process.returncode}: {self._last_words()}")
                    await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        except TimeoutError:
            raise ChildError(f"{self._name} was not ready after {patience:g} s: {self._last_words()}") from None

    async def wait(self) -> int:
        """Wait until it has ended; return its exit status."""
        return await self._process.wait()

    async def stop(self, grace: float = 10.0) -> None:
        """Ask it to end (SIGTERM), and kill it after `grace` seconds. Does nothing if it
        has ended.
        """
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(grace):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    def _output(self) -> str:
        return self._log.read_text(errors="replace")

    def _last_words(self) -> str:
        return "\n".join(self._output().splitlines()[-10:]) or "it said nothing"
