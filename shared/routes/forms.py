"""Reads the parts of a form as they arrive.

The sender chooses the number of parts, and each costs more than its bytes. So they are counted as
they are found, and a form with too many is refused.
"""

import asyncio
from collections.abc import AsyncIterator
from email import message_from_string
from email.message import Message
from urllib.parse import parse_qsl

from shared.errors import InvalidRequest, TooLarge
from shared.routes.bodies import LARGEST_TEXT, Scanner, Text
from shared.routes.inline_images import InlineText
from shared.routes.uploads import Upload

MOST_PARTS = 100  # all parameters and all pairs of `metadata` are less than a third of it
_LONGEST_HEAD = 1024  # bytes of the headers of one part; the time to read them grows with the square
_LONGEST_BOUNDARY = 200  # RFC 2046 allows 70
_LINE = b"\r\n"

Value = str | bytes


async def read_form(body: AsyncIterator[bytes], content_type: str) -> list[tuple[str, Value]]:
    """The names and values, in the order in which they were sent. The value of a file is bytes, and
    so is that of a long data URL, decoded.

    Raises InvalidRequest if the body is not a form, and TooLarge for more than MOST_PARTS, a large
    file, or much text.
    """
    if content_type.lower().startswith("multipart/form-data"):
        # A body may begin with a boundary, without the line break before it.
        return await _parts(Scanner(body, start=_LINE), _LINE + b"--" + _boundary(content_type))
    text = Text()
    async for piece in body:
        await text.take(piece)
    if text.bytes.count(b"&") >= MOST_PARTS:
        raise _too_many()
    # In a thread: escapes cost much more than other text.
    pairs = await asyncio.to_thread(parse_qsl, _decoded(text.bytes), keep_blank_values=True)
    return [(name, value) for name, value in pairs]


def _boundary(content_type: str) -> bytes:
    if len(content_type) > _LONGEST_HEAD:
        raise _unreadable("its content type is too long")
    header = Message()
    header["content-type"] = content_type.replace("\r", " ").replace("\n", " ")
    boundary = (header.get_boundary() or "").encode(errors="replace")
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY:
        raise _unreadable("its content type names no boundary")
    return boundary


async def _parts(body: Scanner, edge: bytes) -> list[tuple[str, Value]]:
    """The parts between the boundaries."""
    parts: list[tuple[str, Value]] = []
    budget = [LARGEST_TEXT]
    await _to_edge(body, edge, Text(budget))
    while not await body.begins_with(b"--"):
        if len(parts) == MOST_PARTS:
            raise _too_many()
        parts.append(await _part(body, edge, budget))
    return parts


async def _part(body: Scanner, edge: bytes, budget: list[int]) -> tuple[str, Value]:
    head = await _head(body)
    name = head.get_param("name", header="content-disposition")
    is_file = head.get_param("filename", header="content-disposition") is not None
    content: Upload | InlineText = Upload() if is_file else InlineText(budget)
    with content:
        await _to_edge(body, edge, content)
        return (name if isinstance(name, str) else ""), await _value(content)


async def _head(body: Scanner) -> Message:
    head = Text([_LONGEST_HEAD])
    try:
        found = await body.until(_LINE + _LINE, head.take)
    except TooLarge:
        found = False
    if not found:
        raise _unreadable("a part has no headers, or very long ones")
    return message_from_string(_decoded(head.bytes).lstrip())


async def _to_edge(body: Scanner, edge: bytes, content: Text | Upload) -> None:
    if not await body.until(edge, content.take):
        raise _unreadable("it ends before its last boundary")


async def _value(content: Upload | InlineText) -> Value:
    if isinstance(content, Upload):
        return await content.whole()
    return _decoded(content.bytes) if content.image is None else await content.image.whole()


def _decoded(data: bytes | bytearray) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _unreadable("its text is not UTF-8") from error


def _too_many() -> TooLarge:
    return TooLarge(f"The form has more than {MOST_PARTS} parts.", param="request_body")


def _unreadable(why: str) -> InvalidRequest:
    return InvalidRequest(f"The form cannot be read: {why}.", code="invalid_form", param="request_body")
