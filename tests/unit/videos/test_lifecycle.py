"""The life of a video on real tables and blobs, step by step, with everything the upstream may do
to it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.fakes.films import box, small_film
from tests.fakes.upstream import content, error
from tests.fakes.world import World, world


def run(storage: str, story: Callable[[World], Awaitable[None]], **options: Any) -> None:
    async def tell() -> None:
        async with world(storage, **options) as w:
            await story(w)

    asyncio.run(tell())


def test_a_prompt_becomes_a_saved_video(azurite: str) -> None:
    """A video that the upstream completes ends completed, with its bytes stored, its price spent
    and its slot free.
    """

    async def story(w: World) -> None:
        video = await w.start()
        assert (video.status, video.cost) == ("queued", 400_000)
        assert await w.gateway.submission.submit(video.id) == {"done": True}
        w.upstream.end()
        done = await w.live(video.id)
        assert (done.status, done.progress, done.bytes) == ("completed", 100, len(w.upstream.film))
        part = await w.gateway.archive.read(done, 0, 1 << 20)
        assert part == w.upstream.film
        assert [each async for each in w.gateway.pool.unfinished(w.model)] == []
        account = await w.account()
        assert (account.reserved, account.spend) == (0, 400_000)

    run(azurite, story)


def test_a_failed_video_costs_nothing(azurite: str) -> None:
    """A job that moderation ends gives the reservation back and says why, in one code for all of
    moderation's names.
    """

    async def story(w: World) -> None:
        video = await w.start()
        await w.gateway.submission.submit(video.id)
        w.upstream.end("failed", {"code": "content_filter", "message": "Your request was blocked."})
        done = await w.live(video.id)
        assert (done.status, done.error_code, done.spent) == ("failed", "moderation_blocked", 0)
        account = await w.account()
        assert (account.reserved, account.spend) == (0, 0)

    run(azurite, story)


def test_every_step_may_run_twice(azurite: str) -> None:
    """Repeated deliveries of each activity change nothing: one create, one blob, one charge."""

    async def story(w: World) -> None:
        video = await w.start()
        for _ in range(3):
            assert await w.gateway.submission.submit(video.id) == {"done": True}
        w.upstream.end()
        for step in (w.gateway.rendering.check, w.gateway.rendering.save):
            for _ in range(3):
                assert await step(video.id) == {"done": True}
        for _ in range(3):
            await w.gateway.lifecycle.finish(video.id, None)
        account = await w.account()
        assert (account.reserved, account.spend) == (0, 400_000)
        assert w.upstream.asked.count("create") == 1
        assert w.upstream.asked.count("content") == 1

    run(azurite, story)


@pytest.mark.parametrize(
    "failure",
    [httpx.ReadTimeout("late"), httpx.ReadError("cut"), httpx.RemoteProtocolError("gone")],
    ids=lambda failure: type(failure).__name__,
)
def test_an_accepted_create_whose_answer_is_lost_is_adopted(azurite: str, failure: Exception) -> None:
    """A create that was accepted and cut off is found in the upstream's list, and never sent a
    second time.
    """

    async def story(w: World) -> None:
        video = await w.start()
        w.upstream.accept_then(failure)
        assert "again" in await w.gateway.submission.submit(video.id)
        assert await w.gateway.submission.submit(video.id) == {"done": True}
        assert (await w.video(video.id)).upstream_id in w.upstream.jobs
        assert w.upstream.asked.count("create") == 1

    run(azurite, story)


def test_an_unclear_create_that_made_no_job_is_sent_again_after_the_grace(azurite: str) -> None:
    """Only when the upstream's list has stayed empty for `reconcile_seconds` is the create
    repeated.
    """

    async def story(w: World) -> None:
        video = await w.start()
        w.upstream.script("create", httpx.ReadTimeout("late"))
        begin = w.clock.now()
        outcome = await w.gateway.submission.submit(video.id)
        while "again" in outcome and w.upstream.asked.count("create") == 1:
            await w.clock.sleep(outcome["again"])
            outcome = await w.gateway.submission.submit(video.id)
        assert (w.clock.now() - begin).total_seconds() >= w.gateway.settings.knobs.reconcile_seconds
        assert w.upstream.asked.count("create") == 2
        assert len(w.upstream.jobs) == 1

    run(azurite, story)


def test_a_job_of_another_video_is_not_adopted(azurite: str) -> None:
    """Two equal prompts: the one whose create failed does not take the job of the one whose create
    worked.
    """

    async def story(w: World) -> None:
        first, second = await w.start(), await w.start()
        await w.gateway.submission.submit(second.id)
        w.upstream.script("create", httpx.ReadTimeout("late"))
        await w.gateway.submission.submit(first.id)
        assert "again" in await w.gateway.submission.submit(first.id)
        assert (await w.video(first.id)).upstream_id is None

    run(azurite, story)


def test_equal_requests_are_not_under_way_at_once(azurite: str) -> None:
    """While one create's outcome is unclear, an equal one waits: a job that is then found can only
    be the first one's.
    """

    async def story(w: World) -> None:
        first, second = await w.start(), await w.start()
        w.upstream.accept_then(httpx.ReadTimeout("late"))
        await w.gateway.submission.submit(first.id)
        assert "again" in await w.gateway.submission.submit(second.id)
        assert w.upstream.asked.count("create") == 1
        assert await w.gateway.submission.submit(first.id) == {"done": True}
        w.clock.skip(70)
        assert await w.gateway.submission.submit(second.id) == {"done": True}
        assert len(w.upstream.jobs) == 2

    run(azurite, story)


def test_two_submits_at_once_ask_the_upstream_once(azurite: str) -> None:
    """The note of the attempt is conditional, so of two deliveries at the same moment only one goes
    on to ask.
    """

    async def story(w: World) -> None:
        video = await w.start()
        submit = w.gateway.submission.submit
        await asyncio.gather(*(submit(video.id) for _ in range(5)), return_exceptions=True)
        assert w.upstream.asked.count("create") == 1

    run(azurite, story)


def test_a_full_upstream_is_waited_for(azurite: str) -> None:
    """429 puts the video back to wait, leaves the deployment alone for a while, and the client sees
    only queued.
    """

    async def story(w: World) -> None:
        video = await w.start()
        w.upstream.script("create", error(429, "Too many running tasks", headers={"retry-after": "7"}))
        assert "again" in await w.gateway.submission.submit(video.id)
        assert (await w.video(video.id)).status == "queued"
        early = await w.gateway.submission.submit(video.id)
        assert early["again"] > 0
        assert w.upstream.asked.count("create") == 1
        w.clock.skip(70)
        assert await w.gateway.submission.submit(video.id) == {"done": True}

    run(azurite, story)


def test_creates_keep_the_pace_and_the_cap_of_the_deployment(azurite: str) -> None:
    """Of five videos at once, two are submitted; the rest wait, and go on when slots and pace
    allow.
    """

    async def story(w: World) -> None:
        videos = [await w.start() for _ in range(5)]
        outcomes = [await w.gateway.submission.submit(each.id) for each in videos]
        assert [outcome == {"done": True} for outcome in outcomes] == [True, True, False, False, False]
        for each in videos[:2]:
            await w.gateway.pool.leave(w.model.name, each.id)
        assert "again" in await w.gateway.submission.submit(videos[2].id), "the pace still holds"
        w.clock.skip(70)
        assert await w.gateway.submission.submit(videos[2].id) == {"done": True}

    run(azurite, story)


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
def test_a_refused_create_ends_the_video_once(azurite: str, reply: httpx.Response, code: str) -> None:
    """A refusal is terminal: one upstream call, a stable code, nothing charged."""

    async def story(w: World) -> None:
        video = await w.start()
        w.upstream.script("create", reply)
        done = await w.live(video.id)
        assert (done.status, done.error_code, done.spent) == ("failed", code, 0)
        assert w.upstream.asked == ["create"]

    run(azurite, story)


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
def test_a_poll_that_fails_is_repeated(azurite: str, reply: Any) -> None:
    """Nothing that goes wrong with one look at a running job ends it."""

    async def story(w: World) -> None:
        video = await w.start()
        await w.gateway.submission.submit(video.id)
        w.upstream.script("get", reply)
        assert "again" in await w.gateway.rendering.check(video.id)
        w.upstream.end()
        assert (await w.live(video.id)).status == "completed"

    run(azurite, story)


def test_progress_never_goes_back(azurite: str) -> None:
    """An upstream whose progress or status jumps back does not show to the client; 100 means that
    the bytes are ours.
    """

    async def story(w: World) -> None:
        video = await w.start()
        await w.gateway.submission.submit(video.id)
        (job,) = w.upstream.jobs.values()
        seen = []
        for status, progress in (("in_progress", 40), ("queued", 10), ("rendering", 60), ("in_progress", 100)):
            job |= {"status": status, "progress": progress}
            await w.gateway.rendering.check(video.id)
            now = await w.video(video.id)
            seen.append((now.status, now.progress))
        assert seen == [("in_progress", 40), ("in_progress", 40), ("in_progress", 60), ("in_progress", 99)]

    run(azurite, story)


def test_a_job_that_never_ends_fails_at_the_deadline(azurite: str) -> None:
    """The wall clock, not a number of polls, ends a job that runs for ever; nothing is charged."""

    async def story(w: World) -> None:
        video = await w.start()
        done = await w.live(video.id, rounds=1000)
        assert (done.status, done.error_code, done.spent) == ("failed", "deadline_exceeded", 0)

    run(azurite, story)


@pytest.mark.parametrize(
    "body",
    [b"", b"\0", small_film(5000)[:2500], small_film(5000)[:-1], b"<html>busy</html>", box(b"ftyp") + box(b"mdat")],
    ids=["empty", "one byte", "half", "one short", "html", "no index"],
)
def test_bytes_that_are_not_a_whole_video_are_fetched_again(azurite: str, body: bytes) -> None:
    """A truncated or wrong body is never published; the next fetch is."""

    async def story(w: World) -> None:
        w.upstream.film = small_film(5000)
        video = await w.start()
        await w.gateway.submission.submit(video.id)
        w.upstream.end()
        w.upstream.script("content", content(body))
        await w.gateway.rendering.check(video.id)
        assert "again" in await w.gateway.rendering.save(video.id)
        assert await w.gateway.archive.length(await w.video(video.id)) is None
        done = await w.live(video.id)
        assert (done.status, done.bytes) == ("completed", len(w.upstream.film))

    run(azurite, story)


def test_a_reference_image_is_kept_until_submitted_and_then_forgotten(azurite: str) -> None:
    """The reference travels as a file part with its real type, and is gone when the video has
    ended.
    """
    import io

    from PIL import Image

    image = io.BytesIO()
    Image.new("RGB", (720, 1280), "navy").save(image, format="PNG")

    async def story(w: World) -> None:
        video = await w.start(input_reference=image.getvalue())
        kept = await w.gateway.archive.reference(video)
        assert kept is not None and kept.data == image.getvalue()
        await w.gateway.submission.submit(video.id)
        w.upstream.end()
        await w.live(video.id)
        assert await w.gateway.archive.reference(video) is None

    run(azurite, story)
