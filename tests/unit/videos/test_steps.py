"""What the engine's activities do about a step that raises."""

import logging
from datetime import timedelta
from traceback import format_exception

import httpx
import msgspec
import pytest

from shared.errors import StorageUnavailable
from shared.storage.tables import WriteConflict
from shared.videos.step_result import StepResult
from shared.videos.steps import Steps
from tests.fakes.upstream import Reply, error
from tests.fakes.world import World

pytestmark = pytest.mark.anyio


class Raising:
    """Rendering whose every step raises what it is given, and then says done."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def check(self, video_id: str) -> StepResult:
        if self.errors:
            raise self.errors.pop(0)
        return {"done": True}

    save = check


def steps(world: World, *errors: Exception) -> Steps:
    gateway = world.gateway
    return Steps(gateway.submission, Raising(*errors), gateway.lifecycle, gateway.heartbeats, world.clock, gateway.tracing)  # type: ignore[arg-type]


SECRET = "https://upstream.example/?prompt=a+cat"
QUOTED = "a cat on a roof"


class Broken:
    """A lifecycle whose every call raises what quotes a prompt."""

    async def finish(self, video_id: str, failure: object) -> None:
        raise ZeroDivisionError(SECRET)


def caused(error: Exception) -> Exception:
    error.__cause__ = ZeroDivisionError(SECRET)
    return error


async def test_a_step_that_keeps_raising_ends_the_video(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """With a code of its own, and one line in the log that does not quote what was raised."""
    outcome = await steps(world, *[ZeroDivisionError(SECRET)] * 3).check("video_1")
    assert outcome["failed"]["code"] == "internal_error"
    (line,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert "ZeroDivisionError" in line.getMessage()
    assert "test_steps.py" in line.getMessage()
    assert SECRET not in caplog.text


async def test_a_step_that_raises_twice_is_not_the_end(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """What passes leaves no trace; there is a pause before each new try."""
    before = world.clock.now()
    assert await steps(world, KeyError("a"), KeyError("b")).save("video_1") == {"done": True}
    assert (world.clock.now() - before).total_seconds() == 10
    assert caplog.records == []


async def test_while_storage_does_not_answer_the_engine_tries_again(world: World) -> None:
    """Nothing ends for that: what is stored decides, and cannot be read."""
    with pytest.raises(StorageUnavailable):
        await steps(world, StorageUnavailable("Try again.")).check("video_1")


async def test_the_engine_hears_the_code_of_a_failure_and_the_record_its_message(world: World) -> None:
    """Its history outlives what `log_prompts: false` promises, and upstreams quote prompts."""
    video = await world.start()
    world.upstream.script("create", error(400, f"Not this: {QUOTED}", code="content_policy_violation"))
    outcome = await world.gateway.steps.submit(video.id)
    assert QUOTED not in repr(outcome)
    await world.gateway.steps.finish({"video": video.id, "failure": outcome["failed"]})
    ended = await world.video(video.id)
    assert (ended.status, ended.error_code) == ("failed", "moderation_blocked")
    assert QUOTED in str(ended.error_message)


async def test_an_error_that_the_engine_hears_has_no_cause(world: World) -> None:
    """The engine keeps the whole chain as text."""
    faulty = msgspec.structs.replace(world.gateway.steps, lifecycle=Broken())
    for raising in (
        steps(world, caused(StorageUnavailable("Try again."))).save("video_1"),
        faulty.finish({"video": "video_1", "failure": None}),
    ):
        with pytest.raises(StorageUnavailable) as raised:
            await raising
        assert SECRET not in "".join(format_exception(raised.value))


async def test_a_step_that_was_overtaken_ends_quietly(world: World) -> None:
    """The engine is told to look again later: no retry is used up."""
    outcome = await steps(world, WriteConflict()).check("video_1")
    assert outcome["again"] >= 1


@pytest.mark.parametrize(("early", "waited"), [(0.7, 0.7), (-3.0, 0.0), (90.0, 1.0)])
async def test_a_step_that_comes_early_waits_for_its_time(world: World, early: float, waited: float) -> None:
    """The engine's timers come up to a second early; what is earlier is a wrong clock."""
    for step in (steps(world).check, steps(world).submit):
        before = world.clock.now()
        await step("video_1", before + timedelta(seconds=early))
        assert (world.clock.now() - before).total_seconds() == waited


async def test_two_looks_at_one_job_at_once_both_end_quietly(world: World) -> None:
    """A message that is delivered again while the first run still works."""
    video = await world.start()
    await world.gateway.submission.submit(video.id)
    second: list[StepResult] = []

    async def overtake(request: httpx.Request) -> None:
        if not second:
            second.append({})
            second[0] = await world.gateway.steps.check(video.id)

    world.upstream.jobs[next(iter(world.upstream.jobs))]["progress"] = 50
    world.upstream.meanwhile(overtake)
    first = await world.gateway.steps.check(video.id)
    assert "again" in second[0]
    assert "again" in first
    assert (await world.video(video.id)).progress == 50


async def test_a_download_that_leads_to_no_name_ends_by_its_deadline(world: World) -> None:
    """The example that was restarted for days: an invalid international name."""
    video = await world.start()
    await world.gateway.submission.submit(video.id)
    world.upstream.end()
    nowhere: Reply = httpx.Response(302, headers={"location": "https://xn--a.example/"})
    world.upstream.script("content", *[nowhere] * 300)
    for _ in range(300):
        outcome = await world.gateway.steps.check(video.id)
        if "again" not in outcome:
            break
        await world.clock.sleep(outcome["again"])
    assert outcome["failed"]["code"] == "content_unavailable"
