"""How a video ends when the upstream does not make an end of it as it should: which code, after how
long, and what is freed.
"""

import json
from typing import Any

import httpx
import pytest

from shared.storage.video_store import VideoStore
from shared.videos.step_result import failed
from tests.fakes.upstream import content, error
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

GONE = error(404, "The video does not exist.", type="invalid_request_error")
NO_DEPLOYMENT = error(404, "The API deployment 'sora-2' for this resource does not exist.")
DENIED = error(401, "Access denied due to invalid subscription key.")


async def running(world: World) -> str:
    """A video whose job the upstream has accepted."""
    video = await world.start()
    assert await world.gateway.submission.submit(video.id) == {"done": True}
    return video.id


async def seconds_until_the_end(world: World, video_id: str) -> float:
    begin = world.clock.now()
    await world.live(video_id, rounds=1000)
    return (world.clock.now() - begin).total_seconds()


async def test_a_job_that_has_ended_upstream_frees_its_slot_before_its_bytes_are_here(world: World) -> None:
    """The upstream counts what renders, so a download that takes its time keeps nobody else
    waiting.
    """
    video_id = await running(world)
    world.upstream.end()
    assert list(await world.gateway.pool.holders(world.model)) == [video_id]
    assert await world.gateway.rendering.check(video_id) == {"done": True}
    assert await world.gateway.pool.holders(world.model) == {}
    assert [each async for each, _ in world.gateway.pool.unfinished(world.model)] == [video_id]
    assert (await world.live(video_id)).status == "completed"


@pytest.mark.parametrize(("reply", "code"), [(GONE, "upstream_video_missing"), (NO_DEPLOYMENT, "model_retired")])
async def test_that_a_job_is_gone_is_believed_after_a_minute(world: World, reply: httpx.Response, code: str) -> None:
    """One answer may be a slip; a minute of them ends the video at no cost, long before its
    deadline.
    """
    video_id = await running(world)
    world.clock.skip(200)
    world.upstream.script("get", *[reply] * 100)
    assert 60 <= await seconds_until_the_end(world, video_id) < 120
    video = await world.video(video_id)
    assert (video.status, video.error_code, video.spent) == ("failed", code, 0)


@pytest.mark.parametrize("operation", ["get", "content"])
async def test_one_answer_that_a_job_is_gone_is_not_believed(world: World, operation: str) -> None:
    """However long the video has been running: whatever comes back within a minute was
    never gone.
    """
    video_id = await running(world)
    world.clock.skip(900)
    world.upstream.end()
    world.upstream.script(operation, GONE, GONE)
    assert (await world.live(video_id)).status == "completed"


async def test_content_that_is_gone_ends_the_video_after_a_minute(world: World) -> None:
    """It is not asked for until the deadline, and nothing is charged."""
    video_id = await running(world)
    world.upstream.end()
    world.upstream.script("content", *[GONE] * 100)
    assert await seconds_until_the_end(world, video_id) < 120
    video = await world.video(video_id)
    assert (video.status, video.error_code, video.spent) == ("failed", "content_unavailable", 0)


async def test_content_is_asked_for_less_and_less_often(world: World) -> None:
    """Each try may be a whole download, so a server that always sends half a video is not asked
    every five seconds.
    """
    video_id = await running(world)
    world.upstream.end()
    world.upstream.script("content", *[content(world.upstream.film[:-1]) for _ in range(500)])
    video = await world.live(video_id, rounds=500)
    assert video.error_code == "upstream_content_invalid"
    assert world.upstream.asked.count("content") < 40


async def test_a_video_done_at_its_deadline_is_saved_all_the_same(world: World) -> None:
    """What has been paid for is looked at once more before it is given up, and then there is time
    to fetch it.
    """
    video_id = await running(world)
    world.clock.skip(world.gateway.settings.knobs.deadline_seconds + 60)
    world.upstream.end()
    world.upstream.script("content", httpx.ReadError("cut"), httpx.ReadError("cut"))
    assert (await world.live(video_id)).status == "completed"


async def test_the_deadline_holds_whatever_the_upstream_asks_for(world: World) -> None:
    """A Retry-After of hours is honoured until the deadline, and not beyond it."""
    video_id = await running(world)
    world.upstream.script("get", *[error(429, "slow down", headers={"retry-after": "36000"})] * 10)
    deadline = world.gateway.settings.knobs.deadline_seconds
    assert deadline <= await seconds_until_the_end(world, video_id) < deadline + 5
    assert (await world.video(video_id)).error_code == "upstream_busy"


@pytest.mark.world(creates_per_minute=10)
async def test_a_poll_that_is_denied_is_repeated_until_the_deadline_and_then_says_so(world: World) -> None:
    """The operator may mend a role while the job runs on; whoever reads the error is not told that
    it took too long.
    """
    mended, never = await running(world), await running(world)
    world.upstream.script("get", *[DENIED] * 3)
    world.upstream.end()
    assert (await world.live(mended)).status == "completed"
    world.upstream.script("get", *[DENIED] * 1000)
    video = await world.live(never, rounds=1000)
    assert (video.error_code, video.spent) == ("upstream_auth_error", 0)
    assert world.upstream.asked.count("get") < 100


