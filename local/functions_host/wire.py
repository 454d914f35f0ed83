"""What Microsoft's host does with a request before a function has it: what it refuses, with which
status and always with an empty body, and what it makes of headers.

Every number and status is measured, see "The real Functions host, measured".
"""

import asyncio
import re
from functools import partial
from uuid import uuid4

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict

from shared.routes.web import SERVER_OPTIONS

BODY_LIMIT = 100 * 1024 * 1024  # bytes; the host's default for FUNCTIONS_REQUEST_BODY_SIZE_LIMIT
_LONGEST_ADDRESS = 8 * 1024  # bytes of the first line
_MOST_HEADERS, _LONGEST_HEADERS = 100, 32 * 1024  # number, and bytes of all together
_KEYED = re.compile(r"/+(admin|runtime/webhooks)(/|$)", re.IGNORECASE)  # behind a key that nobody has here
_VERBS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
_WORKER = "127.0.0.1"


def refusal(request: web.Request) -> int | None:
    """The status with which the host itself answers; None where it goes on."""
    headers = request.raw_headers
    checks = {
        404: request.method not in _VERBS,
        414: len(f"{request.method} {request.raw_path} HTTP/1.1\r\n") > _LONGEST_ADDRESS,
        431: len(headers) > _MOST_HEADERS or sum(len(name) + len(value) + 4 for name, value in headers) > _LONGEST_HEADERS,
        400: "%00" in request.rel_url.raw_path or not all(value.isascii() for _, value in headers),
        401: _KEYED.match(request.path) is not None,
        500: (request.content_length or 0) > BODY_LIMIT,
    }
    return next((status for status, applies in checks.items() if applies), None)


def forwarded(request: web.Request) -> web.Request:
    """The request as the worker's server gets it: `Host` is the worker, who asked stands in
    `X-Forwarded-*`, and what a client has put there is overwritten.
    """
    headers: CIMultiDict[str] = CIMultiDict(request.headers)
    headers["X-Forwarded-Host"] = request.headers.get("Host", "")
    headers["X-Forwarded-Proto"] = request.scheme
    headers["X-Forwarded-For"] = request.remote or ""
    headers["x-ms-invocation-id"] = str(uuid4())
    headers["Host"] = _WORKER
    return request.clone(headers=headers)


async def listen(runner: web.AppRunner, address: str, port: int) -> asyncio.Server:
    """Serve the application of a runner that is set up. Raises OSError if the port is taken."""
    loop, server = asyncio.get_running_loop(), runner.server
    assert server is not None
    return await loop.create_server(partial(_Protocol, server, loop=loop, **SERVER_OPTIONS), address, port)


def answering_asterisk(handle: Handler) -> Middleware:
    """`OPTIONS *` asks for no path, which aiohttp routes nowhere, and the host to whoever takes the
    empty one.
    """

    @web.middleware
    async def routed(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await (handle(request.clone(rel_url="/")) if request.path == "*" else handler(request))

    return routed


class _Protocol(web.RequestHandler):
    """aiohttp's protocol, which answers what it cannot read as the host does."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - as aiohttp calls it
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        if isinstance(exc, LineTooLong):
            status = 414 if exc.args[1] == SERVER_OPTIONS["max_line_size"] else 431
        elif isinstance(exc, BadHttpMethod):
            status = 404
        answer = web.Response(status=status)
        answer.force_close()
        return answer
