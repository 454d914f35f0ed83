"""Creates whose answer was lost: no caller gets another's job, and none is paid for twice."""

from datetime import timedelta
from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image

from shared.media.video import Video
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

RESET = httpx.ReadError("reset")


async def lost(world: World, **fields: Any) -> tuple[Video, dict[str, Any]]:
    """A video whose create was accepted and never answered, and its job."""
    video = await world.start(**fields)
    world.upstream.accept_then(RESET)
    await world.gateway.submission.submit(video.id)
    return video, list(world.upstream.jobs.values())[-1]


async def stays_unclear(world: World, video: Video) -> str:
    """It fails as unclear, without another create; what it is told."""
    failure = (await world.submitted(video.id))["failed"]
    assert failure["code"] == "upstream_uncertain"
    assert world.upstream.asked.count("create") == 1
    return failure["message"]


def another(world: World, job: dict[str, Any], number: int = 0, **told: Any) -> None:
    """A job of another program on the same resource."""
    world.upstream.jobs[f"video_of_another_{number}"] = {**job, "id": f"video_of_another_{number}", **told}


async def test_a_job_is_found_behind_150_newer_ones(world: World) -> None:
    """The list is read until it is older than the attempt, and not to the end of its first page."""
    video, job = await lost(world)
    for number in range(150):
        another(world, job, number, prompt="A dog", created_at=job["created_at"] + 1)
    assert await world.submitted(video.id) == {"done": True}
    assert (await world.video(video.id)).upstream_id == job["id"]


async def test_of_several_jobs_that_fit_none_is_adopted(world: World) -> None:
    """One of them is another program's, and nothing tells which."""
    video, job = await lost(world)
    another(world, job)
    assert "several" in await stays_unclear(world, video)


async def test_a_job_with_a_reference_image_is_not_adopted(world: World) -> None:
    """The list does not tell the image, which may be another caller's."""
    image = BytesIO()
    Image.new("RGB", (720, 1280), "navy").save(image, format="PNG")
    video, _ = await lost(world, input_reference=image.getvalue())
    assert "image" in await stays_unclear(world, video)


@pytest.mark.parametrize(
    "told",
    [{"prompt": "A ca"}, {"prompt": " A cat "}, {"prompt": "a cat."}, {"size": "704x1280"}, {"created_at": -20}],
    ids=["cut", "trimmed", "cleaned", "another size", "a clock 20 s behind"],
)
async def test_a_job_that_is_told_a_little_differently_is_neither_adopted_nor_made_again(
    world: World, told: dict[str, Any]
) -> None:
    """It may be the video's, in the words of a server that changes them."""
    video, job = await lost(world)
    job.update({**told, **({"created_at": job["created_at"] - 20} if "created_at" in told else {})})
    await stays_unclear(world, video)


async def test_a_prompt_that_is_told_exactly_rules_out_its_like(world: World) -> None:
    """A server that lists the very prompt has not changed another's."""
    video, job = await lost(world)
    another(world, job, prompt="A cat.")
    assert await world.submitted(video.id) == {"done": True}
    assert (await world.video(video.id)).upstream_id == job["id"]


@pytest.mark.parametrize("ahead", [-300.0, -20.0, 20.0, 3600.0])
async def test_the_upstreams_clock_may_be_wrong_where_its_answers_are_dated(world: World, ahead: float) -> None:
    """The `Date` of the list tells by how much."""
    world.upstream.ahead, world.upstream.dates = ahead, True
    video, job = await lost(world)
    assert await world.submitted(video.id) == {"done": True}
    assert (await world.video(video.id)).upstream_id == job["id"]


@pytest.mark.parametrize(("ahead", "ran"), [(0.0, 30.0), (-300.0, 40.0), (3600.0, 0.0)])
async def test_a_job_that_is_found_late_has_run_since_it_was_made(world: World, ahead: float, ran: float) -> None:
    """Its end is predicted from that; of a wrong clock no time is believed that cannot be."""
    world.upstream.ahead, world.upstream.dates = ahead, True
    video, job = await lost(world)
    job["created_at"] += 10
    world.clock.skip(40)
    assert await world.submitted(video.id) == {"done": True}
    made_at = (await world.video(video.id)).made_at
    assert made_at is not None
    assert (world.clock.now() - made_at).total_seconds() == pytest.approx(ran, abs=1.0)


async def test_a_job_that_is_found_late_has_all_of_its_time(world: World) -> None:
    """The list was not to be had for half an hour: what is found is not given up at once."""
    video, _ = await lost(world)
    world.clock.skip(world.gateway.settings.knobs.deadline_seconds - 5)
    assert await world.submitted(video.id) == {"done": True}
    world.clock.skip(10)
    assert "again" in await world.gateway.rendering.check(video.id)


@pytest.mark.parametrize("told", [{}, {"remixed_from_video_id": None}], ids=["left out", "null"])
@pytest.mark.world(max_running=4, creates_per_minute=10)
async def test_a_remix_whose_source_is_not_listed_is_unclear(world: World, told: dict[str, Any]) -> None:
    """The job may be the remix, or a video with the same prompt."""
    source = await world.start()
    await world.submitted(source.id)
    world.upstream.end()
    await world.live(source.id)
    made = await world.send("POST", f"v1/videos/{source.id}/remix", body={"prompt": "A dog"}, secret=world.secret)
    world.upstream.script("create", RESET)
    await world.gateway.submission.submit(made.json["id"])
    (job,) = world.upstream.jobs.values()
    another(world, {each: job[each] for each in job if each != "remixed_from_video_id"}, prompt="A dog", **told)
    assert (await world.submitted(made.json["id"]))["failed"]["code"] == "upstream_uncertain"
    assert world.upstream.asked.count("create") == 2


async def test_an_older_equal_job_of_another_program_is_no_obstacle(world: World) -> None:
    """It was made before the attempt, by more than clocks differ."""
    video = await world.start()
    world.upstream.script("create", RESET)
    await world.gateway.submission.submit(video.id)
    made = (world.clock.now() - timedelta(seconds=400)).timestamp()
    another(world, {"status": "queued", "prompt": "A cat", "seconds": "4", "size": "720x1280", "created_at": made})
    assert await world.submitted(video.id) == {"done": True}
    assert world.upstream.asked.count("create") == 2


@pytest.mark.parametrize("answer", ["is lost", "comes late"])
@pytest.mark.world(knobs={"on_unclear": "fail"})
async def test_with_on_unclear_fail_no_create_is_ever_repeated(world: World, answer: str) -> None:
    """Nor is a job that the upstream accepts long after paid for twice."""
    video = await world.start()
    world.upstream.script("create", RESET)
    assert (await world.submitted(video.id))["failed"]["code"] == "upstream_uncertain"
    if answer == "comes late":
        another(world, {"status": "queued", "prompt": "A cat", "created_at": world.clock.now().timestamp()})
    assert world.upstream.asked.count("create") == 1


async def test_a_job_accepted_after_the_search_is_the_one_hole(world: World) -> None:
    """With `on_unclear: retry`, an upstream that accepts a create after it was looked for makes two
    jobs; docs/reliability.md says so.
    """
    video = await world.start()
    world.upstream.script("create", RESET)
    await world.gateway.submission.submit(video.id)
    knobs = world.gateway.settings.knobs
    world.clock.skip(knobs.reconcile_seconds)
    assert "again" in await world.gateway.submission.submit(video.id)
    another(world, {"status": "queued", "prompt": "A cat", "created_at": world.clock.now().timestamp()})
    assert await world.submitted(video.id) == {"done": True}
    assert len(world.upstream.jobs) == 2
