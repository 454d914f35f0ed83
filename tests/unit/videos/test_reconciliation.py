"""Creates whose outcome is unclear, deployments that fail, and what happens to a job while nobody
knows of it.
"""

import asyncio
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from shared.upkeep.engine import Status
from shared.upkeep.sweep import Sweep
from shared.videos.watch import WATCHES
from tests.fakes.orchestrations import Engine
from tests.fakes.table import values_of
from tests.fakes.upstream import error
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

RESET = httpx.ReadError("reset")


async def slots(world: World) -> list[str]:
    return list(await world.gateway.pool.holders(world.model))


async def test_an_upstream_that_always_breaks_off_is_asked_twice_for_a_video(world: World) -> None:
    """Each of those creates may have been paid for, so one new attempt is all, and the error says
    what is known.
    """
    video = await world.start()
    broken = httpx.Response(502, text="<h1>Bad gateway</h1>", headers={"apim-request-id": "apim-9"})
    world.upstream.script("create", *[broken] * 50)
    done = await world.live(video.id)
    assert (done.error_code, done.upstream_request_id) == ("upstream_uncertain", "apim-9")
    assert world.upstream.asked.count("create") == 2


async def test_a_deployment_that_breaks_off_leaves_the_work_to_a_healthy_one(world: World) -> None:
    """It rests for longer each time and is chosen last, so that it costs the first videos minutes
    and the others nothing.
    """
    (only,) = world.model.deployments
    bad = replace(only, name="bad", base_url="https://bad.example.com/openai/v1", max_running=4, creates_per_minute=10)
    good = replace(bad, name="good", base_url="https://good.example.com/openai/v1")
    world = world.with_model(replace(world.model, deployments=(bad, good)))
    asked: list[str] = []

    def say(request: httpx.Request) -> httpx.Response | None:
        if request.method == "POST":
            asked.append(request.url.host)
        broken = request.method == "POST" and request.url.host == "bad.example.com"
        return httpx.Response(500) if broken else None

    world.upstream.before(say)
    videos = [await world.start(prompt=f"Cat {number:02}") for number in range(12)]
    begin = world.clock.now()
    for video in videos:
        assert await world.submitted(video.id) == {"done": True}
        await world.gateway.pool.ended(await world.video(video.id))
    assert asked.count("good.example.com") == 12
    assert asked.count("bad.example.com") <= 3
    assert (world.clock.now() - begin).total_seconds() < 600


async def test_a_lost_job_is_found_under_the_models_own_name(world: World) -> None:
    """The service tells the model and not the deployment; another deployment of the resource may be
    called just that.
    """
    (only,) = world.model.deployments
    same = replace(only, name="b", model="sora-2-b", base_model="sora-2")
    world = world.with_model(replace(world.model, deployments=(same, replace(only, name="a", model="sora-2"))))
    video = await world.start()
    world.upstream.accept_then(RESET)
    await world.gateway.submission.submit(video.id)
    (job,) = world.upstream.jobs.values()
    assert job["model"] == "sora-2-b"
    job["model"] = "sora-2"
    assert await world.submitted(video.id) == {"done": True}
    assert world.upstream.asked.count("create") == 1


@pytest.mark.parametrize(("closed_for", "end"), [(60, "moves"), (6 * 3600, "fails")], ids=["a moment", "good"])
async def test_a_fallback_that_is_closed_for_a_moment_will_do(world: World, closed_for: int, end: str) -> None:
    """Who has nothing else to wait for waits there; one that is gone as well is no help."""
    (only,) = world.model.deployments
    spare = replace(world.model, name=f"{world.model.name}-spare", deployments=(replace(only, name="spare"),))
    world = world.with_model(world.model, spare, fallbacks={world.model.name: (spare.name,)})
    await world.gateway.pool.take_down(world.model, only, "model_retired", 3600, lost=True)
    await world.gateway.pool.take_down(spare, spare.deployments[0], "upstream_auth_error", closed_for, lost=end == "fails")
    video = await world.start()
    outcome = await world.gateway.submission.submit(video.id)
    if end == "fails":
        assert outcome["failed"]["code"] == "model_retired"
    else:
        assert await world.submitted(video.id) == {"done": True}
        assert (await world.video(video.id)).fallback_from == world.model.name


