"""How often a call waits for storage."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from shared.media.video import Video
from shared.routes import content, videos
from shared.routes.calls import Handler
from shared.storage.tables import Insert
from shared.storage.video_store import INDEXING, UPKEEP
from tests.fakes.asking import Reply, ask, request
from tests.fakes.round_trips import round_trips
from tests.fakes.world import World
from tests.fakes.world import world as open_world

pytestmark = pytest.mark.anyio

Send = Callable[..., Awaitable[tuple[int, int]]]
"""Sends a call for the second time; returns its requests to storage, and how many in a row."""


@pytest.fixture
async def world(azurite: str) -> AsyncIterator[World]:
    async with open_world(azurite, real_tables=True) as world:
        await world.gateway.tables.gateway.commit(UPKEEP, Insert(INDEXING, {"done": True}))
        yield world


@pytest.fixture
async def finished(world: World) -> Video:
    video = await world.start()
    await world.submitted(video.id)
    world.upstream.end()
    return await world.live(video.id)


@pytest.fixture
def send(world: World, monkeypatch: pytest.MonkeyPatch) -> Send:
    headers = {"authorization": f"Bearer {world.secret}", "content-type": "application/json"}

    async def sent(handler: Handler, method: str, number: int, **parts: str) -> Reply:
        body = json.dumps({"prompt": f"A cat {number}", "seconds": "4"}).encode() if method == "POST" else b""
        asked = request(method, body, {**headers, "content-length": str(len(body))}, None, **parts)
        return await ask(asked, handler, world.gateway)

    async def counted(handler: Handler, method: str = "GET", **parts: str) -> tuple[int, int]:
        await sent(handler, method, 1, **parts)  # the first one reads the key, and makes what is missing
        with round_trips(monkeypatch) as found:
            reply = await sent(handler, method, 2, **parts)
        assert reply.status < 400
        return found.requests, found.in_a_row

    return counted


async def test_a_status_and_a_redirect_to_content_are_one_read(send: Send, finished: Video) -> None:
    assert await send(videos.get_video, video_id=finished.id) == (1, 1)
    assert await send(content.get_content, video_id=finished.id) == (1, 1)


async def test_a_page_of_a_list_is_one_read(send: Send, world: World, finished: Video) -> None:
    for _ in range(25):
        await world.start()
    await world.gateway.lifecycle.delete(finished.id)
    assert await send(videos.list_videos) == (1, 1)


async def test_a_create_waits_for_storage_three_times(send: Send) -> None:
    """The account is read while its video is entered into the pool and among the open lines."""
    assert await send(videos.create_video, "POST") == (4, 3)
