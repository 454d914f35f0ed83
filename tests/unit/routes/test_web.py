"""The web extension on a socket: what a handler is given, and how its answer leaves."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web as server
from aiohttp.test_utils import RawTestServer, TestClient
from yarl import URL

from shared.errors import Gone
from shared.routes import web
from shared.routes.calls import Answer, Call, Handler

pytestmark = pytest.mark.anyio

Client = TestClient[server.BaseRequest, None]


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[Client]:
    """A client of the application that the worker serves, with this handler behind it."""
    extension = web.WebApp()

    async def catch_all(request: web.Request) -> web.Response:
        return await web.respond(request, handler)

    extension.route(catch_all)
    opened: Client = TestClient(RawTestServer(extension.get_app()))
    async with opened as client:
        yield client


async def test_a_handler_gets_a_request_without_its_server() -> None:
    """Headers in lower case, several values joined, empty parameters kept, and the address by which
    the caller came.
    """

    async def told(call: Call) -> Answer:
        sent = b"".join([piece async for piece in call.request.body])
        asked = call.request
        return Answer([asked.method, asked.headers["x-colour"], asked.query, asked.origin, sent.decode()])

    forwarded = [("X-Forwarded-Host", "gateway.example"), ("X-Forwarded-Proto", "https")]
    async with answering(told) as client:
        headers = [*forwarded, ("X-Colour", "red"), ("X-Colour", "blue")]
        answer = await client.post("/x?a=1&a=2&empty=&b=x%20y", data=b"body", headers=headers)
        told_of = json.loads(await answer.read())
    assert told_of == ["POST", "red,blue", {"a": "1,2", "empty": "", "b": "x y"}, "https://gateway.example", "body"]


@pytest.mark.parametrize("path", ["/a%0Ab", "/%0A", "/a%0D%0A%E2%80%A8/", "/%7Bpath%7D", "//"])
async def test_every_path_reaches_the_worker(path: str) -> None:
    """Also one with line breaks: the server's own 404 would leave the invocation waiting."""

    async def told(_: Call) -> Answer:
        return Answer("here")

    async with answering(told) as client:
        answer = await client.get(URL(path, encoded=True))
        assert (answer.status, await answer.json()) == (200, "here")


async def test_an_answer_in_pieces_is_written_as_it_comes() -> None:
    """Without a length it is chunked; the first piece does not wait for the second."""
    second = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        await second.wait()
        yield b"data: 2\n\n"

    async def events(_: Call) -> Answer:
        return Answer(pieces(), media_type="text/event-stream")

    async with answering(events) as client:
        answer = await client.get("/")
        assert answer.headers["content-type"] == "text/event-stream"
        assert await answer.content.readany() == b"data: 1\n\n"
        second.set()
        assert await answer.content.read() == b"data: 2\n\n"


async def test_an_answer_that_cannot_be_finished_is_cut_short(caplog: pytest.LogCaptureFixture) -> None:
    """Its reader sees that, and the log says why."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"half"
        raise Gone("The bytes have changed.")

    async def film(_: Call) -> Answer:
        return Answer(pieces(), headers={"content-length": "8"})

    async with answering(film) as client:
        answer = await client.get("/")
        with pytest.raises(Exception, match="payload is not completed"):
            await answer.read()
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert "The bytes have changed." in record.getMessage()


async def test_a_reader_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After minutes, which are a moment here; what was read ahead for it is let go."""
    closed = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1024 * 1024)
        finally:
            closed.set()

    async def endless(_: Call) -> Answer:
        return Answer(pieces())

    monkeypatch.setattr(web, "_LONGEST_PAUSE", 0.05)
    async with answering(endless) as client:
        _, writer = await asyncio.open_connection(client.host, client.port, limit=1024)  # and then it reads no more
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(20):
            await closed.wait()
        writer.close()