async def test_a_video_deleted_between_its_bytes_and_its_end_is_deleted_upstream_too(world: World) -> None:
    """The vendor's copy has no reason to stay its day."""
    video = await world.start()
    await world.submitted(video.id)
    world.upstream.end()
    for step in (world.gateway.rendering.check, world.gateway.rendering.save):
        assert await step(video.id) == {"done": True}
    await world.gateway.lifecycle.delete(video.id)
    assert await world.gateway.rendering.save(video.id) == {"done": True}
    assert world.upstream.asked[-1] == "delete"


async def test_a_refusal_whose_slot_was_not_returned_is_not_taken_for_a_lost_answer(world: World) -> None:
    """Killed between the record and the slot: the video keeps the slot and asks again, and no job
    is looked for.
    """
    video = await world.start()
    world.upstream.script("create", error(429, "Too many running tasks"))
    dying = world.another()

    def die(writes: Any) -> None:
        if any("prompt" in values_of(each) and "attempted_at" not in values_of(each) for each in writes):
            world.faults.dies_after = len(world.faults.commits)

    world.faults.after = die
    killed = asyncio.create_task(dying.submission.submit(video.id))
    await world.faults.died.wait()
    killed.cancel()
    world.faults.after, world.faults.dies_after = lambda writes: None, None
    assert (await world.video(video.id)).attempted_at is None
    assert await slots(world) == [video.id]
    assert await world.submitted(video.id) == {"done": True}
    assert world.upstream.asked == ["create", "create"]


@pytest.mark.parametrize(("made_at", "creates"), [("now", 1), (None, 1), (1, 2)], ids=["since", "not told", "long ago"])
async def test_a_listed_job_that_cannot_be_read_forbids_a_second_one(world: World, made_at: Any, creates: int) -> None:
    """Unless it is older than the attempt: then it is nothing but odd."""
    video = await world.start()
    world.upstream.script("create", RESET)
    await world.gateway.submission.submit(video.id)
    moment = world.clock.now().timestamp() if made_at == "now" else made_at
    data = [{"created_at": moment, "status": "queued"}]
    world.upstream.before(lambda request: httpx.Response(200, json={"data": data}) if request.method == "GET" else None)
    await world.submitted(video.id)
    assert world.upstream.asked.count("create") == creates


async def test_a_job_that_may_be_the_videos_forbids_a_second_one(world: World) -> None:
    """A list that does not tell the prompts cannot prove that the create made nothing, so nothing
    more is paid for.
    """
    video = await world.start()
    world.upstream.accept_then(RESET)
    await world.gateway.submission.submit(video.id)
    for job in world.upstream.jobs.values():
        job["prompt"] = None
    outcome = await world.submitted(video.id)
    assert outcome["failed"]["code"] == "upstream_uncertain"
    assert world.upstream.asked.count("create") == 1


@pytest.mark.parametrize("claimed", [True, False], ids=["the gateway's", "somebody else's"])
async def test_a_job_of_another_model_on_the_same_resource_is_not_adopted(world: World, claimed: bool) -> None:
    """Several deployments of a resource share one list. A job that has its video is no answer; one
    that has none, and another model's name, may be ours all the same, so that nothing more is paid
    for."""
    (only,) = world.model.deployments
    other = replace(world.model, name=f"{world.model.name}-pro", deployments=(replace(only, name="pro", model="sora-2-pro"),))
    world = world.with_model(world.model, other)
    dear = await world.start(model=other.name)
    assert await world.submitted(dear.id) == {"done": True}
    cheap = await world.start(model=world.model.name)
    world.upstream.script("create", RESET)
    await world.gateway.submission.submit(cheap.id)
    (job,) = world.upstream.jobs.values()
    if claimed:
        del job["model"]
        assert await world.submitted(cheap.id) == {"done": True}
        assert world.upstream.asked.count("create") == 3
        assert len({(await world.video(each.id)).upstream_id for each in (dear, cheap)}) == 2
    else:
        world.upstream.jobs["video_of_somebody_else"] = dict(job, id="video_of_somebody_else")
        assert (await world.submitted(cheap.id))["failed"]["code"] == "upstream_uncertain"
        assert world.upstream.asked.count("create") == 2


