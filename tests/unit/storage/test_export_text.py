"""An export as bytes: every row comes back as it was, and nothing else is taken for one."""

import gzip
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.storage.export_text import Exported, NotAnExport, packed, unpacked
from shared.storage.tables import Row

pytestmark = pytest.mark.anyio

VALUES: Mapping[str, Any] = {
    "money": 2**53 + 1,
    "none_yet": 0,
    "rate": 0.1,
    "whole": 1.0,
    "blocked": True,
    "name": "Zoë's 🎬\nwith a line",
    "digits": "007",
    "empty": "",
    "made": datetime(2026, 11, 29, 16, 45, 0, 123456, UTC),
    "hash": b"\x00\xff",
    "long": "ö" * 40_000,
}


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def rows(count: int) -> AsyncIterator[tuple[str, Row]]:
    for number in range(count):
        yield f"key_{number // 100:08d}", Row(f"video_{number:05d}", dict(VALUES), "")


async def export(count: int) -> bytes:
    return b"".join([chunk async for chunk in packed(rows(count))])


async def read(data: bytes) -> list[Exported]:
    return [row async for row in unpacked(pieces(data))]


async def test_rows_come_back_with_their_types() -> None:
    (row,) = await read(await export(1))
    assert row == ("key_00000000", "video_00000", VALUES)
    assert [type(row.values[name]) for name in VALUES] == [type(value) for value in VALUES.values()]


async def test_an_export_of_nothing_is_one() -> None:
    assert await read(await export(0)) == []


async def test_many_rows_come_back_in_order_and_any_gzip_reads_them() -> None:
    """More than one piece of text."""
    data = await export(250)
    assert [row.key for row in await read(data)] == [f"video_{number:05d}" for number in range(250)]
    assert len(gzip.decompress(data).splitlines()) == 251


@pytest.mark.parametrize("left", [0, 1, 20, -9, -1])
async def test_an_export_that_was_cut_off_is_none(left: int) -> None:
    with pytest.raises(NotAnExport):
        await read((await export(50))[:left])


async def test_a_damaged_export_is_none() -> None:
    data = bytearray(await export(50))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(NotAnExport):
        await read(bytes(data))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"a page of something else\n",
        b'{"azure-video-gateway": "table", "version": 2}\n',
        b'{"azure-video-gateway": "table", "version": 1}\nno row\n',
        b'{"azure-video-gateway": "table", "version": 1}\n["a"]\n',
        b'{"azure-video-gateway": "table", "version": 1}\n{"PartitionKey": "a"}\n',
        b'{"azure-video-gateway": "table", "version": 1}\n' + json.dumps({"PartitionKey": "a", "RowKey": "b"}).encode(),
    ],
)
async def test_other_text_is_none(text: bytes) -> None:
    with pytest.raises(NotAnExport):
        await read(gzip.compress(text))


async def test_a_line_without_an_end_is_not_kept_in_memory() -> None:
    """64 MiB in 64 KB."""
    with pytest.raises(NotAnExport, match="longer than any row"):
        await read(gzip.compress(b'{"azure-video-gateway": "table", "version": 1}\n' + b" " * 64 * 1024**2))