async def test_a_video_deleted_while_it_is_saved_is_deleted_upstream_too(world: World) -> None:
    """Its job has ended, so that its copy there can go at once."""
    video_id = await running(world)
    world.upstream.end()
    world.upstream.script("content", httpx.ReadError("cut"))
    assert "again" in await world.gateway.rendering.check(video_id)
    await world.gateway.lifecycle.delete(video_id)
    assert await world.gateway.rendering.save(video_id) == {"done": True}
    assert world.upstream.asked[-1] == "delete"


async def test_a_video_that_is_ended_while_it_is_saved_keeps_no_bytes(world: World) -> None:
    """What the sweep has ended meanwhile is dropped by the step that has stored it."""
    video_id = await running(world)
    world.upstream.end()
    world.upstream.script("content", httpx.ReadError("cut"))
    assert "again" in await world.gateway.rendering.check(video_id)

    async def end(_: httpx.Request) -> None:
        await world.gateway.lifecycle.finish(video_id, failed("deadline_exceeded", "Too late.")["failed"])

    world.upstream.meanwhile(end)
    assert await world.gateway.rendering.save(video_id) == {"done": True}
    assert await world.gateway.archive.length(await world.video(video_id)) is None


async def test_bytes_that_were_stored_before_the_end_go_with_it(world: World) -> None:
    """Whether the step that stored them was killed before it could say so, or is run once more."""
    video_id = await running(world)
    world.upstream.end()
    assert await world.gateway.rendering.check(video_id) == {"done": True}
    await world.gateway.lifecycle.finish(video_id, failed("deadline_exceeded", "Too late.")["failed"])
    assert await world.gateway.archive.length(await world.video(video_id)) is None


async def test_a_look_at_a_job_that_runs_on_reads_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the last look has seen is enough, and goes through the engine as JSON without a word of
    the caller's.
    """
    video_id = await running(world)
    (job,) = world.upstream.jobs.values()
    job |= {"status": "in_progress", "progress": 30}
    seen = json.loads(json.dumps((await world.gateway.rendering.check(video_id))["seen"]))
    assert "A cat" not in json.dumps(seen)
    with monkeypatch.context() as patched:
        patched.setattr(VideoStore, "find", None)
        job["progress"] = 33
        commits = len(world.faults.commits)
        seen = (await world.gateway.rendering.check(video_id, seen))["seen"]
        assert len(world.faults.commits) == commits, "less than 10 % is not worth a write"
        job["progress"] = 50
        seen = (await world.gateway.rendering.check(video_id, seen))["seen"]
    video = await world.video(video_id)
    assert (video.status, video.progress, video.prompt) == ("in_progress", 50, "A cat")
    world.upstream.end()
    assert await world.gateway.rendering.check(video_id, seen) == {"done": True}
    assert (await world.video(video_id)).bytes == len(world.upstream.film)


async def test_a_look_that_knows_an_old_record_changes_nothing(world: World) -> None:
    """Its caller has deleted the video since: the look is overtaken, and the next one reads the
    record.
    """
    video_id = await running(world)
    (job,) = world.upstream.jobs.values()
    job |= {"status": "in_progress", "progress": 30}
    seen = (await world.gateway.steps.check(video_id))["seen"]
    await world.gateway.lifecycle.delete(video_id)
    job["progress"] = 60
    outcome = await world.gateway.steps.check(video_id, seen=seen)
    assert "again" in outcome
    assert "seen" not in outcome
    assert ((await world.video(video_id)).progress, (await world.video(video_id)).deleted) == (30, True)
    world.upstream.end()
    assert await world.gateway.steps.check(video_id, seen=seen) == {"done": True}
    assert world.upstream.asked[-1] == "delete"
    assert "content" not in world.upstream.asked


@pytest.mark.parametrize("seen", [{}, {"job": {"id": "video_1"}, "key": 1}, {"etag": "*"}])
async def test_what_another_version_has_seen_is_not_used(world: World, seen: Any) -> None:
    """The record is read instead."""
    video_id = await running(world)
    world.upstream.end()
    assert await world.gateway.rendering.check(video_id, seen) == {"done": True}


async def test_a_new_job_is_not_looked_at_before_a_quick_one_could_be_done(world: World) -> None:
    """How long that takes is known from the jobs before it."""
    times = world.gateway.rendering.render_times
    for _ in range(5):
        await times.learn(world.model.name, 4, 100.0)
    video_id = await running(world)
    outcome = await world.gateway.rendering.check(video_id)
    usual = await times.of(world.model.name, 4)
    assert outcome["again"] == pytest.approx(max(usual.mean - 3 * usual.deviation, usual.mean / 8), abs=1)
    assert "get" not in world.upstream.asked
    await world.clock.sleep(outcome["again"])
    assert "again" in await world.gateway.rendering.check(video_id, outcome["seen"])
    assert world.upstream.asked.count("get") == 1
