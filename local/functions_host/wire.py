"""What Microsoft's host does with a request before a function has it: what it refuses, with which
status and always with an empty body, and what it makes of headers.

Every number and status is measured, see "The real Functions host, measured".
"""

import asyncio
import re
from collections.abc import Iterable
from functools import partial
from uuid import uuid4

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import HttpRequestParserPy
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict

from shared.routes.web import SERVER_OPTIONS

BODY_LIMIT = 100 * 1024 * 1024  # bytes; the host's default for FUNCTIONS_REQUEST_BODY_SIZE_LIMIT
_LONGEST_ADDRESS = 8 * 1024  # bytes of the first line
_MOST_HEADERS, _LONGEST_HEADERS = 100, 32 * 1024  # number, and bytes of all together
_KEYED = re.compile(r"/+(admin|runtime/webhooks)(/|$)", re.IGNORECASE)  # behind a key that nobody has here
_VERBS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
_ANY_PATH = r"/{path:[\s\S]*}"  # a line break may be in it
_WORKER = "127.0.0.1"
_TLS, _NO_REQUEST = b"\x16\x03", b"\x16\r\n\r\n"  # how TLS begins, and what the parser refuses at once


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


def overruled(request: web.Request) -> int | None:
    """The status with which the host answers in the place of the function, once that has ended: for
    a body that was above the limit, or not framed as it has to be. None where neither is so.
    """
    if request.content.total_bytes > BODY_LIMIT:
        return 500
    return 400 if isinstance(request.content.exception(), web.RequestPayloadError) else None


def closing(status: int) -> web.Response:
    """An empty answer, after which the connection is closed."""
    answer = web.Response(status=status)
    answer.force_close()
    return answer


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


def answering(handle: Handler, routes: Iterable[web.AbstractRouteDef] = ()) -> web.Application:
    """An application of these routes, which passes every other path to the handler. To send "100
    Continue" is the handler's part.
    """
    application = web.Application(middlewares=[_answering_asterisk(handle)])
    application.add_routes(routes)
    application.router.add_route("*", _ANY_PATH, handle, expect_handler=_not_yet)
    return application


async def listen(runner: web.AppRunner, address: str, port: int) -> asyncio.Server:
    """Serve the application of a runner that is set up. Raises OSError if the port is taken."""
    loop, server = asyncio.get_running_loop(), runner.server
    assert server is not None
    return await loop.create_server(partial(_Protocol, server, loop=loop), address, port)


async def _not_yet(_: web.Request) -> None:
    """Does nothing before the body is read."""


def _answering_asterisk(handle: Handler) -> Middleware:
    """`OPTIONS *` asks for no path, which aiohttp routes nowhere, and the host to whoever takes the
    empty one.
    """

    @web.middleware
    async def routed(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await (handle(request.clone(rel_url="/")) if request.path == "*" else handler(request))

    return routed


class _Protocol(web.RequestHandler):
    """aiohttp's protocol, with two differences.

    It has aiohttp's parser in Python. That one takes every verb, as the host does, and a body whose
    framing is broken fails at once for whoever reads it. And what cannot be read is answered as the
    host does.
    """

    __slots__ = ()

    def __init__(self, server: web.Server, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop=loop, **SERVER_OPTIONS)
        limits = {name: value for name, value in SERVER_OPTIONS.items() if name != "access_log"}
        self._parser = HttpRequestParserPy(self, loop, payload_exception=web.RequestPayloadError, **limits)

    def data_received(self, data: bytes) -> None:
        """Feed the parser. The greeting of TLS is not waited for to its end: it has no lines."""
        greeting = self._request_count == 0 and data.startswith(_TLS)
        super().data_received(_NO_REQUEST if greeting else data)

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - as aiohttp calls it
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        if isinstance(exc, LineTooLong):
            status = 414 if exc.args[1] == SERVER_OPTIONS["max_line_size"] else 431
        return closing(status)