@pytest.mark.parametrize("answer", ["arrives", "is lost"])
async def test_a_video_deleted_while_it_is_asked_for_keeps_its_slot_until_its_job_ends(world: World, answer: str) -> None:
    """Nobody can cancel the job, so its slot stays taken, whoever learns of it and when; then it is
    deleted upstream.
    """
    video = await world.start()

    async def delete(request: httpx.Request) -> None:
        if request.method == "POST":
            await world.gateway.lifecycle.delete(video.id)

    world.upstream.meanwhile(delete)
    if answer == "is lost":
        world.upstream.accept_then(RESET)
    try:
        await world.gateway.submission.submit(video.id)
    except Exception as problem:  # the engine runs the step again
        assert "Conflict" in type(problem).__name__
    assert await world.submitted(video.id) == {"done": True}
    assert await slots(world) == [video.id]
    assert "again" in await world.gateway.rendering.check(video.id)
    world.upstream.end()
    assert await world.gateway.rendering.check(video.id) == {"done": True}
    assert await world.gateway.rendering.save(video.id) == {"done": True}
    assert world.upstream.asked[-1] == "delete"
    await world.gateway.lifecycle.finish(video.id, None)
    assert await slots(world) == []
    assert (await world.account()).reserved == 0


async def test_a_host_that_was_frozen_since_it_noted_the_attempt_asks_nothing(world: World) -> None:
    """Another one has taken over meanwhile, has found no job, and may have asked again."""
    video = await world.start()
    frozen = world.another()
    world.faults.after = lambda writes: (
        world.clock.skip(200) if any(each.get("attempted_at") for each in map(values_of, writes)) else None
    )
    assert "again" in await frozen.submission.submit(video.id)
    world.faults.after = lambda writes: None
    assert world.upstream.asked.count("create") == 0
    assert await world.submitted(video.id) == {"done": True}
    assert world.upstream.asked.count("create") == 1


@pytest.mark.world(max_running=4, creates_per_minute=10)
async def test_a_remix_whose_source_is_gone_upstream_fails_alone(world: World) -> None:
    """The upstream forgets videos after a day: that says nothing of the deployment, and everybody
    else goes on.
    """
    video = await world.start()
    await world.submitted(video.id)
    world.upstream.end()
    source = await world.live(video.id)
    made = await world.send("POST", f"v1/videos/{source.id}/remix", body={"prompt": "A dog"}, secret=world.secret)
    world.upstream.script("create", error(404, "The video does not exist.", type="invalid_request_error"))
    remix = await world.live(made.json["id"])
    assert (remix.error_code, remix.spent) == ("source_gone", 0)
    assert await world.gateway.pool.troubles(world.model) == {}


@pytest.mark.world(max_running=1)
async def test_a_renamed_model_keeps_what_runs_and_refuses_what_waits(world: World) -> None:
    """A job is found by its deployment's name, whichever model it belongs to now; slots are counted
    under the old name.
    """
    running, waiting = await world.start(), await world.start(prompt="Another cat")
    await world.submitted(running.id)
    assert "again" in await world.gateway.submission.submit(waiting.id)
    renamed = world.with_model(replace(world.model, name=f"{world.model.name}-new", aliases=(world.model.name,)))
    renamed.upstream.end()
    assert (await renamed.live(running.id)).status == "completed"
    assert (await renamed.live(waiting.id)).error_code == "model_not_found"
    assert await slots(world) == []
    assert [each async for each in world.gateway.pool.unfinished(world.model)] == []


