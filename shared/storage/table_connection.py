"""One try of one request to the table service: signed, on connections that are kept, with an answer
of bounded size. How often it is tried is for who asks to say.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import urlsplit

from shared.storage.http_connection import AnswerTooLarge, HttpConnection, Unanswered
from shared.storage.table_requests import Answer, Request, Unreadable, header_lines
from shared.storage.table_signing import Signer

_VERSION = {"x-ms-version": "2020-12-06"}
_CONNECTED, _ANSWERED = 10.0, 35.0  # seconds for each; the service itself gives up after 30
_CONNECTIONS = 100
_IDLE = 15.0  # seconds after which a connection is not used again: the server may be about to close it
_LARGEST = 64 * 1024 * 1024  # bytes of an answer: a page of 1000 rows with long prompts


class Connection:
    """The connections to one account, on the event loop of the first request.

    They know no proxy of the machine, keep no cookie and follow no redirect: what leads to another
    host would carry the token there.
    """

    def __init__(self, address: str, signer: Signer) -> None:
        self.address = address.rstrip("/")
        self._server = urlsplit(self.address)
        self._signer = signer
        self._turns = asyncio.Semaphore(_CONNECTIONS)
        self._idle: deque[HttpConnection] = deque()  # the one that was used last is at the end
        self._closed = False
        self._tls: ssl.SSLContext | None = None
        self._reading_trust = asyncio.Lock()

    async def ask(self, request: Request, until: float) -> Answer:
        """Ask once, `until` a time of the event loop at the latest. Raises Unanswered or
        Unreadable, and StorageUnavailable where the app's identity has no token, for which it waits
        half a minute at most.
        """
        headers = {**_VERSION, "x-ms-date": format_datetime(datetime.now(UTC), usegmt=True), **request.headers}
        path = self._server.path + request.path
        headers["authorization"] = await self._signer.authorization(request.method, path, headers)
        return await self._exchange(_written(request, path, {"host": self._server.netloc, **headers}), until)

    async def close(self) -> None:
        """Those that are in use close after their answers."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    async def _exchange(self, request: bytes, until: float) -> Answer:
        await self._turn(until)
        try:
            connection = self._kept() or await self._connected(until)
            try:
                patience = min(_ANSWERED, until - asyncio.get_running_loop().time())
                return Answer(*await connection.exchange(request, patience))
            except AnswerTooLarge as error:
                raise Unreadable(str(error)) from error
            finally:
                self._keep(connection)
        finally:
            self._turns.release()

    async def _turn(self, until: float) -> None:
        """Wait for a place among the connections, where all are taken. Raises Unanswered."""
        if not self._turns.locked():
            await self._turns.acquire()
            return
        try:
            async with asyncio.timeout_at(until):
                await self._turns.acquire()
        except TimeoutError as error:
            raise Unanswered("all connections wait for answers") from error

    def _kept(self) -> HttpConnection | None:
        """The connection that was used last and is open, if there is one."""
        oldest = asyncio.get_running_loop().time() - _IDLE
        while self._idle and self._idle[0].freed_at <= oldest:
            self._idle.popleft().close()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_free:
                return connection
        return None

    def _keep(self, connection: HttpConnection) -> None:
        if connection.is_free and not self._closed:
            self._idle.append(connection)
        else:
            connection.close()  # also where nobody waits for the answer any more

    async def _connected(self, until: float) -> HttpConnection:
        """Raises Unanswered."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(loop.time() + _CONNECTED, until)):
                tls = await self._trusted() if self._server.scheme == "https" else None
                _, connection = await loop.create_connection(
                    lambda: HttpConnection(_LARGEST),
                    self._server.hostname or "",
                    self._server.port or (443 if tls else 80),
                    ssl=tls,
                )
                return connection
        except (OSError, TimeoutError) as error:
            raise Unanswered(str(error)) from error

    async def _trusted(self) -> ssl.SSLContext:
        """Whom the machine trusts. To read that takes 30 ms, once, and not of the event loop's."""
        async with self._reading_trust:  # a cold start has many requests at once
            if self._tls is None:
                self._tls = await asyncio.to_thread(ssl.create_default_context)
            return self._tls


def _written(request: Request, path: str, headers: Mapping[str, str]) -> bytes:
    query = f"?{request.query}" if request.query else ""
    # Also of nothing, as Microsoft's own clients do: some servers refuse a change without it.
    length = "" if request.method == "GET" else f"content-length: {len(request.body)}\r\n"
    return f"{request.method} {path}{query} HTTP/1.1\r\n{header_lines(headers)}{length}\r\n".encode() + request.body
