"""The images of a video that are drawn from its film: once, and gone with it."""

import asyncio
import io
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from PIL import Image

from shared.media import previews
from shared.media.video import Video
from tests.fakes.films import playable
from tests.fakes.servers import VllmServer
from tests.fakes.upstream import error
from tests.fakes.world import World

pytestmark = pytest.mark.anyio
NO_IMAGES = pytest.mark.world(server=VllmServer)
TYPES = {"thumbnail": "WEBP", "spritesheet": "JPEG"}


async def completed(world: World) -> Video:
    world.upstream.film = playable()
    video = await world.start()
    await world.submitted(video.id)
    world.upstream.end()
    return await world.live(video.id)


async def image(
    world: World, video: Video, variant: str = "thumbnail", method: str = "GET", **headers: str
) -> tuple[int, bytes]:
    query = {"variant": variant, "delivery": "proxy"}
    reply = await world.send(method, f"v1/videos/{video.id}/content", secret=world.secret, query=query, headers=headers)
    return reply.status, reply.code.encode() if reply.status >= 400 else reply.body


Happening = Callable[[], Awaitable[None]]


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> list[Happening | None]:
    """A list that grows by None with each image that is drawn. What is put into it before happens
    while the next one is.
    """
    happenings: list[Happening | None] = []
    real = previews.drawn

    async def watched(variant: str, length: int, read: previews.Read) -> bytes:
        happening = happenings.pop() if happenings and happenings[-1] else None
        happenings.append(None)
        if happening is not None:
            await happening()
        return await real(variant, length, read)

    monkeypatch.setattr(previews, "drawn", watched)
    return happenings


@NO_IMAGES
@pytest.mark.parametrize("variant", TYPES)
async def test_an_image_that_the_server_does_not_make_is_drawn_once(
    world: World, variant: str, drawings: list[Happening | None]
) -> None:
    """The server is not asked for it; ranges and HEAD are as those of the film."""
    video = await completed(world)
    asked = len(world.upstream.asked)
    assert await image(world, video, variant, "HEAD") == (200, b"")
    status, data = await image(world, video, variant)
    assert (status, Image.open(io.BytesIO(data)).format) == (200, TYPES[variant])
    assert await image(world, video, variant, range="bytes=-9") == (206, data[-9:])
    assert len(world.upstream.asked) == asked
    assert drawings == [None]


async def test_an_image_that_the_upstream_no_longer_has_is_drawn(world: World) -> None:
    """Azure OpenAI forgets a video, with its images, after a day."""
    video = await completed(world)
    world.upstream.script("content", error(404, "The video does not exist."))
    status, data = await image(world, video)
    assert (status, Image.open(io.BytesIO(data)).format) == (200, "WEBP")


class Noted(httpx.AsyncByteStream):
    """Notes whether anybody asks for its bytes."""

    asked = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.asked = True
        yield playable()


async def test_a_film_that_comes_instead_of_an_image_is_not_read(world: World) -> None:
    """As from servers that do not know the parameter."""
    video = await completed(world)
    film = Noted()
    world.upstream.script("content", httpx.Response(200, stream=film, headers={"content-type": "video/mp4"}))
    status, data = await image(world, video)
    assert (status, Image.open(io.BytesIO(data)).format) == (200, "WEBP")
    assert not film.asked


async def test_an_image_of_a_deployment_that_is_no_longer_configured_is_drawn(world: World) -> None:
    """The film is ours."""
    video = await completed(world)
    (deployment, *_) = world.model.deployments
    moved = type(deployment)("elsewhere", deployment.dialect, deployment.model, "https://elsewhere.test/openai/v1")
    changed = world.with_model(type(world.model)(world.model.name, world.model.capability, (moved,)))
    assert (await image(changed, video))[0] == 200


@NO_IMAGES
async def test_many_who_ask_at_once_share_one_drawing(world: World, drawings: list[Happening | None]) -> None:
    """One film is decoded at a time; who has waited looks first whether it is done."""
    video = await completed(world)
    answers = await asyncio.gather(*(image(world, video) for _ in range(5)))
    assert {status for status, _ in answers} == {200}
    assert drawings == [None]


@NO_IMAGES
async def test_a_delete_while_an_image_is_drawn_leaves_no_image_behind(world: World, drawings: list[Happening | None]) -> None:
    """The film that is read goes away, or its record just before the image is stored."""
    video = await completed(world)
    drawings.append(lambda: world.gateway.lifecycle.delete(video.id))
    assert (await image(world, video))[0] in (404, 410)
    assert await world.gateway.archive.length(video, "thumbnail") is None


@NO_IMAGES
@pytest.mark.world(knobs={"retention_days": 1})
async def test_retention_that_ends_while_an_image_is_drawn_leaves_no_image_behind(
    world: World, drawings: list[Happening | None]
) -> None:
    """The sweep has dropped what there was, and does not come again."""
    video = await completed(world)

    async def expire() -> None:
        await world.clock.sleep(timedelta(days=1).total_seconds())

    drawings.append(expire)
    assert await image(world, video) == (410, b"content_gone")
    assert await world.gateway.archive.length(video, "thumbnail") is None


def test_what_decodes_is_imported_by_nothing_that_is_imported_at_start() -> None:
    """Nor are the modules that handle images: a cold start pays for neither."""
    modules = ("function_app", "shared.routes.content", "shared.videos.images", "shared.media.previews")
    program = f"import sys, {', '.join(modules)}; print(*{{'av', 'PIL', 'shared.media.preview'}} & sys.modules.keys())"
    checkout = Path(__file__).parents[3]
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=checkout, capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout.strip() == ""
