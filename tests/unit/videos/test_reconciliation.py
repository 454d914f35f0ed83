"""Creates whose outcome is unclear, deployments that fail, and what happens to a job while nobody
knows of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from shared.upkeep.sweep import Sweep
from tests.fakes.table import values_of
from tests.fakes.upstream import error
from tests.fakes.world import World, world
from tests.unit.upkeep.test_sweep import Engine

RESET = httpx.ReadError("reset")


def run(storage: str, story: Callable[[World], Awaitable[None]], **options: Any) -> None:
    async def tell() -> None:
        async with world(storage, **options) as w:
            await story(w)

    asyncio.run(tell())


async def slots(w: World) -> list[str]:
    return list(await w.gateway.pool.holders(w.model))


def test_an_upstream_that_always_breaks_off_is_asked_twice_for_a_video(azurite: str) -> None:
    """Each of those creates may have been paid for, so one new attempt is all, and the error says
    what is known.
    """

    async def story(w: World) -> None:
        video = await w.start()
        broken = httpx.Response(502, text="<h1>Bad gateway</h1>", headers={"apim-request-id": "apim-9"})
        w.upstream.script("create", *[broken] * 50)
        done = await w.live(video.id)
        assert (done.error_code, done.upstream_request_id) == ("upstream_uncertain", "apim-9")
        assert w.upstream.asked.count("create") == 2

    run(azurite, story)


def test_a_deployment_that_breaks_off_leaves_the_work_to_a_healthy_one(azurite: str) -> None:
    """It rests for longer each time and is chosen last, so that it costs the first videos minutes
    and the others nothing.
    """

    async def story(w: World) -> None:
        (only,) = w.model.deployments
        bad = replace(only, name="bad", base_url="https://bad.example.com/openai/v1", max_running=4, creates_per_minute=10)
        good = replace(bad, name="good", base_url="https://good.example.com/openai/v1")
        w = w.with_model(replace(w.model, deployments=(bad, good)))
        asked: list[str] = []

        def say(request: httpx.Request) -> httpx.Response | None:
            if request.method == "POST":
                asked.append(request.url.host)
            broken = request.method == "POST" and request.url.host == "bad.example.com"
            return httpx.Response(500) if broken else None

        w.upstream.before(say)
        videos = [await w.start(prompt=f"Cat {number}") for number in range(12)]
        begin = w.clock.now()
        for video in videos:
            assert await w.submitted(video.id) == {"done": True}
            await w.gateway.pool.ended(w.model.name, video.id)
        assert asked.count("good.example.com") == 12
        assert asked.count("bad.example.com") <= 3
        assert (w.clock.now() - begin).total_seconds() < 600

    run(azurite, story)


def test_a_lost_job_is_found_under_the_models_own_name(azurite: str) -> None:
    """The service tells the model and not the deployment; another deployment of the resource may be
    called just that.
    """

    async def story(w: World) -> None:
        (only,) = w.model.deployments
        same = replace(only, name="b", model="sora-2-b", base_model="sora-2")
        w = w.with_model(replace(w.model, deployments=(same, replace(only, name="a", model="sora-2"))))
        video = await w.start()
        w.upstream.accept_then(RESET)
        await w.gateway.submission.submit(video.id)
        (job,) = w.upstream.jobs.values()
        assert job["model"] == "sora-2-b"
        job["model"] = "sora-2"
        assert await w.submitted(video.id) == {"done": True}
        assert w.upstream.asked.count("create") == 1

    run(azurite, story)


@pytest.mark.parametrize(("closed_for", "end"), [(60, "moves"), (6 * 3600, "fails")], ids=["a moment", "good"])
def test_a_fallback_that_is_closed_for_a_moment_will_do(azurite: str, closed_for: int, end: str) -> None:
    """Who has nothing else to wait for waits there; one that is gone as well is no help."""

    async def story(w: World) -> None:
        (only,) = w.model.deployments
        spare = replace(w.model, name=f"{w.model.name}-spare", deployments=(replace(only, name="spare"),))
        w = w.with_model(w.model, spare, fallbacks={w.model.name: (spare.name,)})
        await w.gateway.pool.take_down(w.model, only, "model_retired", 3600, lost=True)
        await w.gateway.pool.take_down(spare, spare.deployments[0], "upstream_auth_error", closed_for, lost=end == "fails")
        video = await w.start()
        outcome = await w.gateway.submission.submit(video.id)
        if end == "fails":
            assert outcome["failed"]["code"] == "model_retired"
        else:
            assert await w.submitted(video.id) == {"done": True}
            assert (await w.video(video.id)).fallback_from == w.model.name

    run(azurite, story)


def test_a_video_deleted_between_its_bytes_and_its_end_is_deleted_upstream_too(azurite: str) -> None:
    """The vendor's copy has no reason to stay its day."""

    async def story(w: World) -> None:
        video = await w.start()
        await w.submitted(video.id)
        w.upstream.end()
        for step in (w.gateway.rendering.check, w.gateway.rendering.save):
            assert await step(video.id) == {"done": True}
        await w.gateway.lifecycle.delete(video.id)
        assert await w.gateway.rendering.save(video.id) == {"done": True}
        assert w.upstream.asked[-1] == "delete"

    run(azurite, story)


