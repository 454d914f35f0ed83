"""What ends a video before its time, and what the sweep repairs: on real tables and blobs."""

from random import Random

import httpx
import pytest
from msgspec.structs import replace

from shared import gateway as composition
from shared.capacity.pool import Slot
from shared.config.catalog import Catalog
from shared.gateway import Gateway
from shared.media.video import MASTER_OWNER, Video
from shared.storage.tables import Delete, partition_of
from shared.upkeep.sweep import Sweep
from shared.videos.watch import WATCHES
from tests.fakes.orchestrations import Engine
from tests.fakes.upstream import error
from tests.fakes.world import World

pytestmark = pytest.mark.anyio


async def sweep(world: World, *living: str) -> Engine:
    engine = Engine(*living)
    await Sweep(world.gateway, engine).run()
    return engine


async def is_clean(world: World) -> bool:
    """No slot, no place, no note and no reservation is left."""
    account = await world.account()
    rows = [row.key async for row in world.gateway.tables.pools.scan(partition_of(world.model.name))]
    holders = await world.gateway.pool.holders(world.model)
    return (
        (account.reserved, account.running) == (0, 0)
        and not holders
        and all(row.startswith(("state_", "usual")) for row in rows)
    )


async def waiting_behind(world: World) -> tuple[Video, Video]:
    """One video that runs and one that waits for its slot."""
    running, waiting = await world.start(), await world.start(prompt="Another cat")
    await world.gateway.submission.submit(running.id)
    assert "again" in await world.gateway.submission.submit(waiting.id)
    return running, waiting


ONE = {"max_running": 1}


@pytest.mark.world(**ONE)
async def test_a_deleted_video_that_waits_leaves_the_queue(world: World) -> None:
    """It costs nothing, is asked for nowhere, and its orchestration ends at its next step."""
    running, waiting = await waiting_behind(world)
    await world.gateway.lifecycle.delete(waiting.id)
    assert (await world.account()).running == 1
    world.upstream.end()
    await world.live(running.id)
    assert (await world.live(waiting.id)).error_code == "cancelled"
    assert world.upstream.asked.count("create") == 1
    assert await is_clean(world)


@pytest.mark.world(**ONE)
async def test_a_deleted_video_that_runs_keeps_its_slot_until_its_job_ends(world: World) -> None:
    """The upstream still works on it; then the job goes there too, and the next in line
    starts.
    """
    running, waiting = await waiting_behind(world)
    await world.gateway.lifecycle.delete(running.id)
    assert "again" in await world.gateway.rendering.check(running.id)
    world.clock.skip(62)
    assert "again" in await world.gateway.submission.submit(waiting.id)
    world.upstream.end()
    assert (await world.live(running.id)).spent == running.cost
    assert "delete" in world.upstream.asked
    assert await world.gateway.submission.submit(waiting.id) == {"done": True}
    world.upstream.end()
    await world.live(waiting.id)
    assert await is_clean(world)


async def test_a_deleted_video_that_is_finished_loses_its_bytes(world: World) -> None:
    """What it cost stays spent; deleting it again changes nothing."""
    video = await world.start()
    await world.gateway.submission.submit(video.id)
    world.upstream.end()
    done = await world.live(video.id)
    for _ in range(2):
        await world.gateway.lifecycle.delete(video.id)
        assert await world.gateway.archive.length(done) is None
    assert (await world.account()).spend == done.cost
    assert await is_clean(world)


@pytest.mark.world(knobs={"queue_seconds": 600}, **ONE)
async def test_a_video_does_not_wait_for_ever(world: World) -> None:
    """After `queue_seconds` it fails as `queue_timeout`, at no cost."""
    running, waiting = await waiting_behind(world)
    world.clock.skip(601)
    ended = await world.live(waiting.id)
    assert (ended.status, ended.error_code, ended.spent) == ("failed", "queue_timeout", 0)
    world.upstream.end()
    await world.live(running.id)
    assert await is_clean(world)


@pytest.mark.world(knobs={"deadline_seconds": 300}, **ONE)
async def test_a_job_past_its_deadline_frees_its_slot(world: World) -> None:
    """The next in line starts although the upstream never ended the first."""
    running, waiting = await waiting_behind(world)
    world.clock.skip(301)
    assert (await world.live(running.id)).error_code == "deadline_exceeded"
    assert await world.gateway.submission.submit(waiting.id) == {"done": True}
    world.upstream.end()
    await world.live(waiting.id)
    assert await is_clean(world)


