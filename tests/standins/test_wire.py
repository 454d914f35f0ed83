"""The stand-in refuses what Microsoft's host refuses, with its status and an empty body, and lets
through the rest. Row by row as measured, on a socket.
"""

import asyncio
from pathlib import Path

import azure.functions as func
import pytest
from aiohttp import web

from local.functions_host import wire
from local.functions_host.host import Host
from shared.routes.web import ROUTE
from tests.standins.test_host import serving

pytestmark = pytest.mark.anyio

EMPTY = b""


def echo() -> func.FunctionApp:
    """An app that says which path its catch-all was given, and how many bytes came."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    @app.function_name("zz_other_path")
    @app.route("{*path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    async def zz_other_path(req: web.Request) -> web.Response:
        said = f"{req[ROUTE].get('path', '')} {len(await req.read())}".encode()
        return web.Response(body=said, status=418, headers={"content-length": str(len(said))})

    return app


def headers(*lines: str) -> str:
    return "".join(f"{line}\r\n" for line in lines)


ROWS = {
    "a body with a length": ("POST /a", headers("Content-Length: 3"), "abc", 418, b"a 3"),
    "a body without a length": ("POST /a", headers("Transfer-Encoding: chunked"), "3\r\nabc\r\n0\r\n\r\n", 418, b"a 3"),
    "a gzip body is not unpacked": ("POST /a", headers("Content-Encoding: gzip", "Content-Length: 3"), "abc", 418, b"a 3"),
    "dots in a path": ("GET /a/b/.././%2e%2e/c", "", "", 418, b"c 0"),
    "dots beyond the root": ("GET /../../c/.", "", "", 418, b"c/ 0"),
    "an encoded slash stays, the rest is decoded": ("GET /a%2Fb%20c", "", "", 418, b"a%2Fb c 0"),
    "a line break in a path": ("GET /a%0Ab%0D", "", "", 418, b"a\nb\r 0"),
    "NUL in a path": ("GET /a%00", "", "", 400, EMPTY),
    "a header that is not ASCII": ("GET /a", headers("X: ä"), "", 400, EMPTY),
    "an address below 8 KiB": ("GET /" + "a" * 8000, "", "", 418, b"a" * 8000 + b" 0"),
    "an address over 8 KiB": ("GET /" + "a" * 8192, "", "", 414, EMPTY),
    "an address of 100 KiB": ("GET /" + "a" * 100_000, "", "", 414, EMPTY),
    "a header of 20 kB": ("GET /a", headers("X: " + "a" * 20_000), "", 418, b"a 0"),
    "a header of 40 kB": ("GET /a", headers("X: " + "a" * 40_000), "", 431, EMPTY),
    "a header of 100 kB": ("GET /a", headers("X: " + "a" * 100_000), "", 431, EMPTY),
    "over 100 headers": ("GET /a", headers(*(f"X{n}: a" for n in range(101))), "", 431, EMPTY),
    "a verb that nobody knows": ("BREW /a", "", "", 404, EMPTY),
    "a verb of WebDAV": ("PROPFIND /a", "", "", 404, EMPTY),
    "OPTIONS *": ("OPTIONS *", "", "", 418, b" 0"),
    "OPTIONS": ("OPTIONS /a", "", "", 418, b"a 0"),
    "/admin": ("GET /admin/host/status", "", "", 401, EMPTY),
    "/runtime/webhooks": ("POST /runtime/webhooks/durabletask/x", headers("Content-Length: 0"), "", 401, EMPTY),
    "HEAD that is an error": ("HEAD /a", "", "", 418, EMPTY),
}


async def said(host: Host, *sent: bytes) -> tuple[int, bytes, bytes]:
    """Status, head and body of the answer to bytes that are sent one after the other, after which
    the stand-in has closed the connection.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", int(host.url.rpartition(":")[2]))
    async with asyncio.timeout(10):
        for each in sent:
            writer.write(each)
            await asyncio.sleep(0)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), head.lower(), body


@pytest.mark.parametrize("row", ROWS)
async def test_the_stand_in_does_what_the_host_does(tmp_path: Path, row: str) -> None:
    """Each row of the table."""
    line, given, body, status, answer = ROWS[row]
    async with serving(echo(), tmp_path) as (_, host):
        sent = f"{line} HTTP/1.1\r\nHost: me\r\nConnection: close\r\n{given}\r\n{body}".encode()
        found, head, came = await said(host, sent)
    assert (found, came) == (status, answer)
    assert b"content-length: " in head, "every answer has a length"


CHUNKED = b"POST /a HTTP/1.1\r\nHost: me\r\nTransfer-Encoding: chunked\r\n\r\n"
BROKEN = {
    "one word": [b"NONSENSE\r\n\r\n"],
    "no path": [b"GET HTTP/1.1\r\nHost: me\r\n\r\n"],
    "a path without a slash": [b"GET a HTTP/1.1\r\nHost: me\r\n\r\n"],
    "a verb that is none": [b"G@T /a HTTP/1.1\r\nHost: me\r\n\r\n"],
    "another protocol": [b"GET /a SMTP/1.1\r\nHost: me\r\n\r\n"],
    "no host": [b"GET /a HTTP/1.1\r\n\r\n"],
    "a header without a name": [b"GET /a HTTP/1.1\r\nHost: me\r\n: x\r\n\r\n"],
    "TLS": [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"],
    "a length that is no number": [b"POST /a HTTP/1.1\r\nHost: me\r\nContent-Length: x\r\n\r\nabc"],
    "two lengths": [b"POST /a HTTP/1.1\r\nHost: me\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"],
    "a length and pieces": [CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n"), b"abc"],
    "a piece without a size": [CHUNKED, b"xyz\r\nabc\r\n"],
    "a piece that is longer than its size": [CHUNKED, b"3\r\nabcdef\r\n"],
    "a second piece without a size": [CHUNKED, b"3\r\nabc\r\n", b"-1\r\n"],
}


@pytest.mark.parametrize("sent", BROKEN)
async def test_what_is_no_http_is_refused_at_once(tmp_path: Path, sent: str) -> None:
    """With 400, and the connection is closed: nobody waits for the rest of a body that cannot be
    read, nor takes it for the next request.
    """
    async with serving(echo(), tmp_path) as (_, host):
        status, head, body = await said(host, *BROKEN[sent])
    assert (status, body) == (400, EMPTY)
    assert b"content-length: 0" in head


OVER = {"with a length": [CHUNKED.replace(b"Transfer-Encoding: chunked", b"Connection: close\r\nContent-Length: 4"), b"abcd"]}
OVER |= {"without one": [CHUNKED, b"4\r\nabcd\r\n0\r\n\r\n"]}


@pytest.mark.parametrize("sent", OVER)
async def test_a_body_over_the_limit_is_a_500(tmp_path: Path, sent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 MiB, and of 3 bytes here; without a length, once the function has read it."""
    assert wire.BODY_LIMIT == 100 * 1024**2
    monkeypatch.setattr(wire, "BODY_LIMIT", 3)
    async with serving(echo(), tmp_path) as (_, host):
        status, _, body = await said(host, *OVER[sent])
    assert (status, body) == (500, EMPTY)
