"""What ends a video before its time, and what the sweep repairs: on real tables and blobs."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import httpx
import pytest

from shared import gateway as composition
from shared.capacity.pool import Slot
from shared.config.catalog import Catalog
from shared.gateway import Gateway
from shared.media.video import MASTER_OWNER, Video
from shared.storage.tables import Delete, partition_of
from shared.upkeep.sweep import Sweep
from tests.fakes.upstream import error
from tests.fakes.world import World, world


class Engine:
    """Orchestrations of which `living` are alive; `started` are those that the sweep
    wanted.
    """

    def __init__(self, *living: str) -> None:
        self.living = set(living)
        self.started: list[str] = []
        self.asked: list[str] = []

    async def start(self, video_id: str) -> None:
        self.started.append(video_id)
        self.living.add(video_id)

    async def alive(self, video_id: str) -> bool:
        self.asked.append(video_id)
        return video_id in self.living


def run(storage: str, story: Callable[[World], Awaitable[None]], **options: Any) -> None:
    async def tell() -> None:
        async with world(storage, **options) as w:
            await story(w)

    asyncio.run(tell())


async def sweep(w: World, *living: str) -> Engine:
    engine = Engine(*living)
    await Sweep(w.gateway, engine).run()
    return engine


async def is_clean(w: World) -> bool:
    """No slot, no place, no note and no reservation is left."""
    account = await w.account()
    rows = [row.key async for row in w.gateway.tables.pools.scan(partition_of(w.model.name))]
    holders = await w.gateway.pool.holders(w.model)
    return (account.reserved, account.running) == (0, 0) and not holders and set(rows) <= {"state", "usual"}


async def waiting_behind(w: World) -> tuple[Video, Video]:
    """One video that runs and one that waits for its slot."""
    running, waiting = await w.start(), await w.start(prompt="Another cat")
    await w.gateway.submission.submit(running.id)
    assert "again" in await w.gateway.submission.submit(waiting.id)
    return running, waiting


ONE = {"max_running": 1}


def test_a_deleted_video_that_waits_leaves_the_queue(azurite: str) -> None:
    """It costs nothing, is asked for nowhere, and its orchestration ends at its next step."""

    async def story(w: World) -> None:
        running, waiting = await waiting_behind(w)
        await w.gateway.lifecycle.delete(waiting.id)
        assert (await w.account()).running == 1
        w.upstream.end()
        await w.live(running.id)
        assert (await w.live(waiting.id)).error_code == "cancelled"
        assert w.upstream.asked.count("create") == 1
        assert await is_clean(w)

    run(azurite, story, **ONE)


def test_a_deleted_video_that_runs_keeps_its_slot_until_its_job_ends(azurite: str) -> None:
    """The upstream still works on it; then the job goes there too, and the next in line
    starts.
    """

    async def story(w: World) -> None:
        running, waiting = await waiting_behind(w)
        await w.gateway.lifecycle.delete(running.id)
        assert "again" in await w.gateway.rendering.check(running.id)
        w.clock.skip(62)
        assert "again" in await w.gateway.submission.submit(waiting.id)
        w.upstream.end()
        assert (await w.live(running.id)).spent == 0
        assert "delete" in w.upstream.asked
        assert await w.gateway.submission.submit(waiting.id) == {"done": True}
        w.upstream.end()
        await w.live(waiting.id)
        assert await is_clean(w)

    run(azurite, story, **ONE)


def test_a_deleted_video_that_is_finished_loses_its_bytes(azurite: str) -> None:
    """What it cost stays spent; deleting it again changes nothing."""

    async def story(w: World) -> None:
        video = await w.start()
        await w.gateway.submission.submit(video.id)
        w.upstream.end()
        done = await w.live(video.id)
        for _ in range(2):
            await w.gateway.lifecycle.delete(video.id)
            assert await w.gateway.archive.length(done) is None
        assert (await w.account()).spend == done.cost
        assert await is_clean(w)

    run(azurite, story)


def test_a_video_does_not_wait_for_ever(azurite: str) -> None:
    """After `queue_seconds` it fails as `queue_timeout`, at no cost."""

    async def story(w: World) -> None:
        running, waiting = await waiting_behind(w)
        w.clock.skip(601)
        ended = await w.live(waiting.id)
        assert (ended.status, ended.error_code, ended.spent) == ("failed", "queue_timeout", 0)
        w.upstream.end()
        await w.live(running.id)
        assert await is_clean(w)

    run(azurite, story, knobs={"queue_seconds": 600}, **ONE)


def test_a_job_past_its_deadline_frees_its_slot(azurite: str) -> None:
    """The next in line starts although the upstream never ended the first."""

    async def story(w: World) -> None:
        running, waiting = await waiting_behind(w)
        w.clock.skip(301)
        assert (await w.live(running.id)).error_code == "deadline_exceeded"
        assert await w.gateway.submission.submit(waiting.id) == {"done": True}
        w.upstream.end()
        await w.live(waiting.id)
        assert await is_clean(w)

    run(azurite, story, knobs={"deadline_seconds": 300}, **ONE)


def with_fallback(w: World) -> Gateway:
    """The world's gateway with a second model, twice as expensive, that takes the place of the
    first.
    """
    dear = replace(w.model.capability, prices={size: 2 * price for size, price in w.model.capability.prices.items()})
    places = tuple(replace(each, name=f"other-{each.name}") for each in w.model.deployments)
    other = replace(w.model, name=f"other-{w.model.name}", capability=dear, deployments=places)
    catalog = Catalog((w.model, other), {w.model.name: (other.name,)})
    given = replace(w.gateway.settings, catalog=catalog)
    return composition.build(given, w.clock, Random(3), w.gateway.connections, w.gateway.tables)


GONE = error(410, "The model has been retired.", code="ModelRetired")


def test_another_model_takes_the_place_of_a_retired_one(azurite: str) -> None:
    """The answer says which was asked for, the price is that of the one that made it, and the first
    forgets the video.
    """

    async def story(w: World) -> None:
        first = w.gateway
        w.gateway = with_fallback(w)
        try:
            video = await w.start()
            w.upstream.script("create", GONE)
            await w.gateway.submission.submit(video.id)
            assert list((await w.gateway.pool.outages(w.model)).values()) == ["model_retired"]
            await w.gateway.ledger.update(video.id, queue_position=7, estimated_start=w.clock.now())
            assert await w.gateway.submission.submit(video.id) == {"again": 0.0}
            assert (await w.video(video.id)).wire()["queue"] is None, "its place was one in another queue"
            assert await w.gateway.submission.submit(video.id) == {"done": True}
            moved = await w.video(video.id)
            assert (moved.fallback_from, moved.cost) == (w.model.name, 2 * video.cost)
            w.upstream.end()
            assert (await w.live(video.id)).status == "completed"
            assert (await w.account()).spend == 2 * video.cost
            assert await is_clean(w)
        finally:
            await w.gateway.archive.close()
            w.gateway = first

    run(azurite, story)


def test_a_note_of_the_model_that_was_left_is_dropped(azurite: str) -> None:
    """A crash between the two notes of a fallback leaves one too many, which the sweep takes away
    and nothing else.
    """

    async def story(w: World) -> None:
        first = w.gateway
        w.gateway = with_fallback(w)
        other = w.gateway.settings.catalog.models[1]
        try:
            video = await w.start()
            await w.gateway.pool.enter(other, video.id)
            await w.gateway.ledger.move(video.id, other.name, video.cost)
            w.clock.skip(130)
            await sweep(w, video.id)
            assert [each async for each, _ in w.gateway.pool.unfinished(w.model)] == []
            assert [each async for each, _ in w.gateway.pool.unfinished(other)] == [video.id]
        finally:
            await w.gateway.archive.close()
            w.gateway = first

    run(azurite, story)


def test_without_a_fallback_a_retired_model_fails(azurite: str) -> None:
    """With a code for it, at no cost."""

    async def story(w: World) -> None:
        video = await w.start()
        w.upstream.script("create", GONE)
        ended = await w.live(video.id)
        assert (ended.status, ended.error_code, ended.spent) == ("failed", "model_retired", 0)
        assert await is_clean(w)

    run(azurite, story)


@pytest.mark.parametrize("steps", ["none", "waiting", "running", "finished"])
def test_a_video_whose_orchestration_is_gone_gets_another(azurite: str, steps: str) -> None:
    """Whether it never began, died in the queue, died while the job ran, or before the last step:
    the sweep starts it once.
    """

    async def story(w: World) -> None:
        video = await w.start()
        if steps in ("running", "finished"):
            await w.gateway.submission.submit(video.id)
        if steps == "waiting":
            w.upstream.script("create", error(429, "Too many running tasks.", headers={"retry-after": "60"}))
            for _ in range(2):
                await w.gateway.submission.submit(video.id)
        if steps == "finished":
            await w.gateway.ledger.settle(video.id, status="failed", finished_at=w.clock.now())
        assert (await sweep(w)).started == []  # it may simply not have got further yet
        w.clock.skip(5 * 60)
        engine = await sweep(w)
        assert engine.started == [video.id]
        await Sweep(w.gateway, engine).run()
        assert engine.started == [video.id]
        w.upstream.end()
        await w.live(video.id)
        assert await is_clean(w)

    run(azurite, story)


def test_the_living_are_left_alone(azurite: str) -> None:
    """A sleeper is not even asked for before it should have woken, and nothing is started twice."""

    async def story(w: World) -> None:
        running, waiting = await waiting_behind(w)
        await w.gateway.ledger.update(waiting.id, wakes_at=w.clock.now() + timedelta(hours=1))
        w.clock.skip(5 * 60)
        engine = await sweep(w, running.id, waiting.id)
        assert (engine.asked, engine.started) == ([running.id], [])
        w.clock.skip(3600)
        engine = await sweep(w, running.id)
        assert engine.started == [waiting.id]

    run(azurite, story, **ONE)


def test_a_slot_of_a_video_that_is_forgotten_is_freed(azurite: str) -> None:
    """Also where nothing else is unfinished; not before it is clear that nobody is about to
    use it.
    """

    async def story(w: World) -> None:
        video = await w.start()
        slot = await w.gateway.pool.acquire(w.model, video)
        assert isinstance(slot, Slot)
        pools, partition = w.gateway.tables.pools, partition_of(w.model.name)
        note = await pools.get(partition, video.id)
        assert note is not None
        await pools.commit(partition, Delete(note))
        await w.gateway.ledger.settle(video.id, status="failed", finished_at=w.clock.now())
        w.clock.skip(9 * 60)
        await sweep(w)
        assert list(await w.gateway.pool.holders(w.model)) == [video.id]
        w.clock.skip(2 * 60)
        await sweep(w)
        assert await is_clean(w)

    run(azurite, story)


def test_a_note_without_a_video_is_dropped(azurite: str) -> None:
    """A request that died before its admission leaves one; it goes when it can no longer be
    admitted.
    """

    async def story(w: World) -> None:
        video = await w.start()
        await w.gateway.ledger.settle(video.id, status="failed", finished_at=w.clock.now())
        unknown = video.id[:-1] + ("0" if video.id[-1] != "0" else "1")
        await w.gateway.pool.leave(w.model.name, video.id)
        await w.gateway.pool.enter(w.model, unknown)
        w.clock.skip(5 * 60)
        assert (await sweep(w)).started == []
        assert not await is_clean(w)
        w.clock.skip(6 * 60)
        assert (await sweep(w)).started == []
        assert await is_clean(w)

    run(azurite, story)


@pytest.mark.parametrize("owner", ["a key", "the operator"])
def test_a_video_that_no_model_knows_of_is_found(azurite: str, owner: str) -> None:
    """Within the hour: it is noted again, and the run after that starts it."""

    async def story(w: World) -> None:
        made_by = w.owner if owner == "a key" else MASTER_OWNER
        video = (await w.gateway.lifecycle.start(w.request(), made_by)).video
        await w.gateway.pool.leave(w.model.name, video.id)
        w.clock.skip(3600)  # the full hour
        assert video.id not in (await sweep(w)).started
        w.clock.skip(5 * 60)
        assert (await sweep(w)).started == [video.id]
        await w.gateway.lifecycle.delete(video.id)
        assert await is_clean(w)

    run(azurite, story)


def test_bytes_go_when_their_retention_is_over(azurite: str) -> None:
    """Not a day sooner; what the video cost stays on record, also where it had waited for
    days.
    """

    async def story(w: World) -> None:
        video = await w.start()
        w.clock.skip(5 * 86_400)
        await w.gateway.submission.submit(video.id)
        w.upstream.end()
        done = await w.live(video.id)
        w.clock.skip(86_400 - 3600)
        await sweep(w)
        assert await w.gateway.archive.length(done) == done.bytes
        w.clock.skip(3600)
        await sweep(w)
        assert await w.gateway.archive.length(done) is None
        kept = await w.video(video.id)
        assert (kept.bytes, kept.spent, kept.status) == (0, done.cost, "completed")

    run(azurite, story, knobs={"retention_days": 1, "queue_seconds": 6 * 86_400})


def test_a_long_queue_is_looked_at_in_turn(azurite: str) -> None:
    """A run looks at a bounded number of those that wait, the runs together at all of them, and at
    holders always.
    """

    async def story(w: World) -> None:
        running, *_ = videos = [await w.start(prompt=f"Cat {number}") for number in range(12)]
        await w.gateway.submission.submit(running.id)
        started: set[str] = set()
        w.clock.skip(5 * 60)
        for _ in range(4):
            engine = Engine()
            await Sweep(w.gateway, engine, per_run=4).run()
            assert running.id in engine.started
            assert len(engine.started) < len(videos)
            started |= set(engine.started)
            w.clock.skip(5 * 60)
        assert started == {video.id for video in videos}

    run(azurite, story, **ONE)


def test_a_sweep_with_nothing_to_do_is_cheap(azurite: str) -> None:
    """It writes nothing and asks the engine for nobody."""

    async def story(w: World) -> None:
        w.clock.skip(5 * 60)
        w.faults.commits.clear()
        engine = await sweep(w)
        assert (w.faults.commits, engine.asked, engine.started) == ([], [], [])

    run(azurite, story)


def test_an_unclear_create_past_its_wait_is_not_sent_again(azurite: str) -> None:
    """Where the upstream cannot be asked what became of it, the video fails rather than be made
    twice.
    """

    async def story(w: World) -> None:
        video = await w.start()
        w.upstream.accept_then(httpx.ReadTimeout("lost"))
        w.upstream.script("list", *[error(500, "down")] * 300)
        ended = await w.live(video.id)
        assert ended.error_code == "upstream_uncertain"
        assert w.upstream.asked.count("create") == 1
        assert await is_clean(w)

    run(azurite, story, knobs={"deadline_seconds": 300})
