"""Reads a JSON body. Long data URLs are taken out as they arrive, and their decoded images are put
in their places afterwards.
"""

import json
import secrets
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import msgspec

from shared.errors import InvalidRequest, TooLarge
from shared.routes.bodies import Scanner, Text
from shared.routes.inline_images import InlineText

# Values, counted by the marks before them. The longest prompt, of nothing but commas, counts as a
# third of them.
_MOST_VALUES = 100_000
_MOST_MARKS = 10_000  # beginnings of data URLs; an honest body has one
_DATA = b"data:"


async def read_json(pieces: AsyncIterator[bytes]) -> dict[str, Any]:
    """The object. A value that is a long data URL is replaced by the image's bytes. Raises
    InvalidRequest or TooLarge.
    """
    body, text, images = Scanner(pieces), Text(), dict[str, bytes]()
    for marks in count(1):
        if not await body.until(b'"' + _DATA, text.take):
            return _parsed(bytes(text.bytes), images)
        if marks > _MOST_MARKS:
            raise TooLarge(f"The body has more than {_MOST_MARKS} data URLs.", param="request_body")
        if _ends_escaping(text.bytes):  # the quote does not begin a text
            await text.take(b'"' + _DATA)
            continue
        with InlineText() as given:
            await _read_text(body, given)
            if given.image is None:
                await text.take(b'"' + bytes(given.bytes) + b'"')
            else:
                name = secrets.token_hex(16)  # random, so that no caller can send it as a text
                images[name] = await given.image.whole()
                await text.take(f'"{name}"'.encode())
    raise AssertionError("count() has no end")


async def _read_text(body: Scanner, given: InlineText) -> None:
    """Read a text that began with `data:` into `given`, up to its closing quote, with JSON's
    escapes.
    """
    escaping = False
    await given.take(_DATA)

    async def take(data: bytes) -> None:
        nonlocal escaping
        escaping = _ends_escaping(data) != (escaping and not data.strip(b"\\"))
        await given.take(data)

    while await body.until(b'"', take):
        if not escaping:
            return
        await take(b'"')
    raise InvalidRequest("The body is not valid JSON: it ends in a text.", code="invalid_json", param="request_body")


def _ends_escaping(text: bytes | bytearray) -> bool:
    """Whether a text ends in an odd number of backslashes, which escape the next character."""
    backslashes = 0
    while backslashes < len(text) and text[-1 - backslashes] == ord("\\"):
        backslashes += 1
    return backslashes % 2 == 1


def _parsed(text: bytes, images: dict[str, bytes]) -> dict[str, Any]:
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > _MOST_VALUES:
        raise TooLarge(f"The body has more than {_MOST_VALUES} values.", param="request_body")

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """An object without duplicate names. Only one of two values could be kept, and a filter in
        front of the gateway may have checked the other.
        """
        fields: dict[str, Any] = {}
        for name, value in pairs:
            if name in fields:
                raise duplicate(name)
            fields[name] = images.get(value, value) if isinstance(value, str) else value
        return fields

    try:
        msgspec.json.decode(text)  # stricter than the standard library
        fields = json.loads(text, object_pairs_hook=distinct)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}", code="invalid_json", param="request_body") from error
    if not isinstance(fields, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json", param="request_body")
    return fields


def duplicate(name: str) -> InvalidRequest:
    """A name that is given twice."""
    shown = name[:64]
    return InvalidRequest(f"`{shown}` is given more than once.", code="duplicate_parameter", param=shown)
