"""How a video ends when the upstream does not make an end of it as it should: which code, after how
long, and what is freed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from shared.errors import BudgetExceeded
from shared.upkeep.sweep import Sweep
from tests.fakes.upstream import content, error
from tests.fakes.world import World, world
from tests.unit.upkeep.test_sweep import Engine

GONE = error(404, "The video does not exist.", type="invalid_request_error")
NO_DEPLOYMENT = error(404, "The API deployment 'sora-2' for this resource does not exist.")
DENIED = error(401, "Access denied due to invalid subscription key.")


def run(storage: str, story: Callable[[World], Awaitable[None]], **options: Any) -> None:
    async def tell() -> None:
        async with world(storage, **options) as w:
            await story(w)

    asyncio.run(tell())


def unread(answer: httpx.Response) -> httpx.Response:
    """The same answer as a download that has not been read yet."""
    return httpx.Response(answer.status_code, stream=httpx.ByteStream(answer.content))


async def running(w: World) -> str:
    """A video whose job the upstream has accepted."""
    video = await w.start()
    assert await w.gateway.submission.submit(video.id) == {"done": True}
    return video.id


async def seconds_until_the_end(w: World, video_id: str) -> float:
    begin = w.clock.now()
    await w.live(video_id, rounds=1000)
    return (w.clock.now() - begin).total_seconds()


def test_a_job_that_has_ended_upstream_frees_its_slot_before_its_bytes_are_here(azurite: str) -> None:
    """The upstream counts what renders, so a download that takes its time keeps nobody else
    waiting.
    """

    async def story(w: World) -> None:
        video_id = await running(w)
        w.upstream.end()
        assert list(await w.gateway.pool.holders(w.model)) == [video_id]
        assert await w.gateway.rendering.check(video_id) == {"done": True}
        assert await w.gateway.pool.holders(w.model) == {}
        assert [each async for each, _ in w.gateway.pool.unfinished(w.model)] == [video_id]
        assert (await w.live(video_id)).status == "completed"

    run(azurite, story)


@pytest.mark.parametrize(("reply", "code"), [(GONE, "upstream_video_missing"), (NO_DEPLOYMENT, "model_retired")])
def test_that_a_job_is_gone_is_believed_after_a_minute(azurite: str, reply: httpx.Response, code: str) -> None:
    """One answer may be a slip; a minute of them ends the video at no cost, long before its
    deadline.
    """

    async def story(w: World) -> None:
        video_id = await running(w)
        w.clock.skip(200)
        w.upstream.script("get", *[reply] * 100)
        assert 60 <= await seconds_until_the_end(w, video_id) < 120
        video = await w.video(video_id)
        assert (video.status, video.error_code, video.spent) == ("failed", code, 0)

    run(azurite, story)


@pytest.mark.parametrize("operation", ["get", "content"])
def test_one_answer_that_a_job_is_gone_is_not_believed(azurite: str, operation: str) -> None:
    """However long the video has been running: whatever comes back within a minute was
    never gone.
    """

    async def story(w: World) -> None:
        video_id = await running(w)
        w.clock.skip(900)
        w.upstream.end()
        w.upstream.script(operation, unread(GONE), unread(GONE))
        assert (await w.live(video_id)).status == "completed"

    run(azurite, story)


def test_content_that_is_gone_ends_the_video_after_a_minute(azurite: str) -> None:
    """It is not asked for until the deadline, and nothing is charged."""

    async def story(w: World) -> None:
        video_id = await running(w)
        w.upstream.end()
        w.upstream.script("content", *[unread(GONE) for _ in range(100)])
        assert await seconds_until_the_end(w, video_id) < 120
        video = await w.video(video_id)
        assert (video.status, video.error_code, video.spent) == ("failed", "content_unavailable", 0)

    run(azurite, story)


def test_content_is_asked_for_less_and_less_often(azurite: str) -> None:
    """Each try may be a whole download, so a server that always sends half a video is not asked
    every five seconds.
    """

    async def story(w: World) -> None:
        video_id = await running(w)
        w.upstream.end()
        w.upstream.script("content", *[content(w.upstream.film[:-1]) for _ in range(500)])
        video = await w.live(video_id, rounds=500)
        assert video.error_code == "upstream_content_invalid"
        assert w.upstream.asked.count("content") < 40

    run(azurite, story)


def test_a_video_done_at_its_deadline_is_saved_all_the_same(azurite: str) -> None:
    """What has been paid for is looked at once more before it is given up, and then there is time
    to fetch it.
    """

    async def story(w: World) -> None:
        video_id = await running(w)
        w.clock.skip(w.gateway.settings.knobs.deadline_seconds + 60)
        w.upstream.end()
        w.upstream.script("content", httpx.ReadError("cut"), httpx.ReadError("cut"))
        assert (await w.live(video_id)).status == "completed"

    run(azurite, story)


def test_the_deadline_holds_whatever_the_upstream_asks_for(azurite: str) -> None:
    """A Retry-After of hours is honoured until the deadline, and not beyond it."""

    async def story(w: World) -> None:
        video_id = await running(w)
        w.upstream.script("get", *[error(429, "slow down", headers={"retry-after": "36000"})] * 10)
        deadline = w.gateway.settings.knobs.deadline_seconds
        assert deadline <= await seconds_until_the_end(w, video_id) < deadline + 5
        assert (await w.video(video_id)).error_code == "upstream_busy"

    run(azurite, story)


def test_a_video_that_waits_gives_up_on_time(azurite: str) -> None:
    """Its sleep ends with the time that it may wait, however far back it stands."""

    async def story(w: World) -> None:
        await running(w)
        waiting = await w.start(prompt="Another cat")
        w.clock.skip(w.gateway.settings.knobs.queue_seconds - 3)
        outcome = await w.gateway.submission.submit(waiting.id)
        assert outcome["again"] <= 3
        w.clock.skip(3)
        assert (await w.gateway.submission.submit(waiting.id))["failed"]["code"] == "queue_timeout"

    run(azurite, story, max_running=1)


def test_a_poll_that_is_denied_is_repeated_until_the_deadline_and_then_says_so(azurite: str) -> None:
    """The operator may mend a role while the job runs on; whoever reads the error is not told that
    it took too long.
    """

    async def story(w: World) -> None:
        mended, never = await running(w), await running(w)
        w.upstream.script("get", *[DENIED] * 3)
        w.upstream.end()
        assert (await w.live(mended)).status == "completed"
        w.upstream.script("get", *[DENIED] * 1000)
        video = await w.live(never, rounds=1000)
        assert (video.error_code, video.spent) == ("upstream_auth_error", 0)
        assert w.upstream.asked.count("get") < 100

    run(azurite, story, creates_per_minute=10)


@pytest.mark.parametrize("reply", [NO_DEPLOYMENT, error(410, "Gone")], ids=["missing after the last day", "gone"])
def test_a_retired_deployment_is_closed_for_hours(azurite: str, reply: httpx.Response) -> None:
    """A model that has been switched off is not asked for by every video that comes."""

    async def story(w: World) -> None:
        for prompt in ("A cat", "A dog"):
            video = await w.start(prompt=prompt)
            w.upstream.script("create", reply)
            assert (await w.live(video.id)).error_code == "model_retired"
        assert w.upstream.asked == ["create"]
        w.clock.skip(6 * 3600 - 10)
        assert await w.gateway.pool.is_lost(w.model)
        w.clock.skip(20)
        assert not await w.gateway.pool.is_down(w.model)

    run(azurite, story)


MENDABLE = [(DENIED, "upstream_auth_error"), (NO_DEPLOYMENT, "model_retired"), (error(431, ""), "upstream_misconfigured")]


@pytest.mark.parametrize(("reply", "code"), MENDABLE, ids=[code for _, code in MENDABLE])
def test_what_an_operator_may_mend_is_waited_for(azurite: str, reply: httpx.Response, code: str) -> None:
    """A key that is exchanged, a role or a deployment that is a minute old: videos wait, health
    tells, and nothing fails.
    """

    async def story(w: World) -> None:
        video = await w.start()
        w.upstream.script("create", *[reply] * 3)
        assert "again" in await w.gateway.submission.submit(video.id)
        assert await w.gateway.pool.outages(w.model) == {w.model.deployments[0].name: code}
        w.clock.skip(70)  # it may be asked again, and that nothing has worked since is still to be told
        assert await w.gateway.pool.outages(w.model) == {w.model.deployments[0].name: code}
        w.upstream.end()
        begin = w.clock.now()
        assert await w.submitted(video.id) == {"done": True}
        assert w.upstream.asked == ["create"] * 4
        assert await w.gateway.pool.outages(w.model) == {}
        assert (w.clock.now() - begin).total_seconds() < 300

    run(azurite, story, retires=None)


@pytest.mark.parametrize(("reply", "code"), MENDABLE, ids=[code for _, code in MENDABLE])
def test_what_nobody_mends_for_ten_minutes_fails_what_waits(azurite: str, reply: httpx.Response, code: str) -> None:
    """With the reason, and with what the vendor knows the refusal by; also the video that was not
    asked for itself.
    """

    async def story(w: World) -> None:
        first, second = await w.start(), await w.start(prompt="Another cat")
        named = httpx.Response(reply.status_code, content=reply.content, headers={"apim-request-id": "apim-7"})
        w.upstream.script("create", *[named] * 100)
        assert 600 <= await seconds_until_the_end(w, first.id) < 800
        assert await seconds_until_the_end(w, second.id) < 10
        for video in (await w.video(first.id), await w.video(second.id)):
            assert (video.error_code, video.upstream_request_id, video.spent) == (code, "apim-7", 0)
        assert w.upstream.asked.count("create") < 15

    run(azurite, story, retires=None)


def test_a_deployment_rests_for_an_hour_at_most(azurite: str) -> None:
    """One strange Retry-After does not cost a day."""

    async def story(w: World) -> None:
        video = await w.start()
        w.upstream.script("create", error(429, "slow down", headers={"retry-after": "80000"}))
        w.upstream.end()
        begin = w.clock.now()
        assert await w.submitted(video.id) == {"done": True}
        assert 3600 <= (w.clock.now() - begin).total_seconds() < 2 * 3600

    run(azurite, story)


def test_a_video_deleted_while_it_is_saved_is_deleted_upstream_too(azurite: str) -> None:
    """Its job has ended, so that its copy there can go at once."""

    async def story(w: World) -> None:
        video_id = await running(w)
        w.upstream.end()
        await w.gateway.rendering.check(video_id)
        await w.gateway.lifecycle.delete(video_id)
        assert await w.gateway.rendering.save(video_id) == {"done": True}
        assert w.upstream.asked[-1] == "delete"

    run(azurite, story)


def test_a_key_that_may_make_nothing_writes_nothing(azurite: str) -> None:
    """A client that does not stop asking costs one read of its own key, and the others' capacity
    nothing.
    """

    async def story(w: World) -> None:
        before = await w.account()
        w.faults.commits.clear()
        with pytest.raises(BudgetExceeded):
            await w.gateway.lifecycle.start(w.request(), w.owner, account=before)
        assert w.faults.commits == []
        await w.gateway.keys.update(w.owner, {"max_budget": 1_000_000})
        admitted = await w.another().lifecycle.start(w.request(), w.owner, account=before)
        assert admitted.video.status == "queued"

    run(azurite, story, limits={"max_budget": 100_000})


def test_the_image_of_a_request_that_was_never_admitted_is_dropped(azurite: str) -> None:
    """The note comes before the image, so that the sweep finds both."""
    from shared.media.reference_image import Reference
    from shared.storage.blobs import REFERENCES

    async def story(w: World) -> None:
        video = await w.start()
        await w.gateway.archive.keep_reference(video, Reference(b"an image", "image/png"))
        entry = await w.gateway.ledger.find(video.id)
        assert entry is not None
        from shared.storage.tables import Delete

        await w.gateway.tables.gateway.commit(w.owner, Delete(entry.row))  # as if it had never come to that
        w.clock.skip(660)
        await Sweep(w.gateway, Engine()).run()
        blob = await w.gateway.archive._blob(REFERENCES, f"{w.owner}/{video.id}")
        assert not await blob.exists()
        assert [each async for each in w.gateway.pool.unfinished(w.model)] == []

    run(azurite, story)
