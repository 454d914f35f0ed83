"""A connection to a server that is kept, lost, lied on, and given up."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from shared.storage.http_connection import AnswerTooLarge, HttpConnection, Reply, Unanswered
from tests.fakes.loop import JumpingLoop

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nETag: 1\r\ncontent-length: 2\r\n\r\nhi"
HI = (200, {"etag": "1", "content-length": "2"}, b"hi")
ASKED = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"


class Server:
    """Sends what a test says. `asked` is set while a request has come that is not answered."""

    def __init__(self) -> None:
        self.here, self.asked, self.lost = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._writer: asyncio.StreamWriter

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.here.set()
        with suppress(OSError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked.set()
        self.lost.set()
        writer.close()

    async def answer(self, *pieces: bytes) -> None:
        """Each piece by itself, as far as the network lets it."""
        self.asked.clear()
        for piece in pieces:
            self._writer.write(piece)
            await asyncio.sleep(0)

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def connected(
    largest: int = 1000, kind: type[HttpConnection] = HttpConnection
) -> AsyncIterator[tuple[HttpConnection, Server]]:
    server = Server()
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: kind(largest), "127.0.0.1", port)
        await server.here.wait()
        yield connection, server
        connection.close()
        await server.lost.wait()


async def answered(connection: HttpConnection, server: Server, *pieces: bytes) -> Reply:
    asked = asyncio.ensure_future(connection.exchange(ASKED, 35.0))
    await server.asked.wait()
    await server.answer(*pieces)
    return await asked


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nh\r\n1;x=y\r\ni\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (OK, HI),
        (CHUNKED, (200, {"transfer-encoding": "chunked"}, b"hi")),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" + OK, HI),
        (b"HTTP/1.1 204 No Content\r\nETag: \xe9\r\n\r\n", (204, {"etag": "é"}, b"")),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", (304, {"content-length": "5"}, b"")),
        (b"HTTP/1.1 404 \r\ncontent-length: 0\r\n\r\n", (404, {"content-length": "0"}, b"")),
    ],
)
async def test_an_answer_is_read_however_it_is_cut(sent: bytes, told: object) -> None:
    """Several times on one connection."""
    async with connected() as (connection, server):
        for pieces in ([sent], [bytes([byte]) for byte in sent], [sent[:20], sent[20:]]):
            assert await answered(connection, server, *pieces) == told
            assert connection.is_free


class Taking(asyncio.Transport):
    """Takes what is written."""

    def write(self, data: object) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None: ...


def test_each_request_has_a_time_of_its_own() -> None:
    """It begins when the request is sent, and is over with its answer."""

    async def story() -> None:
        loop, connection = asyncio.get_running_loop(), HttpConnection(1000)
        connection.connection_made(Taking())
        for _ in range(3):
            loop.call_later(30, connection.data_received, OK)
            assert await connection.exchange(ASKED, 35.0) == HI
        assert (loop.time(), connection.is_free) == (90, True)
        with pytest.raises(Unanswered, match="no answer in time"):
            await connection.exchange(ASKED, 35.0)
        assert (loop.time(), connection.is_free) == (125, False)

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(story())


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        OK + OK,  # two answers to one request
        OK + b"more",
    ],
)
async def test_a_connection_is_not_used_again_where_that_is_unsafe(sent: bytes) -> None:
    async with connected() as (connection, server):
        status, _, body = await answered(connection, server, sent)
        assert (status, body) == (200, b"hi")
        assert not connection.is_free


@pytest.mark.parametrize("sent", [OK, b"more", b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"])
@pytest.mark.parametrize("before", [0, 1], ids=["at first", "after an answer"])
async def test_what_nobody_asked_for_ends_the_connection(sent: bytes, before: int) -> None:
    async with connected() as (connection, server):
        for _ in range(before):
            await answered(connection, server, OK)
        await server.answer(sent)
        await server.lost.wait()
        assert not connection.is_free


@pytest.mark.parametrize(
    "sent",
    [
        b"no HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi!",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhi",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_none(sent: bytes) -> None:
    async with connected() as (connection, server):
        with pytest.raises(Unanswered):
            await answered(connection, server, sent)
        assert not connection.is_free


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 2", OK[:-1], OK.replace(b": 2", b": 3"), CHUNKED[:-2]])
async def test_an_answer_that_breaks_off_is_none(sent: bytes) -> None:
    async with connected() as (connection, server):
        asked = asyncio.ensure_future(connection.exchange(ASKED, 35.0))
        await server.asked.wait()
        await server.answer(sent)
        server.close()
        with pytest.raises(Unanswered):
            await asked
        assert not connection.is_free


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + b"a" * 100_000,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000,
        b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 20_000,
    ],
)
async def test_an_answer_without_an_end_is_given_up(sent: bytes) -> None:
    async with connected() as (connection, server):
        with pytest.raises(AnswerTooLarge):
            await answered(connection, server, sent)
        assert not connection.is_free


async def test_an_answer_is_not_kept() -> None:
    """By a connection that nobody uses for hours."""
    size = 5_000_000
    async with connected(size) as (connection, server):
        tracemalloc.start()
        _, _, body = await answered(connection, server, b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size, bytes(size))
        assert len(body) == size
        del body
        await asyncio.sleep(0)
        left, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert left < size / 2


async def test_a_connection_that_ends_is_not_free_before_it_is_lost() -> None:
    """A request that took it meanwhile would be lost with it."""

    class Watched(HttpConnection):
        def __init__(self, largest: int) -> None:
            super().__init__(largest)
            self.was_free = asyncio.get_running_loop().create_future()

        def connection_lost(self, error: Exception | None) -> None:
            self.was_free.set_result(self.is_free)
            super().connection_lost(error)

    async with connected(kind=Watched) as (connection, server):
        await answered(connection, server, OK)
        server.close()
        assert isinstance(connection, Watched)
        assert not await connection.was_free


async def test_who_gives_up_leaves_a_connection_that_is_not_free() -> None:
    async with connected() as (connection, server):
        asked = asyncio.ensure_future(connection.exchange(ASKED, 35.0))
        await server.asked.wait()
        asked.cancel()
        assert not connection.is_free
        await server.answer(OK)
        await server.lost.wait()  # an answer that comes all the same is for nobody


async def test_an_answer_before_the_whole_request_is_read_ends_the_connection() -> None:
    """What the server has not read yet, it would take for the next request."""
    refused = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await refused.wait()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0, limit=1) as listening:
        port = listening.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: HttpConnection(1000), "127.0.0.1", port)
        assert await connection.exchange(b"a" * 50_000_000, 35.0) == HI
        assert not connection.is_free
        connection.close()
        refused.set()