def test_a_refusal_whose_slot_was_not_returned_is_not_taken_for_a_lost_answer(azurite: str) -> None:
    """Killed between the record and the slot: the video keeps the slot and asks again, and no job
    is looked for.
    """

    async def story(w: World) -> None:
        video = await w.start()
        w.upstream.script("create", error(429, "Too many running tasks"))
        dying = w.another()

        def die(writes: Any) -> None:
            if any("attempted_at" in values_of(each) and not values_of(each)["attempted_at"] for each in writes):
                w.faults.dies_after = len(w.faults.commits)

        w.faults.after = die
        killed = asyncio.create_task(dying.submission.submit(video.id))
        await w.faults.died.wait()
        killed.cancel()
        w.faults.after, w.faults.dies_after = lambda writes: None, None
        assert (await w.video(video.id)).attempted_at is None
        assert await slots(w) == [video.id]
        assert await w.submitted(video.id) == {"done": True}
        assert w.upstream.asked == ["create", "create"]

    run(azurite, story)


@pytest.mark.parametrize(("made_at", "creates"), [("now", 1), (None, 1), (1, 2)], ids=["since", "not told", "long ago"])
def test_a_listed_job_that_cannot_be_read_forbids_a_second_one(azurite: str, made_at: Any, creates: int) -> None:
    """Unless it is older than the attempt: then it is nothing but odd."""

    async def story(w: World) -> None:
        video = await w.start()
        w.upstream.script("create", RESET)
        await w.gateway.submission.submit(video.id)
        moment = w.clock.now().timestamp() if made_at == "now" else made_at
        data = [{"created_at": moment, "status": "queued"}]
        w.upstream.before(lambda request: httpx.Response(200, json={"data": data}) if request.method == "GET" else None)
        await w.submitted(video.id)
        assert w.upstream.asked.count("create") == creates

    run(azurite, story)


def test_a_job_that_may_be_the_videos_forbids_a_second_one(azurite: str) -> None:
    """A list that does not tell the prompts cannot prove that the create made nothing, so nothing
    more is paid for.
    """

    async def story(w: World) -> None:
        video = await w.start()
        w.upstream.accept_then(RESET)
        await w.gateway.submission.submit(video.id)
        for job in w.upstream.jobs.values():
            job["prompt"] = None
        outcome = await w.submitted(video.id)
        assert outcome["failed"]["code"] == "upstream_uncertain"
        assert w.upstream.asked.count("create") == 1

    run(azurite, story)


