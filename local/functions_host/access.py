"""One line for each request: method, path, status, milliseconds, and the video it was about."""

import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

Tell = Callable[[str], None]

_VIDEO = re.compile(rb"video_\w+")
_FIRST_BYTES = 500  # of an answer: they contain the video's own id


def access_lines(tell: Tell) -> Middleware:
    """A middleware that calls `tell` with a line for every request, except those of the app to its
    engine.
    """

    @web.middleware
    async def told(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        begun = time.monotonic()
        answer = await handler(request)
        if not request.path.startswith("/durabletask/"):
            took = (time.monotonic() - begun) * 1000
            # The path alone: a query may hold a key.
            tell(f"{request.method} {request.path} {answer.status} {took:.0f} ms {_video(request, answer)}".rstrip())
        return answer

    return told


def _video(request: web.Request, answer: web.StreamResponse) -> str:
    """The video id in the path, or the first one in the answer to a create."""
    found = _VIDEO.search(request.path.encode())
    body: Any = getattr(answer, "body", None)
    if found is None and request.method == "POST" and isinstance(body, bytes):
        found = _VIDEO.search(body[:_FIRST_BYTES])
    return "" if found is None else found.group().decode()