def with_fallback(world: World) -> Gateway:
    """The world's gateway with a second model, twice as expensive, that takes the place of the
    first.
    """
    dear = replace(world.model.capability, prices={size: 2 * price for size, price in world.model.capability.prices.items()})
    places = tuple(replace(each, name=f"other-{each.name}") for each in world.model.deployments)
    other = replace(world.model, name=f"other-{world.model.name}", capability=dear, deployments=places)
    catalog = Catalog((world.model, other), {world.model.name: (other.name,)})
    given = replace(world.gateway.settings, catalog=catalog)
    return composition.build(given, world.clock, Random(3), world.gateway.connections, world.gateway.tables)


GONE = error(410, "The model has been retired.", code="ModelRetired")


async def test_another_model_takes_the_place_of_a_retired_one(world: World) -> None:
    """The answer says which was asked for, the price is that of the one that made it, and the first
    forgets the video.
    """
    first = world.gateway
    world.gateway = with_fallback(world)
    try:
        video = await world.start()
        world.upstream.script("create", GONE)
        await world.gateway.submission.submit(video.id)
        assert list((await world.gateway.pool.troubles(world.model)).values()) == ["model_retired"]
        assert await world.gateway.submission.submit(video.id) == {"again": 0.0}
        assert await world.gateway.pool.standing(video) is None, "its place was one in another queue"
        assert await world.gateway.submission.submit(video.id) == {"done": True}
        moved = await world.video(video.id)
        assert (moved.fallback_from, moved.cost) == (world.model.name, 2 * video.cost)
        world.upstream.end()
        assert (await world.live(video.id)).status == "completed"
        assert (await world.account()).spend == 2 * video.cost
        assert await is_clean(world)
    finally:
        await world.gateway.archive.close()
        world.gateway = first


async def test_a_note_of_the_model_that_was_left_is_dropped(world: World) -> None:
    """A crash between the two notes of a fallback leaves one too many, which the sweep takes away
    and nothing else.
    """
    first = world.gateway
    world.gateway = with_fallback(world)
    other = world.gateway.settings.catalog.models[1]
    try:
        video = await world.start()
        await world.gateway.pool.enter(other, video.id)
        await world.gateway.ledger.move(video.id, other.name, video.cost)
        world.clock.skip(130)
        await sweep(world, video.id)
        assert [each async for each, _ in world.gateway.pool.unfinished(world.model)] == []
        assert [each async for each, _ in world.gateway.pool.unfinished(other)] == [video.id]
    finally:
        await world.gateway.archive.close()
        world.gateway = first


async def test_without_a_fallback_a_retired_model_fails(world: World) -> None:
    """With a code for it, at no cost."""
    video = await world.start()
    world.upstream.script("create", GONE)
    ended = await world.live(video.id)
    assert (ended.status, ended.error_code, ended.spent) == ("failed", "model_retired", 0)
    assert await is_clean(world)


@pytest.mark.parametrize("steps", ["none", "waiting", "running", "finished"])
async def test_a_video_whose_orchestration_is_gone_gets_another(world: World, steps: str) -> None:
    """Whether it never began, died in the queue, died while the job ran, or before the last step:
    the sweep starts it once.
    """
    video = await world.start()
    if steps in ("running", "finished"):
        await world.gateway.submission.submit(video.id)
    if steps == "waiting":
        world.upstream.script("create", error(429, "Too many running tasks.", headers={"retry-after": "60"}))
        for _ in range(2):
            await world.gateway.submission.submit(video.id)
    if steps == "finished":
        await world.gateway.ledger.settle(video.id, status="failed", finished_at=world.clock.now())
    assert (await sweep(world)).started == []  # it may simply not have got further yet
    world.clock.skip(5 * 60)
    engine = await sweep(world)
    assert engine.started == [video.id]
    await Sweep(world.gateway, engine).run()
    assert engine.started == [video.id]
    world.upstream.end()
    await world.live(video.id)
    assert await is_clean(world)


@pytest.mark.world(**ONE)
async def test_the_living_are_left_alone(world: World) -> None:
    """The engine is asked for them, storage is not, and nothing is started twice."""
    running, waiting = await waiting_behind(world)
    world.clock.skip(5 * 60)
    engine = await sweep(world, running.id, waiting.id)
    assert (set(engine.asked), engine.started) == ({running.id, waiting.id, *WATCHES}, [])
    engine = await sweep(world, running.id)
    assert engine.started == [waiting.id]


