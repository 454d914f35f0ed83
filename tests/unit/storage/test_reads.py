"""Reading a stored video: across connections that break, and never of two films."""

from collections.abc import AsyncIterator

import httpx
import pytest

from shared.errors import Gone, StorageUnavailable
from shared.media.video import Video
from tests.fakes.world import World

pytestmark = pytest.mark.anyio


class Breaking(httpx.AsyncBaseTransport):
    """Storage whose answers break off after so many bytes each; `None`: not at all."""

    def __init__(self, *after: int | None) -> None:
        self._after = list(after)
        self._real = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        after = self._after.pop(0)
        if after == 0:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
        answer = await self._real.handle_async_request(request)
        body = await answer.aread()
        return httpx.Response(answer.status_code, headers=answer.headers, stream=Part(body, after))

    async def aclose(self) -> None:
        await self._real.aclose()


class Part(httpx.AsyncByteStream):
    def __init__(self, body: bytes, length: int | None) -> None:
        self._body, self._length = body, length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body[: self._length]
        if self._length is not None:
            raise httpx.ReadError("reset")


async def completed(world: World) -> Video:
    video = await world.start()
    await world.submitted(video.id)
    world.upstream.end()
    return await world.live(video.id)


def through(world: World, *after: int | None) -> None:
    world.gateway.archive._http = httpx.AsyncClient(transport=Breaking(*after))


@pytest.mark.parametrize("after", [(100, None), (0, None), (1, 0, 0, 1, 0, 0, None), (5, 5, 5, 5, 5, None)])
async def test_a_read_goes_on_where_it_broke(world: World, after: tuple[int | None, ...]) -> None:
    """As storage's connections do while their reader is slow, or lies idle between two reads."""
    video = await completed(world)
    through(world, *after)
    assert await world.stored(video) == world.upstream.film


@pytest.mark.parametrize("after", [(0, 0, 0), (10, 0, 0, 0)])
async def test_storage_that_answers_nothing_is_given_up(world: World, after: tuple[int, ...]) -> None:
    """After three times in a row."""
    video = await completed(world)
    through(world, *after)
    with pytest.raises(StorageUnavailable):
        await world.stored(video)


async def test_a_film_that_was_replaced_is_not_read_on(world: World) -> None:
    """Its length may be the same; its tag is not."""
    video = await completed(world)
    archive = world.gateway.archive
    file = await archive.stored(video)
    assert file is not None
    blob = await archive._blob("videos", f"{video.owner}/{video.id}.mp4")
    await blob.upload_blob(bytes(file.length), overwrite=True)
    with pytest.raises(Gone):
        await archive.read(video, file, 0, file.length - 1)
