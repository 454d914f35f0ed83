"""A video on vLLM-Omni: what the gateway makes of a server that forgets, keeps and stops jobs."""

from typing import Any

import httpx
import pytest

from tests.fakes.servers import VllmServer
from tests.fakes.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.world(server=VllmServer)]

RESET = httpx.ReadError("reset")


async def accepted(world: World, **fields: Any) -> str:
    video = await world.start(**fields)
    assert await world.submitted(video.id) == {"done": True}
    return video.id


async def slots(world: World) -> list[str]:
    return list(await world.gateway.pool.holders(world.model))


def fail(world: World, code: int = 500, message: str = "CUDA out of memory") -> None:
    world.upstream.end("failed", {"code": code, "message": message})


@pytest.mark.parametrize(
    ("code", "message", "told"),
    [
        (500, "CUDA out of memory in /opt/engine/run.py", ("generation_failed", "CUDA out of memory in ...")),
        (400, "Input was blocked by Cosmos3 guardrails.", ("moderation_blocked", "Input was blocked by Cosmos3 guardrails.")),
    ],
)
async def test_a_failed_job_is_seen_at_the_next_look(world: World, code: int, message: str, told: tuple[str, str]) -> None:
    """It comes as an HTTP error, whose body is the job."""
    video_id = await accepted(world)
    fail(world, code, message)
    failure = (await world.gateway.rendering.check(video_id))["failed"]
    assert (failure["code"], failure["message"]) == told
    await world.gateway.lifecycle.finish(video_id, failure)
    assert await slots(world) == []


async def test_a_lost_create_is_found_by_its_prompt_beside_a_neighbours_failures(world: World) -> None:
    """Prompts are kept to the letter: a similar one is somebody else's."""
    neighbour = await world.start(prompt="A cat sleeps")
    await world.submitted(neighbour.id)
    fail(world)
    await world.live(neighbour.id)
    video = await world.start(prompt="A cat sleeps in the sun")
    world.upstream.accept_then(RESET)
    assert await world.submitted(video.id) == {"done": True}
    assert world.upstream.asked.count("create") == 2


async def test_an_error_of_the_server_itself_is_a_refusal(world: World) -> None:
    """It is raised before the job is recorded: the create is repeated without looking for a job."""
    video = await world.start()
    world.upstream.script("create", httpx.Response(503, json={"error": {"message": "not initialized", "code": 503}}))
    assert await world.submitted(video.id) == {"done": True}
    assert "list" not in world.upstream.asked
    world.upstream.script("create", httpx.Response(500, text="Bad gateway"))
    again = await world.start()
    await world.gateway.pool.ended(world.model.name, video.id)
    await world.submitted(again.id)
    assert "list" in world.upstream.asked


async def test_a_job_that_a_restart_has_lost_is_made_once_more(world: World) -> None:
    """For nothing: the caller sees a video that waits, and then its film."""
    video_id = await accepted(world)
    world.upstream.jobs.clear()
    begin = world.clock.now()
    while "again" in (outcome := await world.gateway.rendering.check(video_id)):
        await world.clock.sleep(outcome["again"])
    assert outcome == {"resubmit": True}
    assert 60 <= (world.clock.now() - begin).total_seconds() < 90
    assert (await world.video(video_id)).status == "queued"
    assert await world.gateway.rendering.check(video_id) == {"resubmit": True}
    assert await world.submitted(video_id) == {"done": True}
    world.upstream.end()
    video = await world.live(video_id)
    assert (video.status, video.lost_jobs, world.upstream.asked.count("create")) == ("completed", 1, 2)
    assert (await world.account()).spend == video.cost


async def test_a_job_that_is_lost_twice_fails(world: World) -> None:
    """A server that ends whenever it has such a job would otherwise be killed for ever."""
    video_id = await accepted(world)

    def forget(request: httpx.Request) -> None:
        if request.method == "GET":
            world.upstream.jobs.clear()

    world.upstream.before(forget)
    video = await world.live(video_id)
    assert (video.error_code, world.upstream.asked.count("create")) == ("upstream_video_missing", 2)
    assert (await world.account()).spend == 0
    assert await slots(world) == []


