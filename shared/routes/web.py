"""The web extension: HTTP as a stream between the Functions host and the app's handlers.

The host forwards each request, as it arrives, to a web server inside the Python worker. The worker
starts the server of the module that has subclasses of `WebApp` and `WebServer`. Importing that
module changes all HTTP functions of the app: their argument is the server's own request, and their
result is what it sends. This is that module, on the server of aiohttp, which Durable imports
anyway. No other module of the app knows aiohttp or the seam (`azurefunctions-extensions-base`).
`aiohttp.web` is not imported: its routes, files and WebSockets serve nothing here, and cost each
cold start 40 ms.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, TypeAlias

from aiohttp.helpers import RequestKey
from aiohttp.http import HttpVersion11
from aiohttp.web_protocol import RequestPayloadError
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response as WholeResponse
from aiohttp.web_response import StreamResponse
from aiohttp.web_server import Server
from azurefunctions.extensions import base

from shared.errors import GatewayError
from shared.routes import calls
from shared.routes.calls import Handler
from shared.videos.orchestration import Orchestrations

logger = logging.getLogger("gateway")

Pieces: TypeAlias = AsyncIterator[bytes]
Request: TypeAlias = BaseRequest
Response: TypeAlias = StreamResponse
Served: TypeAlias = Callable[[Request], Awaitable[Response]]

# The host in front has limits of its own (8 KiB for an address, 32 KiB for 100 headers together)
# and adds headers; a request that it lets through is not refused here. Compressed bodies stay
# compressed: no body is unpacked before it was measured.
SERVER_OPTIONS: Mapping[str, Any] = {
    "access_log": None,
    "auto_decompress": False,
    "max_line_size": 32 * 1024,
    "max_field_size": 64 * 1024,
    "max_headers": 10_000,
}
_NAME = {"server": "azure-video-gateway"}  # instead of the server's own name and version
_LONGEST_PAUSE = 300.0  # seconds in which a reader takes nothing, before it is given up
ROUTE = RequestKey("route", dict[str, str])


async def respond(request: Request, handler: Handler, orchestrations: Orchestrations | None = None) -> Response:
    """Run a handler on the server's request, and return the server's response."""
    reply = await calls.respond(_received(request), handler, orchestrations)
    headers = {**_NAME, **reply.headers}
    if isinstance(reply.body, bytes):
        return WholeResponse(body=reply.body, status=reply.status, headers=headers)
    return _Streamed(request.transport, reply.status, headers, reply.body)


class WebApp(base.WebApp):
    """The worker's own handler, which gets every request. It refuses no path: the invocation of a
    refused request would wait for it until its time is over.
    """

    def route(self, func: Served) -> Served:
        """Take the handler, which calls the function that the host has chosen."""
        self._served = func
        return func

    def get_app(self) -> Served:
        return self._served


class WebServer(base.WebServer):
    """Serves a WebApp until the worker ends: the event loop keeps the server alive."""

    async def serve(self) -> None:
        server = Server(self.web_app, **SERVER_OPTIONS)
        await asyncio.get_running_loop().create_server(server, self.hostname, self.port)


class _Route(base.RequestSynchronizer):
    def sync_route_params(self, request: Request, path_params: Mapping[str, str]) -> None:
        """Keep the route's parameters, which the worker gets from the host."""
        request[ROUTE] = dict(path_params)


class _RequestType(metaclass=base.RequestTrackerMeta):
    request_type = Request
    synchronizer = _Route()


class _ResponseType(metaclass=base.ResponseTrackerMeta):
    label = base.ResponseLabels.STANDARD
    response_type = Response


class _Streamed(StreamResponse):
    """An answer whose body is written after the function has returned, so that no time limit of
    functions ends it for a slow reader.
    """

    def __init__(self, reader: asyncio.Transport | None, status: int, headers: Mapping[str, str], pieces: Pieces) -> None:
        super().__init__(status=status, headers=headers)
        self._reader = reader
        self._pieces = pieces

    async def write_eof(self, data: bytes = b"") -> None:
        """Write the pieces. If making them fails, raises ConnectionResetError: that closes the
        connection before the body's end, so that no client takes a part for the whole.
        """
        try:
            async with aclosing(self._pieces):  # type: ignore[type-var]
                async for piece in self._pieces:
                    await self._taken(piece)
        except ConnectionError:
            raise
        except GatewayError as error:
            logger.warning("an answer was cut short: %s", error.message)
            raise ConnectionResetError from error
        except Exception as error:
            logger.exception("an answer was cut short")
            raise ConnectionResetError from error
        await super().write_eof(data)

    async def _taken(self, piece: bytes) -> None:
        """Write a piece. Raises ConnectionResetError for a reader that takes nothing for minutes,
        since the pieces that wait for it stay in memory.
        """
        try:
            async with asyncio.timeout(_LONGEST_PAUSE):
                await self.write(piece)
        except TimeoutError as error:
            if self._reader is not None:
                self._reader.abort()
            raise ConnectionResetError from error


def _received(request: Request) -> calls.Request:
    headers = _joined((name.lower(), value) for name, value in request.headers.items())
    return calls.Request(
        method=request.method,
        headers=headers,
        query=_joined(request.query.items()),
        parts=request.get(ROUTE, {}),
        body=_body(request),
        origin=_origin(request.headers),
        connected=lambda: request.transport is not None and not request.transport.is_closing(),
    )


def _origin(headers: Mapping[str, str]) -> str:
    """The address by which the caller reaches the app, from the host's headers; `Host` is the
    worker's own.
    """
    return f"{headers.get('X-Forwarded-Proto', 'http')}://{headers.get('X-Forwarded-Host') or headers.get('Host', '')}"


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """One value per name; several are joined by commas."""
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


async def _body(request: Request) -> AsyncIterator[bytes]:
    """The body, in pieces as they arrive. Raises ConnectionError if it ends too early."""
    await _continue(request)
    try:
        async for piece in request.content.iter_any():
            yield piece
    except RequestPayloadError as error:
        raise ConnectionError("The body's framing is broken.") from error


async def _continue(request: Request) -> None:
    """Send "100 Continue", if the caller waits for it. Only the reader of a body does, so that a
    request that is refused before then never sends its body.
    """
    if request.version == HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # this line does not count as a part of the answer
