"""A video on a server of OpenAI's dialect that tells no prompt: length, size and time identify its
job.
"""

from typing import Any

import httpx
import pytest

from shared.media.video import Video
from tests.fakes.servers import SilentServer
from tests.fakes.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.world(server=SilentServer, max_running=4, creates_per_minute=30)]

RESET = httpx.ReadError("reset")
REST = 30  # seconds: longer than a deployment rests after a lost answer, shorter than its job is looked for


async def lost(world: World, **fields: Any) -> Video:
    """A video whose create was accepted and never answered."""
    video = await world.start(**fields)
    world.upstream.accept_then(RESET)
    await world.gateway.submission.submit(video.id)
    world.clock.skip(REST)
    return video


def another(world: World, **told: Any) -> None:
    """A job of another program, like the last one."""
    job = list(world.upstream.jobs.values())[-1]
    world.upstream.jobs["another"] = {**job, "id": "another", **told}


async def test_a_lost_create_is_found_by_length_size_and_time(world: World) -> None:
    """Jobs of another length, and those from before, are not its own."""
    video = await lost(world)
    ours = list(world.upstream.jobs)[-1]
    another(world, seconds="8")
    world.upstream.jobs["older"] = {**world.upstream.jobs[ours], "id": "older", "created_at": 1}
    assert await world.submitted(video.id) == {"done": True}
    assert (await world.video(video.id)).upstream_id == ours
    assert world.upstream.asked.count("create") == 1


async def test_videos_of_other_prompts_wait_for_the_one_that_is_unclear(world: World) -> None:
    """Their jobs look the same: each gets its own, although both answers are lost."""
    first = await lost(world, prompt="A cat")
    world.upstream.accept_then(RESET)
    second = await world.start(prompt="A dog")
    assert "again" in await world.gateway.submission.submit(second.id)
    assert world.upstream.asked.count("create") == 1
    for video in (first, second):
        assert await world.submitted(video.id) == {"done": True}
    assert [(await world.video(each.id)).upstream_id for each in (first, second)] == list(world.upstream.jobs)


async def test_videos_of_another_length_do_not_wait(world: World) -> None:
    """Their jobs can be told apart."""
    await lost(world)
    other = await world.start(seconds="8")
    assert await world.gateway.submission.submit(other.id) == {"done": True}


@pytest.mark.parametrize("told", [{}, {"size": None}], ids=["the same", "no size"])
async def test_of_two_jobs_that_may_be_the_videos_none_is_adopted(world: World, told: dict[str, Any]) -> None:
    """One of them is another program's, and nothing tells which."""
    video = await lost(world)
    another(world, **told)
    assert (await world.submitted(video.id))["failed"]["code"] == "upstream_uncertain"
    assert world.upstream.asked.count("create") == 1


@pytest.mark.world(server=SilentServer, shared=True)
async def test_at_a_shared_server_a_job_without_a_prompt_is_not_adopted(world: World) -> None:
    """`shared: true`: the one job that fits may be another program's."""
    video = await lost(world)
    failure = (await world.submitted(video.id))["failed"]
    assert failure["code"] == "upstream_uncertain"
    assert "does not say what was asked for" in failure["message"]
