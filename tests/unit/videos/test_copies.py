"""The copies that servers keep of videos, where they cannot be deleted at once."""

from datetime import timedelta

import httpx
import pytest
from msgspec.structs import replace

from shared.media.video import Video
from shared.upkeep.sweep import Sweep
from tests.fakes.orchestrations import Engine
from tests.fakes.servers import VllmServer
from tests.fakes.upstream import error
from tests.fakes.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.world(server=VllmServer, max_running=4)]

BUSY = error(409, "Video output not yet available. Please try again later.")
DEAD = httpx.ConnectError("refused")


async def made(world: World, *, answers: list[httpx.Response | Exception]) -> Video:
    """A completed video whose copy the server is asked to delete, and answers so."""
    video = await world.start(prompt=f"A cat {len(world.upstream.asked)}")
    await world.submitted(video.id)
    world.upstream.end()
    world.upstream.script("delete", *answers)
    return await world.live(video.id)


async def swept(world: World) -> None:
    await Sweep(world.gateway, Engine()).run()


async def noted(world: World) -> list[str]:
    return [row.values["video"] async for row in world.gateway.tables.pools.scan("copies")]


@pytest.mark.parametrize("answer", [BUSY, DEAD, error(503, "busy")], ids=["refused", "no connection", "trouble"])
async def test_a_copy_that_is_not_deleted_at_once_is_deleted_by_the_sweep(
    world: World, answer: httpx.Response | Exception
) -> None:
    """One failed call leaves nothing on the server's disk; the video was completed meanwhile."""
    video = await made(world, answers=[answer])
    assert video.status == "completed"
    assert list(world.upstream.jobs) == [video.upstream_id]
    await swept(world)
    assert list(world.upstream.jobs) == []
    assert await noted(world) == []


async def test_a_copy_that_is_gone_is_not_asked_for_again(world: World) -> None:
    """A server that was started again knows no job."""
    await made(world, answers=[BUSY])
    world.upstream.jobs.clear()
    await swept(world)
    asked = world.upstream.asked.count("delete")
    await swept(world)
    assert world.upstream.asked.count("delete") == asked == 2


async def test_a_server_that_cannot_be_reached_is_asked_once_a_sweep(world: World) -> None:
    """However many copies it has."""
    for _ in range(3):
        await made(world, answers=[DEAD])
    world.upstream.script("delete", DEAD)
    await swept(world)
    assert world.upstream.asked.count("delete") == 4
    assert len(await noted(world)) == 3
    await swept(world)
    assert list(world.upstream.jobs) == []


async def test_a_copy_is_given_up_after_a_day_with_a_line_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It names video and deployment, so that the operator can remove the file."""
    video = await made(world, answers=[BUSY] * 3)
    await swept(world)
    assert await noted(world) == [video.id]
    world.clock.skip(timedelta(days=1).total_seconds())
    await swept(world)
    assert await noted(world) == []
    assert f"video {video.id}: its copy at {video.deployment} could not be deleted, and stays there" in caplog.text


async def test_a_copy_at_a_deployment_that_is_gone_is_given_up(world: World) -> None:
    """Nobody can be asked any more."""
    await made(world, answers=[BUSY])
    elsewhere = replace(world.model, deployments=(replace(world.model.deployments[0], name="another"),))
    await swept(world.with_model(elsewhere))
    assert await noted(world) == []


async def test_the_copy_of_a_video_that_its_caller_deletes_goes_too(world: World) -> None:
    """Where the server is away at that moment, by the sweep; the caller does not wait for it."""
    (only,) = world.model.deployments
    world = world.with_model(replace(world.model, deployments=(replace(only, delete_after_saving=False),)))
    video = await made(world, answers=[DEAD])
    assert list(world.upstream.jobs) == [video.upstream_id]
    assert (await world.send("DELETE", f"v1/videos/{video.id}", secret=world.secret)).status == 200
    await swept(world)
    assert list(world.upstream.jobs) == []


async def test_a_job_that_cannot_be_stopped_at_its_deadline_is_stopped_by_the_sweep(world: World) -> None:
    """Or it would go on in the engine for nobody."""
    video = await world.start()
    await world.submitted(video.id)
    world.upstream.end("in_progress")
    world.upstream.script("delete", BUSY)
    assert (await world.live(video.id, rounds=2000)).error_code == "deadline_exceeded"
    await swept(world)
    assert list(world.upstream.jobs) == []
