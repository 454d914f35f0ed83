"""The life of a video on real tables and blobs, step by step, with everything the upstream may do
to it.
"""

import asyncio
from typing import Any

import httpx
import pytest

from shared.errors import BudgetExceeded
from shared.media.reference_image import Reference
from shared.storage.blobs import REFERENCES
from shared.storage.tables import Delete
from shared.upkeep.sweep import Sweep
from tests.fakes.films import box, small_film
from tests.fakes.orchestrations import Engine
from tests.fakes.upstream import content, error
from tests.fakes.world import World

pytestmark = pytest.mark.anyio


async def test_a_prompt_becomes_a_saved_video(world: World) -> None:
    """A video that the upstream completes ends completed, with its bytes stored, its price spent
    and its slot free.
    """
    video = await world.start()
    assert (video.status, video.cost) == ("queued", 400_000)
    assert await world.gateway.submission.submit(video.id) == {"done": True}
    world.upstream.end()
    done = await world.live(video.id)
    assert (done.status, done.progress, done.bytes) == ("completed", 100, len(world.upstream.film))
    assert await world.stored(done) == world.upstream.film
    assert [each async for each in world.gateway.pool.unfinished(world.model)] == []
    account = await world.account()
    assert (account.reserved, account.spend) == (0, 400_000)


async def test_a_failed_video_costs_nothing(world: World) -> None:
    """A job that moderation ends gives the reservation back and says why, in one code for all of
    moderation's names.
    """
    video = await world.start()
    await world.gateway.submission.submit(video.id)
    world.upstream.end("failed", {"code": "content_filter", "message": "Your request was blocked."})
    done = await world.live(video.id)
    assert (done.status, done.error_code, done.spent) == ("failed", "moderation_blocked", 0)
    account = await world.account()
    assert (account.reserved, account.spend) == (0, 0)


async def test_every_step_may_run_twice(world: World) -> None:
    """Repeated deliveries of each activity change nothing: one create, one blob, one charge."""
    video = await world.start()
    for _ in range(3):
        assert await world.gateway.submission.submit(video.id) == {"done": True}
    world.upstream.end()
    for step in (world.gateway.rendering.check, world.gateway.rendering.save):
        for _ in range(3):
            assert await step(video.id) == {"done": True}
    for _ in range(3):
        await world.gateway.lifecycle.finish(video.id, None)
    account = await world.account()
    assert (account.reserved, account.spend) == (0, 400_000)
    assert world.upstream.asked.count("create") == 1
    assert world.upstream.asked.count("content") == 1


@pytest.mark.parametrize(
    "failure",
    [httpx.ReadTimeout("late"), httpx.ReadError("cut"), httpx.RemoteProtocolError("gone")],
    ids=lambda failure: type(failure).__name__,
)
async def test_an_accepted_create_whose_answer_is_lost_is_adopted(world: World, failure: Exception) -> None:
    """A create that was accepted and cut off is found in the upstream's list, and never sent a
    second time.
    """
    video = await world.start()
    world.upstream.accept_then(failure)
    assert "again" in await world.gateway.submission.submit(video.id)
    assert await world.gateway.submission.submit(video.id) == {"done": True}
    assert (await world.video(video.id)).upstream_id in world.upstream.jobs
    assert world.upstream.asked.count("create") == 1


async def test_an_unclear_create_that_made_no_job_is_sent_again_after_the_grace(world: World) -> None:
    """Only when the upstream's list has stayed empty for `reconcile_seconds` is the create
    repeated.
    """
    video = await world.start()
    world.upstream.script("create", httpx.ReadTimeout("late"))
    begin = world.clock.now()
    outcome = await world.gateway.submission.submit(video.id)
    while "again" in outcome and world.upstream.asked.count("create") == 1:
        await world.clock.sleep(outcome["again"])
        outcome = await world.gateway.submission.submit(video.id)
    assert (world.clock.now() - begin).total_seconds() >= world.gateway.settings.knobs.reconcile_seconds
    assert world.upstream.asked.count("create") == 2
    assert len(world.upstream.jobs) == 1


