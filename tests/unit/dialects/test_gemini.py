"""A video at Google's OpenAI layer, as its documentation has it."""

import httpx
import pytest

from shared.dialects.dialect import Ask
from shared.dialects.known import GEMINI
from tests.fakes.servers import GeminiServer
from tests.fakes.upstream import error
from tests.fakes.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.world(server=GeminiServer)]


@pytest.mark.parametrize(
    ("size", "ratio", "resolution"),
    [("1280x720", "16:9", "720p"), ("1080x1920", "9:16", "1080p"), ("3840x2160", "16:9", "4k")],
)
def test_length_and_size_are_said_in_googles_words(size: str, ratio: str, resolution: str) -> None:
    """It documents neither `seconds` nor `size`."""
    said = GEMINI.form("veo", Ask("A cat", 8, size))
    asked = {"duration_seconds": "8", "aspect_ratio": ratio, "resolution": resolution}
    assert said == {"model": "veo", "prompt": "A cat", **asked}


async def test_a_film_is_fetched_with_the_key_from_the_address_in_the_job(world: World) -> None:
    """That of the deployment's own server; there is no route for contents."""
    keys: list[str | None] = []

    def note(request: httpx.Request) -> None:
        keys.append(request.headers.get("authorization"))

    world.upstream.before(note)
    video = await world.start()
    await world.submitted(video.id)
    assert "again" in await world.gateway.rendering.check(video.id)
    assert (await world.video(video.id)).status == "in_progress"
    world.upstream.end()
    assert (await world.live(video.id)).status == "completed"
    assert world.upstream.asked[-1] == "file"
    assert set(keys) == {"Bearer upstream-secret"}


async def test_a_lost_answer_is_no_reason_to_pay_twice(world: World) -> None:
    """Nobody can look for the job: there is no list."""
    video = await world.start()
    world.upstream.script("create", httpx.ReadError("reset"))
    done = await world.live(video.id)
    assert (done.error_code, world.upstream.asked) == ("upstream_uncertain", ["create"])


async def test_a_key_that_google_does_not_take_is_no_fault_of_the_request(world: World) -> None:
    """It says so under 400: the deployment is closed, and the video waits."""
    video = await world.start()
    world.upstream.script("create", error(400, "API key not valid. Please pass a valid API key."))
    assert "again" in await world.gateway.submission.submit(video.id)
    assert (await world.video(video.id)).attempted_at is None
    assert await world.gateway.pool.troubles(world.model)


async def test_what_the_documentation_does_not_have_is_not_asked_for(world: World) -> None:
    """Deleting a finished video is ours alone."""
    video = await world.start()
    await world.submitted(video.id)
    world.upstream.end()
    await world.live(video.id)
    assert (await world.send("DELETE", f"v1/videos/{video.id}", secret=world.secret)).status == 200
    assert "delete" not in world.upstream.asked
