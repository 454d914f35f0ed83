"""How often a call waits for storage, and what the first calls of a process import."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

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


FIRST_CALLS = """
import asyncio, gc, json, sys
looks = []
gc.callbacks.append(lambda phase, info: looks.append("shared" in sys.modules))
import function_app
collector = {"looked": any(looks), "kept": gc.get_freeze_count() > 40_000, "works": gc.isenabled()}
from shared.routes import videos
from shared.routes.calls import Request, pieces, respond

async def first_calls():
    headers = {"authorization": "Bearer sk-1234", "content-type": "application/json"}
    body = json.dumps({"prompt": "A cat", "seconds": "4"}).encode()
    created = await respond(Request("POST", headers, body=pieces(body)), videos.create_video)
    parts = {"video_id": json.loads(created.body)["id"]}
    assert (await respond(Request("GET", headers, parts=parts), videos.get_video)).status == 200
    assert (await respond(Request("DELETE", headers, parts=parts), videos.delete_video)).status == 200

asyncio.run(first_calls())
print(json.dumps({"modules": list(sys.modules), "collector": collector}))
"""
# Each of these libraries takes a cold start a few tenths of a second.
HEAVY = {"azure.storage.blob", "azure.identity", "azure.data.tables", "httpx", "PIL", "opentelemetry.sdk"}
# These take it a few milliseconds each, with what they import.
SELDOM = {"aiohttp.web", "aiohttp.web_urldispatcher", "csv", "shared.routes.operator", "shared.routes.paths"}


@pytest.fixture(scope="module")
def fresh(azurite: str) -> Any:
    """What a new process told after its first calls."""
    given = {"AZURE_OPENAI_API_BASE": "https://example.openai.azure.com/", "AZURE_OPENAI_API_KEY": "key"}
    env = os.environ | given | {"AzureWebJobsStorage": azurite, "GATEWAY_MASTER_KEY": "sk-1234", "TASK_HUB": "VideoGateway"}
    result = subprocess.run([sys.executable, "-c", FIRST_CALLS], env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_a_create_and_a_status_import_no_client_of_blobs_and_none_of_identities(fresh: Any) -> None:
    assert not HEAVY.intersection(fresh["modules"])


def test_a_create_and_a_status_import_nothing_that_only_other_calls_need(fresh: Any) -> None:
    assert not SELDOM.intersection(fresh["modules"])


def test_nobody_looks_for_garbage_among_the_apps_modules(fresh: Any) -> None:
    """Neither while they load nor later."""
    assert fresh["collector"] == {"looked": False, "kept": True, "works": True}
