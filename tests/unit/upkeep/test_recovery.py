"""How soon a video moves again that failed or stands still, and what outlives every deadline."""

import asyncio
from datetime import timedelta
from itertools import pairwise

import pytest

from shared.media.video import Video
from shared.upkeep.engine import Status
from shared.upkeep.sweep import Sweep
from shared.videos import watch
from shared.videos.heartbeats import Heartbeats
from tests.fakes.orchestrations import Engine
from tests.fakes.world import World
from tests.unit.upkeep.test_sweep import is_clean

pytestmark = pytest.mark.anyio


async def submitted(world: World) -> Video:
    """A video whose job runs."""
    video = await world.start()
    await world.gateway.submission.submit(video.id)
    return video


async def look(world: World, engine: Engine) -> bool:
    return await Sweep(world.gateway, engine, every=watch.EVERY).look()


async def beat(world: World, video: Video, *, times: int) -> None:
    """What a step does that takes so many times twenty seconds."""
    over = asyncio.Event()
    left = times

    async def sleep(seconds: float) -> None:
        nonlocal left
        if left == 0:
            over.set()
            await asyncio.sleep(3600)  # until it is cancelled
        left -= 1
        world.clock.skip(seconds)

    async with Heartbeats(world.gateway.tables.pools, world.clock, sleep).of(video.id):
        await over.wait()


async def test_what_has_failed_is_started_at_once(world: World) -> None:
    """The death of a worker fails all that it had in hand, however young."""
    video = await submitted(world)
    engine = Engine()
    engine.having_failed = {video.id}
    assert await look(world, engine)
    assert engine.started == [video.id]


async def test_failures_are_asked_for_once_in_a_look(world: World) -> None:
    """The failed orchestrations of finished videos, and of other models, are nobody's concern."""
    await submitted(world)
    engine = Engine()
    engine.having_failed = {"video_of_somebody_else"}
    await look(world, engine)
    assert engine.started == []


async def test_what_fails_again_and_again_is_started_ever_more_seldom(world: World) -> None:
    """At once after its first failure, which may be a worker's death; and, if it is its own doing,
    seven times in the first hour, where there are 180 looks.
    """
    video = await submitted(world)
    engine = Engine()
    starts: list[int] = []
    begin = world.clock.now()
    engine.having_failed, engine.failed_at = {video.id}, {video.id: begin}
    while world.clock.now() - begin < timedelta(hours=1):
        await look(world, engine)
        if engine.started:
            starts.append(int((world.clock.now() - begin).total_seconds()))
            engine.started.clear()
            engine.living.discard(video.id)
            engine.having_failed, engine.failed_at = {video.id}, {video.id: world.clock.now()}
        world.clock.skip(watch.EVERY.total_seconds())
    pauses = [later - earlier for earlier, later in pairwise(starts)]
    assert pauses == [40, 60, 120, 240, 480, 960]


async def test_an_orchestration_that_does_not_move_is_replaced(world: World) -> None:
    """The engine calls it running, and it was due to act three quarters of a minute ago."""
    video = await submitted(world)
    engine = Engine(video.id)
    engine.due[video.id] = world.clock.now()
    world.clock.skip(44)
    await look(world, engine)
    assert engine.terminated == []
    world.clock.skip(1)
    await look(world, engine)
    assert (engine.terminated, engine.started) == ([video.id], [video.id])


async def test_any_of_the_three_is_mended_within_a_minute_and_a_half(world: World) -> None:
    """Also where one of the two watches is lost, and whenever in its turn a video sticks."""
    turn = 2 * watch.EVERY.total_seconds()
    video = await submitted(world)
    engine = Engine(video.id)
    for until_look in range(1, int(turn) + 1):
        engine.due[video.id] = stuck_since = world.clock.now()
        engine.started.clear()
        world.clock.skip(until_look)
        await look(world, engine)
        while not engine.started:
            world.clock.skip(turn)
            await look(world, engine)
        assert world.clock.now() - stuck_since <= timedelta(seconds=88)  # a timer may be late by a second


async def test_a_step_that_is_only_slow_is_left_to_work(world: World) -> None:
    """It gives signs of life, by which the sweep knows it from a stuck one."""
    video = await submitted(world)
    engine = Engine(video.id)
    engine.due[video.id] = world.clock.now()
    await beat(world, video, times=3)
    world.clock.skip(30)
    await look(world, engine)
    assert engine.terminated == []
    world.clock.skip(15)
    await look(world, engine)
    assert engine.terminated == [video.id]


