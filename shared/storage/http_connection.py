"""A connection by HTTP/1.1 that is kept, with one request under way at most. llhttp, the parser of
Node.js, reads the answers.

aiohttp's client does the same, and much that nobody needs here, for two and a half times the
processor: half of what a status cost.
"""

import asyncio
from collections.abc import Mapping
from typing import TypeAlias, cast

import httptools

_LARGEST_HEAD = 64 * 1024  # bytes

Reply: TypeAlias = tuple[int, Mapping[str, str], bytes]
"""A status, headers with names in small letters, and a body."""


class Unanswered(Exception):
    """The server was not reached, or its answer was lost: the request may have been carried out."""


class AnswerTooLarge(Exception):
    """The answer is longer than it may be: the request may have been carried out."""


class HttpConnection(asyncio.Protocol):
    """`is_free` says whether it can take a request: it is open, and the last answer was read to its
    end, at the event loop's time `freed_at`. `largest` is how many bytes a body may have.
    """

    def __init__(self, largest: int) -> None:
        self.is_free = False
        self.freed_at = 0.0
        self._most = largest + _LARGEST_HEAD
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.WriteTransport
        self._reply: asyncio.Future[Reply] | None = None

    async def exchange(self, request: bytes, patience: float) -> Reply:
        """Send a request and wait for its answer, for so many seconds. Raises Unanswered or
        AnswerTooLarge. Who does not wait for the end has to close the connection.
        """
        self.is_free, self._received = False, 0
        self._reply = self._loop.create_future()
        timer = self._loop.call_later(patience, self._fail, Unanswered("no answer in time"))
        try:
            self._transport.write(request)
            return await self._reply
        finally:
            timer.cancel()
            self._reply = None  # a connection lies idle for long, and must not keep the last answer

    def close(self) -> None:
        self.is_free = False
        self._transport.abort()

    # The event loop calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self.is_free, self.freed_at = True, self._loop.time()

    def data_received(self, data: bytes) -> None:
        if not self._is_asked:
            self.close()
            return
        self._received += len(data)
        if self._received > self._most:
            self._fail(AnswerTooLarge(f"more than {self._most} bytes"))
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(Unanswered(f"no answer by HTTP: {error}"))

    def eof_received(self) -> None:
        self.close()  # at once: until the event loop says that it is lost, it would still be taken

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(Unanswered(f"the connection is lost: {error}"))

    # The parser calls these.

    def on_message_begin(self) -> None:
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        if not self._is_asked:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, piece: bytes) -> None:
        self._body.append(piece)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._reply is None or not self._is_asked or status < 200:  # below 200, the answer is yet to come
            return
        # A server that answers before it has read all would take the rest for the next request.
        self.is_free = self._parser.should_keep_alive() and not self._transport.get_write_buffer_size()
        self.freed_at = self._loop.time()
        body, self._body = b"".join(self._body), []
        self._reply.set_result((status, self._headers, body))

    @property
    def _is_asked(self) -> bool:
        return self._reply is not None and not self._reply.done()

    def _fail(self, error: Exception) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)
        self.close()
