"""The stand-in refuses what Microsoft's host refuses, with its status and an empty body, and lets
through the rest. Row by row as measured, on a socket.
"""

import asyncio
from pathlib import Path

import azure.functions as func
import pytest
from aiohttp import web

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
    "a body over 100 MiB": ("POST /a", headers(f"Content-Length: {100 * 1024**2 + 1}"), "", 500, EMPTY),
    "dots in a path": ("GET /a/b/.././%2e%2e/c", "", "", 418, b"c 0"),
    "dots beyond the root": ("GET /../../c/.", "", "", 418, b"c/ 0"),
    "an encoded slash stays, the rest is decoded": ("GET /a%2Fb%20c", "", "", 418, b"a%2Fb c 0"),
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


@pytest.mark.parametrize("row", ROWS)
async def test_the_stand_in_does_what_the_host_does(tmp_path: Path, row: str) -> None:
    """Each row of the table."""
    line, given, body, status, answer = ROWS[row]
    async with serving(echo(), tmp_path) as (_, host):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(host.url.rpartition(":")[2]))
        writer.write(f"{line} HTTP/1.1\r\nHost: me\r\nConnection: close\r\n{given}\r\n{body}".encode())
        head, _, said = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert (int(head.split()[1]), said) == (status, answer)
    assert b"content-length: " in head.lower(), "every answer has a length"