@pytest.mark.parametrize("claimed", [True, False], ids=["the gateway's", "somebody else's"])
def test_a_job_of_another_model_on_the_same_resource_is_not_adopted(azurite: str, claimed: bool) -> None:
    """Several deployments of a resource share one list. A job that has its video is no answer; one
    that has none, and another model's name, may be ours all the same, so that nothing more is paid
    for."""

    async def story(w: World) -> None:
        (only,) = w.model.deployments
        other = replace(w.model, name=f"{w.model.name}-pro", deployments=(replace(only, name="pro", model="sora-2-pro"),))
        w = w.with_model(w.model, other)
        dear = await w.start(model=other.name)
        assert await w.submitted(dear.id) == {"done": True}
        cheap = await w.start(model=w.model.name)
        w.upstream.script("create", RESET)
        await w.gateway.submission.submit(cheap.id)
        (job,) = w.upstream.jobs.values()
        if claimed:
            del job["model"]
            assert await w.submitted(cheap.id) == {"done": True}
            assert w.upstream.asked.count("create") == 3
            assert len({(await w.video(each.id)).upstream_id for each in (dear, cheap)}) == 2
        else:
            w.upstream.jobs["video_of_somebody_else"] = dict(job, id="video_of_somebody_else")
            assert (await w.submitted(cheap.id))["failed"]["code"] == "upstream_uncertain"
            assert w.upstream.asked.count("create") == 2

    run(azurite, story)


@pytest.mark.parametrize("answer", ["arrives", "is lost"])
def test_a_video_deleted_while_it_is_asked_for_keeps_its_slot_until_its_job_ends(azurite: str, answer: str) -> None:
    """Nobody can cancel the job, so its slot stays taken, whoever learns of it and when; then it is
    deleted upstream.
    """

    async def story(w: World) -> None:
        video = await w.start()

        async def delete(request: httpx.Request) -> None:
            if request.method == "POST":
                await w.gateway.lifecycle.delete(video.id)

        w.upstream.meanwhile(delete)
        if answer == "is lost":
            w.upstream.accept_then(RESET)
        try:
            await w.gateway.submission.submit(video.id)
        except Exception as problem:  # the engine runs the step again
            assert "Conflict" in type(problem).__name__
        assert await w.submitted(video.id) == {"done": True}
        assert await slots(w) == [video.id]
        assert "again" in await w.gateway.rendering.check(video.id)
        w.upstream.end()
        assert await w.gateway.rendering.check(video.id) == {"done": True}
        assert w.upstream.asked[-1] == "delete"
        await w.gateway.lifecycle.finish(video.id, None)
        assert await slots(w) == []
        assert (await w.account()).reserved == 0

    run(azurite, story)


def test_a_host_that_was_frozen_since_it_noted_the_attempt_asks_nothing(azurite: str) -> None:
    """Another one has taken over meanwhile, has found no job, and may have asked again."""

    async def story(w: World) -> None:
        video = await w.start()
        frozen = w.another()
        w.faults.after = lambda writes: (
            w.clock.skip(200) if any(each.get("attempted_at") for each in map(values_of, writes)) else None
        )
        assert "again" in await frozen.submission.submit(video.id)
        w.faults.after = lambda writes: None
        assert w.upstream.asked.count("create") == 0
        assert await w.submitted(video.id) == {"done": True}
        assert w.upstream.asked.count("create") == 1

    run(azurite, story)


def test_a_remix_whose_source_is_gone_upstream_fails_alone(azurite: str) -> None:
    """The upstream forgets videos after a day: that says nothing of the deployment, and everybody
    else goes on.
    """

    async def story(w: World) -> None:
        video = await w.start()
        await w.submitted(video.id)
        w.upstream.end()
        source = await w.live(video.id)
        made = await w.send("POST", f"v1/videos/{source.id}/remix", body={"prompt": "A dog"}, secret=w.secret)
        w.upstream.script("create", error(404, "The video does not exist.", type="invalid_request_error"))
        remix = await w.live(made.json["id"])
        assert (remix.error_code, remix.spent) == ("source_gone", 0)
        assert await w.gateway.pool.outages(w.model) == {}

    run(azurite, story, max_running=4, creates_per_minute=10)


def test_a_renamed_model_keeps_what_runs_and_refuses_what_waits(azurite: str) -> None:
    """A job is found by its deployment's name, whichever model it belongs to now; slots are counted
    under the old name.
    """

    async def story(w: World) -> None:
        running, waiting = await w.start(), await w.start(prompt="Another cat")
        await w.submitted(running.id)
        assert "again" in await w.gateway.submission.submit(waiting.id)
        renamed = w.with_model(replace(w.model, name=f"{w.model.name}-new", aliases=(w.model.name,)))
        renamed.upstream.end()
        assert (await renamed.live(running.id)).status == "completed"
        assert (await renamed.live(waiting.id)).error_code == "model_not_found"
        assert await slots(w) == []
        assert [each async for each in w.gateway.pool.unfinished(w.model)] == []

    run(azurite, story, max_running=1)


