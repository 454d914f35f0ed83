"""The text of an export, in gzip: a line that says what it is, then a line for each row, which is
the row's JSON as the table service takes it, types included.
"""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from shared.storage.table_values import to_entity, to_values, with_whole_texts
from shared.storage.tables import Row

_HEAD = b'{"azure-video-gateway": "table", "version": 1}'
_GZIP = 31  # zlib's number for gzip, with its check sum
_PIECE = 256 * 1024  # bytes of text that are packed or unpacked at once
_LONGEST_LINE = 16 * 1024 * 1024  # bytes; a row holds a MiB, and a byte of it is six in ASCII at most


class NotAnExport(Exception):
    """The bytes are no export, or not the whole of one."""


class Exported(NamedTuple):
    """A row as it was exported."""

    partition: str
    key: str
    values: dict[str, Any]


async def packed(rows: AsyncIterator[tuple[str, Row]]) -> AsyncIterator[bytes]:
    """The bytes of an export of these rows, each with its partition. Packs beside the event
    loop.
    """
    packer = zlib.compressobj(wbits=_GZIP)
    async for piece in _text(rows):
        yield await asyncio.to_thread(packer.compress, piece)
    yield packer.flush()


async def unpacked(chunks: AsyncIterator[bytes]) -> AsyncIterator[Exported]:
    """The rows of an export. Raises NotAnExport, at the latest at its end where that is missing."""
    lines = _lines(_inflated(chunks))
    if await anext(lines, b"") != _HEAD:
        raise NotAnExport("This is no export of a gateway's tables that this version can read.")
    async for line in lines:
        yield _row(line)


async def _text(rows: AsyncIterator[tuple[str, Row]]) -> AsyncIterator[bytes]:
    text = bytearray(_HEAD + b"\n")
    async for partition, row in rows:
        text += to_entity(partition, row.key, row.values) + b"\n"
        if len(text) >= _PIECE:
            yield bytes(text)
            text.clear()
    yield bytes(text)


async def _inflated(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The text in pieces, however small it was packed."""
    unpacker = zlib.decompressobj(wbits=_GZIP)
    try:
        async for chunk in chunks:
            left = chunk
            while left:
                yield unpacker.decompress(left, _PIECE)
                left = unpacker.unconsumed_tail
        yield unpacker.flush()
    except zlib.error as error:
        raise NotAnExport("The file is damaged, or no gzip file.") from error
    if not unpacker.eof:
        raise NotAnExport("The file is cut off.")


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > _LONGEST_LINE:
            raise NotAnExport("The file has a line that is longer than any row.")
    if rest:
        raise NotAnExport("The file ends within a line.")


def _row(line: bytes) -> Exported:
    try:
        entity = with_whole_texts(json.loads(line))
        return Exported(str(entity["PartitionKey"]), entity["RowKey"], to_values(entity))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotAnExport("The file has a line that is no row.") from error