async def test_a_job_of_another_video_is_not_adopted(world: World) -> None:
    """Two equal prompts: the one whose create failed does not take the job of the one whose create
    worked.
    """
    first, second = await world.start(), await world.start()
    await world.gateway.submission.submit(second.id)
    world.upstream.script("create", httpx.ReadTimeout("late"))
    await world.gateway.submission.submit(first.id)
    assert "again" in await world.gateway.submission.submit(first.id)
    assert (await world.video(first.id)).upstream_id is None


async def test_equal_requests_are_not_under_way_at_once(world: World) -> None:
    """While one create's outcome is unclear, an equal one waits: a job that is then found can only
    be the first one's.
    """
    first, second = await world.start(), await world.start()
    world.upstream.accept_then(httpx.ReadTimeout("late"))
    await world.gateway.submission.submit(first.id)
    assert "again" in await world.gateway.submission.submit(second.id)
    assert world.upstream.asked.count("create") == 1
    assert await world.gateway.submission.submit(first.id) == {"done": True}
    world.clock.skip(70)
    assert await world.gateway.submission.submit(second.id) == {"done": True}
    assert len(world.upstream.jobs) == 2


async def test_two_submits_at_once_ask_the_upstream_once(world: World) -> None:
    """The note of the attempt is conditional, so of two deliveries at the same moment only one goes
    on to ask.
    """
    video = await world.start()
    submit = world.gateway.submission.submit
    await asyncio.gather(*(submit(video.id) for _ in range(5)), return_exceptions=True)
    assert world.upstream.asked.count("create") == 1


async def test_a_full_upstream_is_waited_for(world: World) -> None:
    """429 puts the video back to wait, leaves the deployment alone for a while, and the client sees
    only queued.
    """
    video = await world.start()
    world.upstream.script("create", error(429, "Too many running tasks", headers={"retry-after": "7"}))
    assert "again" in await world.gateway.submission.submit(video.id)
    assert (await world.video(video.id)).status == "queued"
    early = await world.gateway.submission.submit(video.id)
    assert early["again"] > 0
    assert world.upstream.asked.count("create") == 1
    world.clock.skip(70)
    assert await world.gateway.submission.submit(video.id) == {"done": True}


async def test_creates_keep_the_pace_and_the_cap_of_the_deployment(world: World) -> None:
    """Of five videos at once, two are submitted; the rest wait, and go on when slots and pace
    allow.
    """
    videos = [await world.start() for _ in range(5)]
    outcomes = [await world.gateway.submission.submit(each.id) for each in videos]
    assert [outcome == {"done": True} for outcome in outcomes] == [True, True, False, False, False]
    for each in videos[:2]:
        await world.gateway.pool.leave(world.model.name, each.id)
    assert "again" in await world.gateway.submission.submit(videos[2].id), "the pace still holds"
    world.clock.skip(70)
    assert await world.gateway.submission.submit(videos[2].id) == {"done": True}


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (error(400, "blocked by our moderation system when checking inputs"), "moderation_blocked"),
        (error(400, "Inpaint image must match the requested width and height"), "upstream_rejected"),
        (error(404, "The API deployment 'sora-2' for this resource does not exist."), "model_retired"),
        (httpx.Response(410), "model_retired"),
    ],
    ids=["moderation", "refused", "no deployment", "gone"],
)
async def test_a_refused_create_ends_the_video_once(world: World, reply: httpx.Response, code: str) -> None:
    """A refusal is terminal: one upstream call, a stable code, nothing charged."""
    video = await world.start()
    world.upstream.script("create", reply)
    done = await world.live(video.id)
    assert (done.status, done.error_code, done.spent) == ("failed", code, 0)
    assert world.upstream.asked == ["create"]


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(500),
        httpx.Response(502, html="<h1>Bad gateway</h1>"),
        httpx.Response(200, content=b'{"id": "video_'),
        httpx.Response(200, json={"status": "in_progress"}),
        httpx.ConnectError("down"),
        httpx.ReadTimeout("late"),
        error(429, "slow down"),
    ],
    ids=["500", "html", "broken json", "no id", "refused", "timeout", "429"],
)
async def test_a_poll_that_fails_is_repeated(world: World, reply: Any) -> None:
    """Nothing that goes wrong with one look at a running job ends it."""
    video = await world.start()
    await world.gateway.submission.submit(video.id)
    world.upstream.script("get", reply)
    assert "again" in await world.gateway.rendering.check(video.id)
    world.upstream.end()
    assert (await world.live(video.id)).status == "completed"


