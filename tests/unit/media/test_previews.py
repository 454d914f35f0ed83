"""The process that draws: what it gets, what it may do, and what becomes of it."""

import asyncio
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from shared.errors import NotAVideo, StorageUnavailable
from shared.media.preview_process import ASK, LARGEST_PART, Parts
from shared.media.previews import Read, drawn
from tests.fakes.films import box, playable

pytestmark = pytest.mark.anyio
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems lack these limits")


def reading(film: bytes, parts: list[int] | None = None) -> Read:
    async def read(first: int, last: int) -> AsyncIterator[bytes]:
        async def pieces() -> AsyncIterator[bytes]:
            yield film[first : last + 1]

        if parts is not None:
            parts.append(last + 1 - first)
        return pieces()

    return read


Impostor = Callable[[str], None]


@pytest.fixture
def impostor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Impostor:
    """Has the process run a line of shell instead."""

    def run(line: str) -> None:
        program = tmp_path / "impostor"
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(program))

    return run


@pytest.mark.parametrize(("variant", "head"), [("thumbnail", b"RIFF"), ("spritesheet", b"\xff\xd8")])
async def test_an_image_is_drawn_from_the_parts_that_are_needed(variant: str, head: bytes) -> None:
    """Small ones at a time; what lies between index and pictures is never read."""
    parts: list[int] = []
    film = playable(flags="faststart") + box(b"free", b"\0" * 20_000_000)
    image = await drawn(variant, len(film), reading(film, parts))
    assert image.startswith(head)
    assert max(parts) <= LARGEST_PART
    assert sum(parts) < 2_000_000


def test_a_large_read_is_asked_for_in_parts() -> None:
    """As that of an index of a million frames."""
    film = bytes(range(251)) * 5000
    asks = io.BytesIO()
    reader = io.BufferedReader(Parts(asks, io.BytesIO(film), len(film)), LARGEST_PART)
    assert reader.read(len(film)) == film
    asked = list(ASK.iter_unpack(asks.getvalue()))
    assert max(count for _, count in asked) <= LARGEST_PART
    assert [first for first, _ in asked] == [sum(count for _, count in asked[:number]) for number in range(len(asked))]


async def test_a_film_that_shows_nothing_is_told_apart_and_why() -> None:
    with pytest.raises(NotAVideo, match="Invalid data"):
        await drawn("thumbnail", 100, reading(b"\0" * 100))


@on_linux
@pytest.mark.parametrize(
    ("attempt", "failure"),
    [
        ("open('/etc/hostname')", "Too many open files"),
        ("open('/tmp/made', 'w')", "Too many open files"),
        ("__import__('socket').socket()", "Too many open files"),
        ("__import__('os').system('true') and __import__('os').pipe()", "Too many open files"),
        ("bytearray(2**30)", "MemoryError"),
    ],
)
def test_the_process_can_do_nothing_but_draw(attempt: str, failure: str) -> None:
    """Whoever gets hold of the decoder by a film finds no file, no connection and no memory."""
    program = f"import socket; from shared.media import preview_process; preview_process._confine(); {attempt}"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode != 0
    assert failure in ended.stderr


@on_linux
def test_the_process_has_limited_time() -> None:
    """And gives way to requests."""
    program = (
        "import os, resource; from shared.media import preview_process; preview_process._confine(); "
        "print(resource.getrlimit(resource.RLIMIT_CPU)[1], os.nice(0) > 0)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.split() == ["20", "True"]


async def test_no_secret_is_in_the_environment(impostor: Impostor, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system needs, and where the modules are."""
    monkeypatch.setenv("GATEWAY_MASTER_KEY", "sk-secret")
    impostor("env | cut -d= -f1 | sort | tr '\\n' ' ' >&2")
    with pytest.raises(NotAVideo) as raised:
        await drawn("thumbnail", 100, reading(b""))
    known = {"PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PWD", "OLDPWD", "SHLVL", "_"}  # the last three are the shell's own
    assert "PYTHONPATH" in raised.value.message
    assert set(raised.value.message.partition(": ")[2].split()) <= known


_LENGTH = 2 * LARGEST_PART


@pytest.mark.parametrize(
    "ask",
    [ASK.pack(_LENGTH - 10, 11), ASK.pack(0, LARGEST_PART + 1), ASK.pack(2**63, 1), b"\0", ASK.pack(1000, 0) + b"short"],
    ids=["beyond the film", "too much", "far beyond it", "half of an ask", "half of an image"],
)
async def test_a_process_that_asks_for_what_there_is_not_is_ended(ask: bytes, impostor: Impostor, tmp_path: Path) -> None:
    """It gets nothing, and its image is not taken."""
    (tmp_path / "ask").write_bytes(ask)
    parts: list[int] = []
    impostor(f"cat {tmp_path / 'ask'}; exec 1>&-; exec cat >/dev/null")
    with pytest.raises(NotAVideo):
        await drawn("thumbnail", _LENGTH, reading(b"", parts))
    assert parts == []


async def test_a_process_outlives_neither_its_caller_nor_storage(impostor: Impostor, tmp_path: Path) -> None:
    """A caller who goes away, and a read that fails."""
    (tmp_path / "ask").write_bytes(ASK.pack(0, 1))
    impostor(f"echo $$ > {tmp_path / 'pid'}; cat {tmp_path / 'ask'}; exec sleep 1000")
    asked = asyncio.Event()

    async def never(first: int, last: int) -> AsyncIterator[bytes]:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def failing(first: int, last: int) -> AsyncIterator[bytes]:
        raise StorageUnavailable("Storage did not answer.")

    drawing = asyncio.create_task(drawn("thumbnail", 100, never))
    await asked.wait()
    drawing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drawing
    _is_gone(tmp_path)
    with pytest.raises(StorageUnavailable):
        await drawn("thumbnail", 100, failing)
    _is_gone(tmp_path)


def _is_gone(folder: Path) -> None:
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), 0)
