"""The images of a video: fetched once, told apart from those that will come, and gone with it."""

import httpx
import pytest

from shared.media.video import Video
from tests.fakes.upstream import error
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

IMAGE = b"RIFF....WEBP a thumbnail"


def image(data: bytes = IMAGE, media_type: str = "image/webp") -> httpx.Response:
    headers = {"content-type": media_type, "content-length": str(len(data))}
    return httpx.Response(200, stream=httpx.ByteStream(data), headers=headers)


async def completed(world: World) -> Video:
    video = await world.start()
    await world.submitted(video.id)
    world.upstream.end()
    return await world.live(video.id)


async def thumbnail(
    world: World, video: Video, method: str = "GET", variant: str = "thumbnail", **headers: str
) -> tuple[int, str, bytes]:
    """The status, the code of an error, and the body."""
    query = {"variant": variant}
    reply = await world.send(method, f"v1/videos/{video.id}/content", secret=world.secret, query=query, headers=headers)
    return reply.status, reply.code if reply.status >= 400 else "", reply.body


@pytest.mark.parametrize(
    "failure",
    [
        error(429, "Too many requests", headers={"retry-after": "7"}),
        error(503, "Overloaded"),
        error(401, "Access denied"),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
    ],
    ids=["429", "503", "401", "no connection", "no answer"],
)
async def test_an_image_that_cannot_be_had_just_now_is_to_be_asked_for_again(
    world: World, failure: httpx.Response | Exception
) -> None:
    """503 with the time to wait; when the upstream has recovered, so has the image."""
    video = await completed(world)
    world.upstream.script("content", failure, image())
    reply = await world.send("GET", f"v1/videos/{video.id}/content", secret=world.secret, query={"variant": "thumbnail"})
    assert (reply.status, reply.code) == (503, "variant_unavailable")
    assert reply.headers["retry-after"] == ("7" if getattr(failure, "status_code", 0) == 429 else "5")
    assert (await thumbnail(world, video))[0] == 302


@pytest.mark.parametrize(
    "answer",
    [
        error(404, "The video does not exist."),
        error(400, "No such variant."),
        image(media_type="text/html"),
        image(b"", "image/png"),
    ],
    ids=["missing", "refused", "another type", "no image"],
)
async def test_an_image_that_is_not_there_is_not_found(world: World, answer: httpx.Response) -> None:
    """Asking again cannot help."""
    video = await completed(world)
    world.upstream.script("content", answer)
    assert (await thumbnail(world, video))[:2] == (404, "variant_not_found")


@pytest.mark.parametrize("hidden_first", [True, False])
async def test_a_delete_while_an_image_is_fetched_leaves_no_image_behind(world: World, hidden_first: bool) -> None:
    """Whichever of the two ends first."""
    video = await completed(world)
    fetched = False

    async def delete(request: httpx.Request) -> None:
        nonlocal fetched
        if request.url.path.endswith("/content") and not fetched and hidden_first:
            fetched = True
            await world.gateway.lifecycle.delete(video.id)
        if request.method == "DELETE" and not fetched and not hidden_first:
            fetched = True
            world.upstream.script("content", image())
            await thumbnail(world, video)

    world.upstream.meanwhile(delete)
    if hidden_first:
        world.upstream.script("content", image())
        assert (await thumbnail(world, video))[:2] == (404, "video_not_found")
    else:
        await world.gateway.lifecycle.delete(video.id)
    assert fetched
    assert await world.gateway.archive.length(video, "thumbnail") is None


@pytest.mark.world(knobs={"delivery": "proxy"})
async def test_images_pass_through_the_app_where_storage_is_private(world: World) -> None:
    """No signed URL is given out; ranges and HEAD work as for the video itself."""
    video = await completed(world)
    world.upstream.script("content", image())
    assert await thumbnail(world, video) == (200, "", IMAGE)
    assert await thumbnail(world, video, range="bytes=4-7") == (206, "", IMAGE[4:8])
    head = await world.send("HEAD", f"v1/videos/{video.id}/content", secret=world.secret, query={"variant": "thumbnail"})
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(IMAGE)))
    assert head.headers["content-disposition"] == f'attachment; filename="{video.id}.thumbnail.webp"'
    assert world.upstream.asked.count("content") == 2, "the film and the image were fetched once each"


async def test_a_variant_that_the_operator_says_a_model_has_not_is_never_asked_for(world: World) -> None:
    """`model_info.variants` of the configuration."""
    video = await completed(world)
    able = type(world.model.capability)(("720x1280",), (4, 8, 12), {"720x1280": 100_000}, variants=("video", "thumbnail"))
    changed = world.with_model(type(world.model)(world.model.name, able, world.model.deployments))
    asked = world.upstream.asked.count("content")
    assert (await thumbnail(changed, video, variant="spritesheet"))[:2] == (404, "variant_not_found")
    assert world.upstream.asked.count("content") == asked
