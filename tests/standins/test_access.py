"""The lines that tell of requests."""

import re

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from local.functions_host.access import access_lines

pytestmark = pytest.mark.anyio


async def _created(_: web.Request) -> web.Response:
    return web.json_response({"id": "video_01"})


async def _found(_: web.Request) -> web.Response:
    return web.json_response({"data": [{"id": "video_02"}]}, status=404)


async def test_a_request_is_one_line_with_the_video_that_it_is_about() -> None:
    """A create has the id in its answer, others in their path; a query is not told, nor what the
    app asks its engine.
    """
    told: list[str] = []
    app = web.Application(middlewares=[access_lines(told.append)])
    app.router.add_post("/v1/videos", _created)
    app.router.add_get("/{path:.*}", _found)
    async with TestClient(TestServer(app)) as client:
        await client.post("/v1/videos")
        await client.get("/v1/videos/video_03/content?key=sk-secret")
        await client.get("/v1/videos")
        await client.get("/durabletask/instances/video_04")
    assert [re.sub(r"\d+ ms", "N ms", line) for line in told] == [
        "POST /v1/videos 200 N ms video_01",
        "GET /v1/videos/video_03/content 404 N ms video_03",
        "GET /v1/videos 404 N ms",
    ]