async def test_progress_never_goes_back(world: World) -> None:
    """An upstream whose progress or status jumps back does not show to the client; 100 means that
    the bytes are ours.
    """
    video = await world.start()
    await world.gateway.submission.submit(video.id)
    (job,) = world.upstream.jobs.values()
    seen = []
    for status, progress in (("in_progress", 40), ("queued", 10), ("rendering", 60), ("in_progress", 100)):
        job |= {"status": status, "progress": progress}
        await world.gateway.rendering.check(video.id)
        now = await world.video(video.id)
        seen.append((now.status, now.progress))
    assert seen == [("in_progress", 40), ("in_progress", 40), ("in_progress", 60), ("in_progress", 99)]


async def test_a_job_that_never_ends_fails_at_the_deadline(world: World) -> None:
    """The wall clock, not a number of polls, ends a job that runs for ever; nothing is charged."""
    video = await world.start()
    done = await world.live(video.id, rounds=1000)
    assert (done.status, done.error_code, done.spent) == ("failed", "deadline_exceeded", 0)


@pytest.mark.parametrize(
    "body",
    [b"", b"\0", small_film(5000)[:2500], small_film(5000)[:-1], b"<html>busy</html>", box(b"ftyp") + box(b"mdat")],
    ids=["empty", "one byte", "half", "one short", "html", "no index"],
)
async def test_bytes_that_are_not_a_whole_video_are_fetched_again(world: World, body: bytes) -> None:
    """A truncated or wrong body is never published; the next fetch is."""
    world.upstream.film = small_film(5000)
    video = await world.start()
    await world.gateway.submission.submit(video.id)
    world.upstream.end()
    world.upstream.script("content", content(body))
    assert "again" in await world.gateway.rendering.check(video.id)
    assert await world.gateway.archive.length(await world.video(video.id)) is None
    done = await world.live(video.id)
    assert (done.status, done.bytes) == ("completed", len(world.upstream.film))


async def test_a_reference_image_is_kept_until_submitted_and_then_forgotten(world: World) -> None:
    """The reference travels as a file part with its real type, and is gone when the video has
    ended.
    """
    import io

    from PIL import Image

    image = io.BytesIO()
    Image.new("RGB", (720, 1280), "navy").save(image, format="PNG")
    video = await world.start(input_reference=image.getvalue())
    kept = await world.gateway.archive.reference(video)
    assert kept is not None and kept.data == image.getvalue()
    await world.gateway.submission.submit(video.id)
    world.upstream.end()
    await world.live(video.id)
    assert await world.gateway.archive.reference(video) is None


@pytest.mark.world(limits={"max_budget": 100_000})
async def test_a_key_that_may_make_nothing_writes_nothing(world: World) -> None:
    """A client that does not stop asking costs one read of its own key, and the others' capacity
    nothing.
    """
    before = await world.account()
    world.faults.commits.clear()
    with pytest.raises(BudgetExceeded):
        await world.gateway.lifecycle.start(world.request(), world.owner, account=before)
    assert world.faults.commits == []
    await world.gateway.keys.update(world.owner, {"max_budget": 1_000_000})
    admitted = await world.another().lifecycle.start(world.request(), world.owner, account=before)
    assert admitted.video.status == "queued"


async def test_the_image_of_a_request_that_was_never_admitted_is_dropped(world: World) -> None:
    """The note comes before the image, so that the sweep finds both."""
    video = await world.start()
    await world.gateway.archive.keep_reference(video, Reference(b"an image", "image/png"))
    entry = await world.gateway.videos.find(video.id)
    assert entry is not None
    await world.gateway.tables.gateway.commit(world.owner, Delete(entry.row))  # as if it had never come to that
    world.clock.skip(660)
    await Sweep(world.gateway, Engine()).run()
    blob = await world.gateway.archive._blob(REFERENCES, f"{world.owner}/{video.id}")
    assert not await blob.exists()
    assert [each async for each in world.gateway.pool.unfinished(world.model)] == []
