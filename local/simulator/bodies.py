"""What clients send to a simulated server: JSON objects and multipart forms."""

import json
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from aiohttp import web
from PIL import Image

LARGEST_BODY = 64 * 1024 * 1024
FORM = "multipart/form-data"
FORMS = (FORM, "application/x-www-form-urlencoded")


@dataclass(frozen=True)
class File:
    """A file part of a multipart body."""

    name: str
    content_type: str
    data: bytes


async def form_fields(request: web.Request) -> dict[str, Any]:
    """The parts of a form: text, or a File. Raises ValueError."""
    return {name: _part(value) for name, value in (await request.post()).items()}


async def json_fields(request: web.Request) -> dict[str, Any]:
    """The members of a JSON object, less those that are null. Raises ValueError, or RecursionError
    for one that is nested beyond reason; TypeError where it is no object.
    """
    given = json.loads(await request.read())
    if not isinstance(given, dict):
        raise TypeError("The body of your request must be a JSON object.")
    return {name: value for name, value in given.items() if value is not None}


def is_image(data: bytes) -> bool:
    """Whether a picture can be read from it. Keep it off the event loop."""
    try:
        with Image.open(BytesIO(data)) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
    return True


def _part(value: str | bytes | bytearray | web.FileField) -> object:
    if isinstance(value, web.FileField):
        return File(value.filename, value.content_type, value.file.read())
    return value if isinstance(value, str) else value.decode(errors="replace")