async def test_the_sweep_ends_videos_of_a_model_that_is_gone(world: World) -> None:
    """A dead orchestration of a model that nobody sweeps any more: within the hour it is started,
    and fails for that reason.
    """
    video = await world.start()
    bare = world.with_model(replace(world.model, name=f"{world.model.name}-other"))
    bare.clock.skip(3600)
    engine = Engine()
    await Sweep(bare.gateway, engine).run()
    assert video.id in engine.started
    assert (await bare.live(video.id)).error_code == "model_not_found"
    assert (await world.account()).reserved == 0


async def test_times_that_are_none_are_not_believed(world: World) -> None:
    """A server that tells milliseconds, or nonsense, is heard all the same."""
    video = await world.start()
    odd = {"id": "video_odd", "created_at": 1795350343000, "completed_at": -5, "progress": 1e308, "status": "completed"}
    world.upstream.script("create", httpx.Response(200, json=odd))
    world.upstream.jobs["video_odd"] = odd
    assert (await world.live(video.id)).status == "completed"


@pytest.mark.world(max_running=4)
async def test_only_lost_uploads_count_as_lost_uploads(world: World) -> None:
    """Refusals for want of capacity are no reason to give an image up; the third lost upload is."""
    video = await world.start()
    lost = error(400, "Image upload timed out", headers={"apim-request-id": "apim-5"})
    world.upstream.script("create", *[error(429, "Too many running tasks")] * 3, lost, lost)
    assert await world.submitted(video.id) == {"done": True}
    other = await world.start(prompt="Another cat")
    world.upstream.script("create", lost, lost, lost)
    failure = (await world.submitted(other.id))["failed"]
    assert (failure["code"], failure["request_id"]) == ("upload_timed_out", "apim-5")


@pytest.mark.world(max_running=1, creates_per_minute=10)
async def test_a_reference_image_that_is_gone_fails_its_video_and_rests_nothing(world: World) -> None:
    """What is wrong with our storage says nothing of the upstream."""
    import io

    from PIL import Image

    image = io.BytesIO()
    Image.new("RGB", (720, 1280), "navy").save(image, format="PNG")
    video, other = await world.start(input_reference=image.getvalue()), await world.start(prompt="Another cat")
    await world.gateway.archive.drop_reference(video.id)
    assert (await world.submitted(video.id))["failed"]["code"] == "reference_missing"
    await world.gateway.lifecycle.finish(video.id, {"code": "reference_missing", "message": "", "request_id": None})
    assert await world.gateway.submission.submit(other.id) == {"done": True}


async def test_the_queue_tells_when_a_resting_deployment_begins_again(world: World) -> None:
    """An estimate before the end of a rest would be a promise that nobody means."""
    video = await world.start()
    world.upstream.script("create", error(429, "slow down", headers={"retry-after": "1800"}))
    await world.gateway.submission.submit(video.id)
    rests_until = world.clock.now().timestamp() + 1800
    await world.gateway.submission.submit(video.id)
    queue = (await world.send("GET", f"/v1/videos/{video.id}")).json["queue"]
    assert queue["position"] == 1
    assert queue["estimated_start"] >= int(rests_until)


async def test_one_video_that_cannot_be_repaired_keeps_nothing_from_the_others(world: World) -> None:
    """The sweep goes on, and tells in the end."""

    class Broken(Engine):
        async def status(self, video_id: str) -> Status | None:
            if video_id not in self.living:
                raise RuntimeError("no such instance store")
            return None

    _, other = await world.start(), await world.start(prompt="Another cat")
    world.clock.skip(300)
    engine = Broken(other.id, *WATCHES)
    with pytest.raises(ExceptionGroup) as told:
        await Sweep(world.gateway, engine).run()
    assert [str(each) for each in told.value.exceptions] == ["no such instance store"]
    assert engine.started == [other.id]
