"""Files of exports, in Azurite: complete or absent."""

import secrets
from collections.abc import AsyncIterator

import pytest

from shared.config.settings import Storage
from shared.errors import StorageUnavailable
from shared.storage.export_files import ExportFiles

pytestmark = pytest.mark.anyio


@pytest.fixture
async def files(azurite: str) -> AsyncIterator[ExportFiles]:
    opened = ExportFiles(Storage(azurite), lambda: None, f"exports-{secrets.token_hex(6)}")
    yield opened
    await opened.close()


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def breaking() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield bytes(1024 * 1024)
    raise StorageUnavailable("the table does not answer")


async def read(files: ExportFiles, name: str) -> bytes:
    return b"".join([chunk async for chunk in files.read(name)])


async def test_a_file_is_read_as_it_was_saved(files: ExportFiles) -> None:
    """Also one of several blocks, and an empty one."""
    large = [secrets.token_bytes(700_000) for _ in range(4)]
    for name, pieces in (("a", large), ("b", [b"small"]), ("c", [])):
        await files.save(name, stream(*pieces))
        assert await read(files, name) == b"".join(pieces)
    assert await files.names("") == ["a", "b", "c"]


async def test_a_file_whose_bytes_break_off_is_not_there(files: ExportFiles) -> None:
    """And what was there before it stays."""
    await files.save("old", stream(b"old"))
    for name in ("new", "old"):
        with pytest.raises(StorageUnavailable, match="the table"):
            await files.save(name, breaking())
    assert await files.names("") == ["old"]
    assert await read(files, "old") == b"old"


async def test_what_is_not_there_is_said_so(files: ExportFiles) -> None:
    assert await files.names("") == []
    with pytest.raises(StorageUnavailable, match="no file 'a'"):
        await read(files, "a")
    await files.drop("a")
