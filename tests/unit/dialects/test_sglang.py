"""A video on SGLang, which tells no prompts and gives back what it is sent as `model`."""

from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from tests.fakes.servers import SGLangServer
from tests.fakes.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.world(server=SGLangServer)]

RESET = httpx.ReadError("reset")


async def test_a_lost_create_is_found_by_its_mark(world: World) -> None:
    """Whatever neighbours make at the same moment, in the same size and length."""
    video = await world.start()
    world.upstream.accept_then(RESET)
    await world.gateway.submission.submit(video.id)
    (ours,) = world.upstream.jobs.values()
    for model in ("sora-2", "sora-2#video_0", ""):
        world.upstream.jobs[model or "x"] = {**ours, "id": model or "x", "model": model}
    world.upstream.jobs["failed"] = {**ours, "id": "failed", "model": "sora-2", "status": "failed", "error": {"message": "no"}}
    assert await world.submitted(video.id) == {"done": True}
    assert (await world.video(video.id)).upstream_id == ours["id"]
    assert world.upstream.asked.count("create") == 1


async def test_a_create_without_a_marked_job_was_not_made(world: World) -> None:
    """A neighbour's job of the same kind is no reason to doubt."""
    video = await world.start()

    world.upstream.script("create", RESET)
    await world.gateway.submission.submit(video.id)
    job: dict[str, Any] = {"id": "x", "status": "queued", "model": "sora-2", "seconds": "4", "size": "720x1280"}
    world.upstream.jobs["x"] = {**job, "progress": 0, "created_at": int(world.clock.now().timestamp())}
    assert await world.submitted(video.id) == {"done": True}
    assert world.upstream.asked.count("create") == 2


@pytest.mark.world(server=SGLangServer, max_running=2)
async def test_equal_creates_do_not_wait_for_one_that_is_unclear(world: World) -> None:
    """Each has a mark of its own."""
    (only,) = world.model.deployments
    beside = replace(world.model, name=f"{world.model.name}-b", deployments=(replace(only, name="b"),), aliases=())
    world = world.with_model(world.model, beside)
    first, second = await world.start(), await world.start(model=beside.name)
    world.upstream.accept_then(RESET)
    await world.gateway.submission.submit(first.id)
    assert await world.gateway.submission.submit(second.id) == {"done": True}


async def test_a_server_whose_scheduler_has_ended_refuses(world: World) -> None:
    """Nothing was made, so that no job is looked for."""
    video = await world.start()
    ended = httpx.Response(503, json={"error": "Scheduler worker exited; restart the server."})
    world.upstream.script("create", ended, ended)
    assert await world.submitted(video.id) == {"done": True}
    assert world.upstream.asked == ["create", "create", "create"]


async def test_a_film_is_asked_for_without_a_variant_and_deleted_then(world: World) -> None:
    """`variant` is the number of an output there."""
    video = await world.start()
    await world.submitted(video.id)
    world.upstream.end()
    assert (await world.live(video.id)).status == "completed"
    assert world.upstream.jobs == {}


async def test_a_film_in_the_servers_cloud_is_fetched_from_a_listed_host_alone(world: World) -> None:
    """With S3 the server keeps no film: the job names its address, which may be an internal one."""
    video = await world.start()
    await world.submitted(video.id)
    world.upstream.end()
    (job,) = world.upstream.jobs.values()
    job["url"] = "http://169.254.169.254/secrets"
    assert "again" in await world.gateway.rendering.check(video.id)
    await world.clock.sleep(3_000)
    failure = (await world.gateway.rendering.save(video.id))["failed"]
    assert failure["code"] == "content_unavailable"
    assert "content_hosts" in failure["message"]
    assert "169.254" not in failure["message"]
    (deployment,) = world.model.deployments
    listing = replace(deployment, content_hosts=("169.254.169.254",))
    world = world.with_model(replace(world.model, deployments=(listing,)))
    assert await world.gateway.rendering.save(video.id) == {"done": True}


async def test_a_running_job_is_seen_out(world: World) -> None:
    """DELETE only forgets the job: the engine goes on, and the film would stay on its disk."""
    video = await world.start()
    await world.submitted(video.id)
    await world.send("DELETE", f"v1/videos/{video.id}", secret=world.secret)
    assert "delete" not in world.upstream.asked
    assert list(await world.gateway.pool.holders(world.model)) == [video.id]


async def test_a_failure_tells_nothing_of_the_servers_files(world: World) -> None:
    """Its words reach the caller; the paths in them do not."""
    video = await world.start()
    await world.submitted(video.id)
    world.upstream.end("failed", {"message": "[Errno 28] No space left on device: '/root/outputs/a.mp4'"})
    failed = await world.live(video.id)
    assert (failed.error_code, failed.error_message) == ("generation_failed", "[Errno 28] No space left on device: '...'")