async def test_signs_of_life_are_forgotten_after_a_day(world: World) -> None:
    """By the hourly part of the sweep."""
    heartbeats = world.gateway.heartbeats
    video = await submitted(world)
    await beat(world, video, times=1)
    await heartbeats.forget(world.clock.now() - timedelta(days=1))
    assert await heartbeats.last(video.id) == world.clock.now()
    world.clock.skip(86_401)
    await heartbeats.forget(world.clock.now() - timedelta(days=1))
    assert await heartbeats.last(video.id) is None


async def test_one_look_replaces_no_more_than_an_instance_can_hold(world: World) -> None:
    """Where all are late, instances are missing: to start everything anew would make it worse."""
    videos = [await world.start(prompt=f"Cat {number}") for number in range(40)]
    engine = Engine(*(video.id for video in videos))
    engine.due = dict.fromkeys(engine.living, world.clock.now())
    world.clock.skip(60)
    await look(world, engine)
    assert len(engine.terminated) == 32


@pytest.mark.world(knobs={"queue_seconds": 600, "deadline_seconds": 300})
@pytest.mark.parametrize("deleted", [False, True])
async def test_a_video_that_outlives_every_deadline_is_ended(world: World, deleted: bool) -> None:
    """Whatever its orchestration claims: with its slot and its money given back."""
    video = await submitted(world)
    if deleted:
        await world.gateway.lifecycle.delete(video.id)
    engine = Engine(video.id)
    world.clock.skip(600 + 2 * 300 + 30 * 60)
    assert await look(world, engine)
    assert engine.terminated == []
    world.clock.skip(1)
    await look(world, engine)
    assert (engine.terminated, engine.started) == ([video.id], [])
    ended = await world.video(video.id)
    assert (ended.status, ended.error_code) == ("failed", "deadline_exceeded")
    assert await is_clean(world)
    assert not await look(world, engine)


async def test_an_idle_app_looks_at_nothing(world: World) -> None:
    """The look says so, and the watch ends."""
    engine = Engine()
    assert not await look(world, engine)
    assert engine.asked == []


async def test_the_timer_starts_the_watch_while_anything_is_unfinished(world: World) -> None:
    """In case it was lost; an idle app has none. What a watch looks at starts the other one too."""
    engine = Engine()
    await Sweep(world.gateway, engine).run()
    assert engine.watched == 0
    video = await submitted(world)
    engine.living = {video.id}
    await Sweep(world.gateway, engine).run()
    assert engine.watched == 1
    await look(world, engine)
    assert engine.watched == 2


@pytest.mark.parametrize("lost", watch.WATCHES)
async def test_a_watch_that_does_not_move_is_replaced_by_the_look_of_the_other(world: World, lost: str) -> None:
    """The engine calls it running: its message was lost. It should have looked three quarters of a
    minute ago.
    """
    video = await submitted(world)
    engine = Engine(video.id, *watch.WATCHES)
    engine.due = dict.fromkeys(watch.WATCHES, world.clock.now() + timedelta(seconds=60))
    engine.due[lost] = world.clock.now()
    world.clock.skip(44)
    await look(world, engine)
    assert engine.terminated == []
    world.clock.skip(1)
    await look(world, engine)
    assert (engine.terminated, engine.watched) == ([lost], 2)


async def test_videos_move_within_a_minute_and_a_half_while_a_watch_is_stuck(world: World) -> None:
    """Until it is replaced, the other one looks alone, every 40 seconds."""
    turn = 2 * watch.EVERY.total_seconds()
    video = await submitted(world)
    engine = Engine(video.id, *watch.WATCHES)
    engine.due = {video.id: world.clock.now(), watch.FIRST_WATCH: world.clock.now()}
    stuck_since = world.clock.now()
    while not engine.started:
        world.clock.skip(turn)
        await look(world, engine)
    assert world.clock.now() - stuck_since <= timedelta(seconds=85)
    assert engine.terminated == [video.id, watch.FIRST_WATCH]


async def test_what_the_engine_keeps_of_finished_videos_is_purged(world: World) -> None:
    """All pages of it, but for videos that are unfinished: those are still to be repaired."""
    video = await submitted(world)
    engine = Engine(video.id)
    engine.finished = [f"video_{number}" for number in range(250)] + [video.id]
    await Sweep(world.gateway, engine).run()
    assert len(engine.purged) == 250
    assert engine.finished == [video.id]


async def test_a_video_that_ends_while_the_sweep_looks_is_not_started_again(world: World) -> None:
    """Its note was there when the sweep began, and is gone when the engine is asked."""
    video = await submitted(world)

    class Ending(Engine):
        async def status(self, video_id: str) -> Status | None:
            if video_id in watch.WATCHES:
                return None
            world.upstream.end()
            await world.live(video_id)
            return None

    engine = Ending()
    world.clock.skip(60)
    await look(world, engine)
    assert (engine.started, (await world.video(video.id)).status) == ([], "completed")