async def test_a_film_that_is_lost_before_it_was_fetched_is_made_once_more(world: World) -> None:
    """The server restarted between the end of the job and the download."""
    video_id = await accepted(world)
    world.upstream.end()
    assert await world.gateway.rendering.check(video_id) == {"done": True}
    world.upstream.jobs.clear()
    while "again" in (outcome := await world.gateway.rendering.save(video_id)):
        await world.clock.sleep(outcome["again"])
    assert outcome == {"resubmit": True}
    assert await world.submitted(video_id) == {"done": True}
    world.upstream.end()
    assert (await world.live(video_id)).status == "completed"


async def test_deleting_a_running_video_stops_it_and_frees_its_slot_at_once(world: World) -> None:
    """The engine is free as soon as the answer is there, and nothing is charged."""
    video_id = await accepted(world)
    assert (await world.send("DELETE", f"v1/videos/{video_id}", secret=world.secret)).status == 200
    assert world.upstream.jobs == {}
    assert await slots(world) == []
    account = await world.account()
    assert (account.spend, account.reserved, account.running) == (0, 0, 0)
    assert (await world.live(video_id)).error_code == "cancelled"


async def test_what_cannot_be_stopped_at_once_is_stopped_by_the_next_look(world: World) -> None:
    """The server is busy cancelling, or the process was killed before it asked."""
    video_id = await accepted(world)
    world.upstream.script("delete", httpx.Response(409, json={"detail": "Cancellation in progress."}))
    await world.send("DELETE", f"v1/videos/{video_id}", secret=world.secret)
    assert await slots(world) == [video_id]
    assert (await world.gateway.rendering.check(video_id))["failed"]["code"] == "cancelled"
    assert world.upstream.jobs == {}


async def test_a_video_that_is_deleted_when_its_job_has_ended_is_charged(world: World) -> None:
    """There is nothing left to stop."""
    video_id = await accepted(world)
    world.upstream.end()
    await world.send("DELETE", f"v1/videos/{video_id}", secret=world.secret)
    assert (await world.live(video_id)).status == "completed"
    assert (await world.account()).spend == 400_000
    assert world.upstream.jobs == {}


async def test_the_deadline_counts_from_the_first_sight_of_a_running_job(world: World) -> None:
    """At the deadline the job is stopped, so that the next one does not wait behind it."""
    video_id = await accepted(world)
    await world.clock.sleep(1_000)
    (job,) = world.upstream.jobs.values()
    job["status"] = "in_progress"
    await world.gateway.rendering.check(video_id)
    await world.clock.sleep(1_700)
    assert "again" in await world.gateway.rendering.check(video_id)
    await world.clock.sleep(200)
    assert (await world.gateway.rendering.check(video_id))["failed"]["code"] == "deadline_exceeded"
    assert world.upstream.jobs == {}


@pytest.mark.world(upstream_queue_seconds=60.0)
async def test_the_servers_own_queue_has_a_deadline_of_its_own(world: World) -> None:
    """A job that has not started by then never will."""
    video_id = await accepted(world)
    await world.clock.sleep(50)
    assert "again" in await world.gateway.rendering.check(video_id)
    await world.clock.sleep(11)
    failure = (await world.gateway.rendering.check(video_id))["failed"]
    assert (failure["code"], "start" in failure["message"]) == ("deadline_exceeded", True)


async def test_nothing_stays_on_the_servers_disk(world: World) -> None:
    """The film is deleted there once it is stored here, also where the step is run again."""
    video_id = await accepted(world)
    world.upstream.end()
    assert (await world.live(video_id)).status == "completed"
    assert world.upstream.jobs == {}
    await world.gateway.lifecycle.finish(video_id, None)
    assert (await world.video(video_id)).status == "completed"


@pytest.mark.world(delete_after_saving=False)
async def test_the_operator_may_keep_the_servers_copies(world: World) -> None:
    """`delete_after_saving: false`."""
    video_id = await accepted(world)
    world.upstream.end()
    await world.live(video_id)
    assert len(world.upstream.jobs) == 1


async def test_what_the_server_does_not_have_costs_nothing(world: World) -> None:
    """A remix is refused before anything is reserved or asked for; there is no thumbnail."""
    video_id = await accepted(world)
    world.upstream.end()
    await world.live(video_id)
    asked = len(world.upstream.asked)
    remix = await world.send("POST", f"v1/videos/{video_id}/remix", secret=world.secret, body={"prompt": "A dog"})
    assert (remix.status, remix.code) == (400, "not_supported")
    image = await world.send("GET", f"v1/videos/{video_id}/content", secret=world.secret, query={"variant": "thumbnail"})
    assert (image.status, image.code) == (404, "variant_not_found")
    assert len(world.upstream.asked) == asked