def test_the_sweep_ends_videos_of_a_model_that_is_gone(azurite: str) -> None:
    """A dead orchestration of a model that nobody sweeps any more: within the hour it is started,
    and fails for that reason.
    """

    async def story(w: World) -> None:
        video = await w.start()
        bare = w.with_model(replace(w.model, name=f"{w.model.name}-other"))
        bare.clock.skip(3600)
        engine = Engine()
        await Sweep(bare.gateway, engine).run()
        assert video.id in engine.started
        assert (await bare.live(video.id)).error_code == "model_not_found"
        assert (await w.account()).reserved == 0

    run(azurite, story)


def test_times_that_are_none_are_not_believed(azurite: str) -> None:
    """A server that tells milliseconds, or nonsense, is heard all the same."""

    async def story(w: World) -> None:
        video = await w.start()
        odd = {"id": "video_odd", "created_at": 1795350343000, "completed_at": -5, "progress": 1e308, "status": "completed"}
        w.upstream.script("create", httpx.Response(200, json=odd))
        w.upstream.jobs["video_odd"] = odd
        assert (await w.live(video.id)).status == "completed"

    run(azurite, story)


def test_only_lost_uploads_count_as_lost_uploads(azurite: str) -> None:
    """Refusals for want of capacity are no reason to give an image up; the third lost upload is."""

    async def story(w: World) -> None:
        video = await w.start()
        lost = error(400, "Image upload timed out", headers={"apim-request-id": "apim-5"})
        w.upstream.script("create", *[error(429, "Too many running tasks")] * 3, lost, lost)
        assert await w.submitted(video.id) == {"done": True}
        other = await w.start(prompt="Another cat")
        w.upstream.script("create", lost, lost, lost)
        failure = (await w.submitted(other.id))["failed"]
        assert (failure["code"], failure["request_id"]) == ("upload_timed_out", "apim-5")

    run(azurite, story, max_running=4)


def test_a_reference_image_that_is_gone_fails_its_video_and_rests_nothing(azurite: str) -> None:
    """What is wrong with our storage says nothing of the upstream."""
    import io

    from PIL import Image

    image = io.BytesIO()
    Image.new("RGB", (720, 1280), "navy").save(image, format="PNG")

    async def story(w: World) -> None:
        video, other = await w.start(input_reference=image.getvalue()), await w.start(prompt="Another cat")
        await w.gateway.archive.drop_reference(video.id)
        assert (await w.submitted(video.id))["failed"]["code"] == "reference_missing"
        await w.gateway.lifecycle.finish(video.id, {"code": "reference_missing", "message": "", "request_id": None})
        assert await w.gateway.submission.submit(other.id) == {"done": True}

    run(azurite, story, max_running=1, creates_per_minute=10)


def test_the_queue_tells_when_a_resting_deployment_begins_again(azurite: str) -> None:
    """An estimate before the end of a rest would be a promise that nobody means."""

    async def story(w: World) -> None:
        video = await w.start()
        w.upstream.script("create", error(429, "slow down", headers={"retry-after": "1800"}))
        await w.gateway.submission.submit(video.id)
        rests_until = w.clock.now().timestamp() + 1800
        await w.gateway.submission.submit(video.id)
        queue = (await w.video(video.id)).wire()["queue"]
        assert queue["position"] == 1
        assert queue["estimated_start"] >= int(rests_until)

    run(azurite, story)


def test_one_video_that_cannot_be_repaired_keeps_nothing_from_the_others(azurite: str) -> None:
    """The sweep goes on, and tells in the end."""

    class Broken(Engine):
        async def alive(self, video_id: str) -> bool:
            if video_id not in self.living:
                raise RuntimeError("no such instance store")
            return False

    async def story(w: World) -> None:
        _, other = await w.start(), await w.start(prompt="Another cat")
        w.clock.skip(300)
        engine = Broken(other.id)
        with pytest.raises(ExceptionGroup) as told:
            await Sweep(w.gateway, engine).run()
        assert [str(each) for each in told.value.exceptions] == ["no such instance store"]
        assert engine.started == [other.id]

    run(azurite, story)
