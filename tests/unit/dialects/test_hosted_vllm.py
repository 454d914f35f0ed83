"""A video on vLLM-Omni: what the gateway makes of a server that forgets, keeps and stops jobs."""

from io import BytesIO
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from PIL import Image

from shared.accounts.account import recount
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


def picture(colour: str) -> bytes:
    image = BytesIO()
    Image.new("RGB", (720, 1280), colour).save(image, format="PNG")
    return image.getvalue()


@pytest.mark.world(server=VllmServer, max_running=2)
async def test_lost_creates_with_reference_images_are_found(world: World) -> None:
    """The list shows no image. Nobody else asks the server, and equal creates go one at a time, so
    that each video gets the job of its own image.
    """
    videos = [await world.start(input_reference=picture(colour)) for colour in ("navy", "red")]
    for video in videos:
        world.upstream.accept_then(RESET)
        await world.gateway.submission.submit(video.id)
        world.clock.skip(30)  # longer than a deployment rests after a lost answer
    assert world.upstream.asked.count("create") == 1
    for video in videos:
        assert await world.submitted(video.id) == {"done": True}
    assert [(await world.video(each.id)).upstream_id for each in videos] == list(world.upstream.jobs)


@pytest.mark.world(server=VllmServer, shared=True)
async def test_at_a_shared_server_a_job_of_an_unknown_image_is_not_adopted(world: World) -> None:
    """`shared: true`: another program may have sent the same prompt with another image."""
    video = await world.start(input_reference=picture("navy"))
    world.upstream.accept_then(RESET)
    await world.gateway.submission.submit(video.id)
    assert (await world.submitted(video.id))["failed"]["code"] == "upstream_uncertain"


async def test_an_error_of_the_server_itself_is_a_refusal(world: World) -> None:
    """It is raised before the job is recorded: the create is repeated without looking for a job."""
    video = await world.start()
    world.upstream.script("create", httpx.Response(503, json={"error": {"message": "not initialized", "code": 503}}))
    assert await world.submitted(video.id) == {"done": True}
    assert "list" not in world.upstream.asked
    world.upstream.script("create", httpx.Response(500, text="Bad gateway"))
    again = await world.start()
    await world.gateway.pool.ended(await world.video(video.id))
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
    world.upstream.script("content", httpx.ReadError("cut"))
    assert "again" in await world.gateway.rendering.check(video_id)
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


BODY = {"prompt": "A cat", "seconds": "4"}


async def post(world: World, **fields: Any) -> Any:
    return await world.send("POST", "v1/videos", secret=world.secret, body={"model": world.model.name, **BODY, **fields})


async def test_extra_parameters_reach_the_server_and_are_shown(world: World) -> None:
    """Recorded with the video, so that it can be made again."""
    sent = {"num_inference_steps": 30, "guidance_scale": "4.5", "extra_body": {"negative_prompt": "blurry", "seed": 7}}
    made = (await post(world, **sent)).json
    asked = {"num_inference_steps": 30, "guidance_scale": 4.5, "negative_prompt": "blurry", "seed": 7}
    assert made["parameters"] == asked
    await world.submitted(made["id"])
    (job,) = world.upstream.jobs.values()
    assert {name: job[name] for name in asked} == {name: str(value) for name, value in asked.items()}


