"""Has an image drawn by a process of its own (`preview_process`), and gives that process the parts
of the film that it asks for.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import cast

from shared.config.settings import without_settings
from shared.errors import NotAVideo
from shared.media import preview_process
from shared.media.preview_process import ASK, LARGEST_PART

_LARGEST_IMAGE = 16 * 1024 * 1024  # bytes
_LONGEST_REASON = 2_000  # bytes

Read = Callable[[int, int], Awaitable[AsyncIterator[bytes]]]
"""Reads the film's bytes from a first to a last one, both included, counted from 0."""


async def drawn(variant: str, length: int, read: Read) -> bytes:
    """The encoded image (`preview.LAYOUTS`) of a film of `length` bytes. Holds one part of the film
    in memory at a time.

    Raises NotAVideo if the process cannot draw it within its limits, and what `read` raises.
    """
    process = await _started(variant, length)
    try:
        return await _served(process, length, read)
    except (EOFError, ConnectionError) as error:  # it has ended before it gave an image
        raise NotAVideo(f"No picture can be had of the video: {await _reason(process)}") from error
    finally:
        _kill(process)
        await process.wait()


async def _started(variant: str, length: int) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", preview_process.__name__, variant, str(length)),
        env=without_settings() | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )


async def _served(process: Process, length: int, read: Read) -> bytes:
    """Answer what the process asks for, until it sends the image. Raises EOFError or
    ConnectionError if it ends before that, and EOFError if it asks for bytes outside the film.
    """
    asks, answers = cast(asyncio.StreamReader, process.stdout), cast(asyncio.StreamWriter, process.stdin)
    while True:
        first, count = ASK.unpack(await asks.readexactly(ASK.size))
        if count == 0:
            return await asks.readexactly(min(first, _LARGEST_IMAGE))
        if count > LARGEST_PART or first + count > length:
            raise EOFError
        answers.write(b"".join([piece async for piece in await read(first, first + count - 1)]))
        await answers.drain()


def _kill(process: Process) -> None:
    """End the process, unless it has ended. `Process.kill` may take its exit code from asyncio."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


async def _reason(process: Process) -> str:
    """End the process, and return the last line of its error output."""
    _kill(process)
    said = await cast(asyncio.StreamReader, process.stderr).read(_LONGEST_REASON)
    lines = said.decode(errors="replace").splitlines()
    return lines[-1] if lines else "the process has died"