async def test_a_slot_of_a_video_that_is_forgotten_is_freed(world: World) -> None:
    """Also where nothing else is unfinished; not before it is clear that nobody is about to
    use it.
    """
    video = await world.start()
    slot = await world.gateway.pool.acquire(world.model, video)
    assert isinstance(slot, Slot)
    pools, partition = world.gateway.tables.pools, partition_of(world.model.name)
    note = await pools.get(partition, video.id)
    assert note is not None
    await pools.commit(partition, Delete(note))
    await world.gateway.ledger.settle(video.id, status="failed", finished_at=world.clock.now())
    world.clock.skip(9 * 60)
    await sweep(world)
    assert list(await world.gateway.pool.holders(world.model)) == [video.id]
    world.clock.skip(2 * 60)
    await sweep(world)
    assert await is_clean(world)


async def test_a_note_without_a_video_is_dropped(world: World) -> None:
    """A request that died before its admission leaves one; it goes when it can no longer be
    admitted.
    """
    video = await world.start()
    await world.gateway.ledger.settle(video.id, status="failed", finished_at=world.clock.now())
    unknown = video.id[:-1] + ("0" if video.id[-1] != "0" else "1")
    await world.gateway.pool.leave(world.model.name, video.id)
    await world.gateway.pool.enter(world.model, unknown)
    world.clock.skip(5 * 60)
    assert (await sweep(world)).started == []
    assert not await is_clean(world)
    world.clock.skip(6 * 60)
    assert (await sweep(world)).started == []
    assert await is_clean(world)


@pytest.mark.parametrize("owner", ["a key", "the operator"])
async def test_a_video_that_no_model_knows_of_is_found(world: World, owner: str) -> None:
    """Within the hour: it is noted again, and the run after that starts it."""
    made_by = world.owner if owner == "a key" else MASTER_OWNER
    video = (await world.gateway.lifecycle.start(world.request(), made_by)).video
    await world.gateway.pool.leave(world.model.name, video.id)
    world.clock.skip(3600)  # the full hour
    assert video.id not in (await sweep(world)).started
    world.clock.skip(5 * 60)
    assert (await sweep(world)).started == [video.id]
    await world.gateway.lifecycle.delete(video.id)
    assert await is_clean(world)


@pytest.mark.world(knobs={"retention_days": 1, "queue_seconds": 6 * 86_400})
async def test_bytes_go_when_their_retention_is_over(world: World) -> None:
    """Not a day sooner; what the video cost stays on record, also where it had waited for
    days.
    """
    video = await world.start()
    world.clock.skip(5 * 86_400)
    await world.gateway.submission.submit(video.id)
    world.upstream.end()
    done = await world.live(video.id)
    world.clock.skip(86_400 - 3600)
    await sweep(world)
    assert await world.gateway.archive.length(done) == done.bytes
    world.clock.skip(3600)
    await sweep(world)
    assert await world.gateway.archive.length(done) is None
    kept = await world.video(video.id)
    assert (kept.bytes, kept.spent, kept.status) == (0, done.cost, "completed")


@pytest.mark.world(**ONE)
async def test_a_long_queue_is_looked_at_in_turn(world: World) -> None:
    """A run looks at a bounded number of those that wait, the runs together at all of them, and at
    holders always.
    """
    running, *_ = videos = [await world.start(prompt=f"Cat {number}") for number in range(12)]
    await world.gateway.submission.submit(running.id)
    started: set[str] = set()
    world.clock.skip(5 * 60)
    for _ in range(4):
        engine = Engine()
        await Sweep(world.gateway, engine, per_run=4).run()
        assert running.id in engine.started
        assert len(engine.started) < len(videos)
        started |= set(engine.started)
        world.clock.skip(5 * 60)
    assert started == {video.id for video in videos}


async def test_a_sweep_with_nothing_to_do_is_cheap(world: World) -> None:
    """It writes nothing and asks the engine for nobody."""
    world.clock.skip(5 * 60)
    world.faults.commits.clear()
    engine = await sweep(world)
    assert (world.faults.commits, engine.asked, engine.started) == ([], [], [])


@pytest.mark.world(knobs={"deadline_seconds": 300})
async def test_an_unclear_create_past_its_wait_is_not_sent_again(world: World) -> None:
    """Where the upstream cannot be asked what became of it, the video fails rather than be made
    twice.
    """
    video = await world.start()
    world.upstream.accept_then(httpx.ReadTimeout("lost"))
    world.upstream.script("list", *[error(500, "down")] * 300)
    ended = await world.live(video.id)
    assert ended.error_code == "upstream_uncertain"
    assert world.upstream.asked.count("create") == 1
    assert await is_clean(world)