async def test_a_seed_is_chosen_where_the_caller_gives_none(world: World) -> None:
    """Two videos of one prompt differ; a retry of the same request is the same request."""
    headers = {"idempotency-key": "once"}
    seeds = []
    for _ in range(2):
        made = await world.send("POST", "v1/videos", secret=world.secret, body=BODY, headers=headers)
        seeds.append(made.json["upstream"]["seed"])
    another = (await post(world)).json["upstream"]["seed"]
    assert seeds[0] == seeds[1] != another
    changed = await world.send("POST", "v1/videos", secret=world.secret, body={**BODY, "seed": 1}, headers=headers)
    assert changed.code == "idempotency_key_reused"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"num_inference_steps": 201}, "invalid_value", "num_inference_steps"),
        ({"seed": "x"}, "invalid_type", "seed"),
        ({"extra_params": {"a": 1}}, "not_supported", "extra_params"),
        ({"frame_interpolation_model_path": "/etc"}, "not_supported", "frame_interpolation_model_path"),
        ({"seed": 1, "extra_body": {"seed": 2}}, "duplicate_parameter", "seed"),
        ({"num_frames": 240}, "invalid_value", "num_frames"),
        ({"width": 720}, "invalid_value", "size"),
        ({"negative_prompt": "é" * 7_000}, "invalid_value", "negative_prompt"),
    ],
)
async def test_what_a_parameter_may_not_be_costs_nothing(world: World, fields: dict[str, Any], code: str, param: str) -> None:
    """It is refused before anything is reserved."""
    reply = await post(world, **fields)
    assert (reply.status, reply.code, reply.json["error"]["param"]) == (400, code, param)
    assert (await world.account()).reserved == 0


@pytest.mark.parametrize("name", ["n", "num_outputs_per_prompt", "lora", "input_references", "extra_params"])
async def test_what_the_gateway_does_not_pass_on_is_refused_before_anything_is_spent(world: World, name: str) -> None:
    """Several outputs, of which one alone could be fetched; files and addresses of the server's."""
    value = 2 if name in ("n", "num_outputs_per_prompt") else {"path": "/etc"}
    refused = await post(world, **{name: value})
    assert (refused.status, refused.code, refused.json["error"]["param"]) == (400, "not_supported", name)
    assert (await world.account()).reserved == 0


async def test_one_output_may_be_asked_for(world: World) -> None:
    """It is what a create makes."""
    assert (await post(world, n=1, num_outputs_per_prompt="1")).status == 200


async def test_frames_and_sides_are_another_way_to_say_length_and_size(world: World) -> None:
    """They are what the server follows, so they are what is paid."""
    body = {"model": world.model.name, "prompt": "A cat", "num_frames": 192, "width": 1280, "height": 720}
    made = (await world.send("POST", "v1/videos", secret=world.secret, body=body)).json
    assert (made["seconds"], made["size"]) == ("8", "1280x720")
    assert (await world.account()).reserved == 800_000


async def test_a_video_costs_what_it_really_was(world: World) -> None:
    """Of the server's time here; the reservation is the most it can come to."""
    able = replace(world.model.capability, per_gpu_second=1_000, most_gpu_seconds=600)
    world = world.with_model(replace(world.model, capability=able))
    video = await world.start()
    assert (await world.account()).reserved == 600_000
    await world.submitted(video.id)
    for job in world.upstream.jobs.values():
        job |= {"inference_time_s": 41.5, "num_frames": 97, "fps": 24.0, "file_name": "/data/a.mp4"}
    world.upstream.end()
    made = await world.live(video.id)
    account = await world.account()
    assert (made.cost, account.spend, account.reserved) == (41_500, 41_500, 0)
    assert recount(account, [each async for each in world.gateway.videos.of(world.owner)]) == account
    told = (await world.send("GET", f"v1/videos/{video.id}", secret=world.secret)).json["upstream"]
    assert told == {"inference_time_s": 41.5, "fps": 24.0, "num_frames": 97, "seed": made.asked["seed"]}


async def test_progress_is_estimated_and_said_to_be(world: World) -> None:
    """The server tells none until its job is done."""
    video_id = await accepted(world)
    (job,) = world.upstream.jobs.values()
    job["status"] = "in_progress"
    seen = []
    for _ in range(4):
        await world.gateway.rendering.check(video_id)
        told = (await world.send("GET", f"v1/videos/{video_id}", secret=world.secret)).json
        seen.append((told["progress"], told["progress_estimated"]))
        await world.clock.sleep(60)
    assert seen[0] == (0, True)
    assert [each for each, _ in seen] == sorted({each for each, _ in seen}) or seen[-1][0] == 95
    world.upstream.end()
    await world.live(video_id)
    told = (await world.send("GET", f"v1/videos/{video_id}", secret=world.secret)).json
    assert (told["progress"], told["progress_estimated"]) == (100, False)
