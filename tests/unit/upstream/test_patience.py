"""What an upstream may take its time for, on a loop whose time passes at once: a byte now and then
is not an answer.
"""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from shared import gateway as composition
from shared.config import settings
from shared.gateway import Gateway
from shared.media.content import Content
from shared.media.requests import parse_create
from shared.media.video import MASTER_OWNER, Video
from shared.storage.blobs import Archive
from shared.upstream.identity import Connections
from tests.fakes.loop import JumpingLoop, LoopClock
from tests.fakes.table import Faults, FaultyTables, MemoryTable
from tests.fakes.upstream import unread

pytestmark = pytest.mark.anyio


class Trickle(httpx.AsyncByteStream):
    """A space a second, for ever: the answer to nothing."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(1)
            yield b" "


class Draining(Archive):
    """Reads what comes, and keeps none of it."""

    async def save(self, video: Video, content: Content) -> int:
        return sum([len(chunk) async for chunk in content.chunks])

    async def length(self, video: Video, variant: str = "video") -> int | None:
        return None


class Links(Connections):
    def __init__(self, transport: httpx.MockTransport) -> None:
        super().__init__(None)
        self._http = httpx.AsyncClient(transport=transport, timeout=None)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Coroutine tests run on a loop whose time passes at once."""
    return "asyncio", {"loop_factory": JumpingLoop}


async def told(trickling: str) -> tuple[Any, float]:
    """The outcome of the step that meets the trickle, and how many seconds it took."""

    def answer(request: httpx.Request) -> httpx.Response:
        if f"{request.method} {request.url.path.rpartition('/')[2]}".startswith(trickling):
            return httpx.Response(200, stream=Trickle())
        return unread(httpx.Response(200, json={"id": "job", "status": "completed"}))

    gateway = built(httpx.MockTransport(answer))
    request = parse_create({"prompt": "A cat"}, gateway.settings.catalog)
    video_id = (await gateway.lifecycle.start(request, MASTER_OWNER)).video.id
    begin = asyncio.get_running_loop().time()
    for step in (gateway.submission.submit, gateway.rendering.check, gateway.rendering.save):
        begin = asyncio.get_running_loop().time()
        outcome = await step(video_id)
        if "again" in outcome:
            break
    return outcome, asyncio.get_running_loop().time() - begin


def built(transport: httpx.MockTransport) -> Gateway:
    given = settings.load(
        {
            "AzureWebJobsStorage": "UseDevelopmentStorage=true",
            "AZURE_OPENAI_API_BASE": "https://example.openai.azure.com/",
            "AZURE_OPENAI_API_KEY": "upstream-secret",
        }
    )
    clock = LoopClock()
    tables = FaultyTables(given.storage, Faults(), inner=(MemoryTable(), MemoryTable()))
    gateway = composition.build(given, clock, Random(1), Links(transport), tables)
    archive = Draining(given.storage, lambda: None, clock, 60)
    return replace(gateway, archive=archive, rendering=replace(gateway.rendering, archive=archive))


async def test_a_create_that_trickles_is_unclear_after_a_minute() -> None:
    """The connection was made and something may have come of it, so that it is looked for and not
    sent again.
    """
    outcome, seconds = await told("POST")
    assert ("again" in outcome, seconds) == (True, 60)


async def test_a_poll_that_trickles_is_given_up_and_repeated() -> None:
    """Long before the host would end the function without a word."""
    outcome, seconds = await told("GET job")
    assert ("again" in outcome, seconds) == (True, 120)


async def test_a_download_that_trickles_is_given_up_and_repeated() -> None:
    """There is time for a large video on a slow line, and less than the host's ten minutes."""
    outcome, seconds = await told("GET content")
    assert ("again" in outcome, seconds) == (True, 480)
