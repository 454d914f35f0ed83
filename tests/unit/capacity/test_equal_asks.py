"""Equal requests at one resource, across keys, models and deployments."""

import asyncio
from io import BytesIO

import httpx
import pytest
from msgspec.structs import replace
from PIL import Image

from shared.accounts.account import Account
from shared.media.video import Video
from shared.storage.tables import Row
from shared.upkeep.sweep import Sweep
from tests.fakes.orchestrations import Engine
from tests.fakes.table import values_of
from tests.fakes.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.world(max_running=4, creates_per_minute=30)]

RESET = httpx.ReadError("reset")


def two_models(world: World) -> World:
    """The same deployment of one resource under a second model's name."""
    (only,) = world.model.deployments
    other = replace(world.model, name=f"{world.model.name}-b", deployments=(replace(only, name="b"),), aliases=())
    return world.with_model(world.model, other)


async def of_two_keys(world: World, **fields: object) -> tuple[Video, Video]:
    """The same prompt of two keys, each under a model name of its own."""
    other = (await world.gateway.keys.issue(Account())).key_id
    first, second = world.gateway.settings.catalog.models
    mine = await world.start(model=first.name, **fields)
    theirs = (await world.gateway.lifecycle.start(world.request(model=second.name, **fields), other)).video
    return mine, theirs


async def asks(world: World) -> list[str]:
    """The videos of this world that are noted as asked for."""
    noted = [row.values["video"] async for row in world.gateway.tables.pools.scan("asks")]
    return [each for each in noted if await world.gateway.videos.find(each)]


async def test_two_keys_whose_answers_are_lost_each_get_their_own_video(world: World) -> None:
    """The second create leaves only when the first one's outcome is known."""
    world = two_models(world)
    mine, theirs = await of_two_keys(world)
    world.upstream.accept_then(RESET)
    world.upstream.accept_then(RESET)
    await world.gateway.submission.submit(mine.id)
    assert "again" in await world.gateway.submission.submit(theirs.id)
    assert world.upstream.asked.count("create") == 1
    made = list(world.upstream.jobs)
    assert await world.submitted(mine.id) == {"done": True}
    assert await world.submitted(theirs.id) == {"done": True}
    assert (await world.video(mine.id)).upstream_id == made[0]
    assert (await world.video(theirs.id)).upstream_id == list(world.upstream.jobs)[1]
    assert not {mine.id, theirs.id} & set(await asks(world))


async def test_private_images_of_two_keys_are_not_exchanged(world: World) -> None:
    """The list tells no image, so that neither job is adopted."""
    world = two_models(world)
    image = BytesIO()
    Image.new("RGB", (720, 1280), "navy").save(image, format="PNG")
    videos = await of_two_keys(world, input_reference=image.getvalue())
    for _ in videos:
        world.upstream.accept_then(RESET)
    for video in videos:
        assert (await world.submitted(video.id))["failed"]["code"] == "upstream_uncertain"
    assert world.upstream.asked.count("create") == 2


async def test_waiting_for_an_equal_request_costs_no_pace(world: World) -> None:
    """The slot is given back as it was, since nothing was asked for."""
    world = two_models(world)
    mine, theirs = await of_two_keys(world)
    world.upstream.accept_then(RESET)
    await world.gateway.submission.submit(mine.id)
    for _ in range(20):
        assert await world.gateway.submission.submit(theirs.id) == {"again": world.gateway.settings.knobs.poll_seconds}
    holders = await world.gateway.pool.holders(world.gateway.settings.catalog.models[1])
    assert list(holders) == []
    assert (await world.video(theirs.id)).attempted_at is None


async def test_other_requests_and_other_resources_do_not_wait(world: World) -> None:
    """Only what the list could confuse is kept apart."""
    (only,) = world.model.deployments
    elsewhere = replace(only, name="c", base_url=only.base_url.replace("example", "elsewhere"))
    world = world.with_model(world.model, replace(world.model, name=f"{world.model.name}-c", deployments=(elsewhere,)))
    mine, theirs = await of_two_keys(world)
    world.upstream.script("create", RESET)
    await world.gateway.submission.submit(mine.id)
    assert await world.gateway.submission.submit(theirs.id) == {"done": True}


@pytest.mark.parametrize("moment", ["note", "ask"])
async def test_a_crash_beside_the_note_of_a_request_keeps_nobody_waiting(world: World, moment: str) -> None:
    """Killed after its record or after the row: it looks for a job, and the equal one goes on."""
    world = two_models(world)
    mine, theirs = await of_two_keys(world)
    dying = world.another()

    def die(writes: object) -> None:
        wanted = "attempted_at" if moment == "note" else "since"
        if any(values_of(each).get(wanted) for each in writes):  # type: ignore[attr-defined] # a sequence of writes
            world.faults.dies_after = len(world.faults.commits)

    world.faults.after = die
    killed = asyncio.create_task(dying.submission.submit(mine.id))
    await world.faults.died.wait()
    killed.cancel()
    world.faults.after, world.faults.dies_after = lambda writes: None, None
    assert await world.submitted(theirs.id) == {"done": True} if moment == "note" else await world.submitted(mine.id)
    for video in (mine, theirs):
        assert await world.submitted(video.id) == {"done": True}
    jobs = {(await world.video(each.id)).upstream_id for each in (mine, theirs)}
    assert jobs == set(world.upstream.jobs)


class Bell:
    """Hears who is woken, by any instance of a world."""

    def __init__(self, world: World) -> None:
        self.heard: list[str] = []
        world.gateway.pool.wake_ups.go_through(self)

    async def wake(self, video_id: str) -> None:
        self.heard.append(video_id)


@pytest.mark.parametrize("made", [True, False])
async def test_whoever_waits_for_a_create_of_another_model_is_woken_by_its_outcome(world: World, made: bool) -> None:
    """Once, also where it turns out to have made no job."""
    world = two_models(world)
    bell = Bell(world)
    mine, theirs = await of_two_keys(world)
    if made:
        world.upstream.accept_then(RESET)
    else:
        world.upstream.script("create", RESET)
    await world.gateway.submission.submit(mine.id)
    for _ in range(2):
        await world.gateway.submission.submit(theirs.id)
    assert bell.heard == []
    assert await world.submitted(mine.id) == {"done": True}
    assert bell.heard == [theirs.id]
    assert await world.submitted(theirs.id) == {"done": True}
    assert bell.heard == [theirs.id]


async def test_a_row_names_eight_models_at_most(world: World) -> None:
    """However many wait; the others look by themselves."""
    (only,) = world.model.deployments
    video = await attempted(world, await world.start())
    asks = world.gateway.equal_asks
    noted = await asks.begin(only, video)
    for number in range(20):
        assert await asks.begin(only, replace(video, id=f"{video.id}{number}", model=f"model-{number}")) is None
    assert noted is not None
    assert await asks.end(noted) == [f"model-{number}" for number in range(8)]
    assert await asks.end(noted) == ()


async def test_who_comes_while_the_row_is_removed_begins_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would wake it: what it waits for is over."""
    (only,) = world.model.deployments
    first, second = await attempted(world, await world.start()), await world.start()
    asks = world.gateway.equal_asks
    noted = await asks.begin(only, first)
    assert noted is not None
    get = world.gateway.tables.pools.get

    async def ended(partition: str, key: str) -> Row | None:
        patched.undo()  # it is for one read alone
        await asks.end(noted)
        return await get(partition, key)

    with monkeypatch.context() as patched:
        patched.setattr(world.gateway.tables.pools, "get", ended)
        assert await asks.begin(only, second) is not None


async def attempted(world: World, video: Video) -> Video:
    """A video whose create is under way, as its record says."""
    entry = await world.gateway.videos.find(video.id)
    assert entry is not None
    return (await world.gateway.videos.change(entry, attempted_at=world.clock.now())).video


async def test_the_sweep_drops_what_a_crash_has_left_behind(world: World) -> None:
    """Rows of requests that cannot be under way any more, and no others."""
    (only,) = world.model.deployments
    video = await world.start()
    assert await world.gateway.equal_asks.begin(only, video) is not None
    await world.gateway.equal_asks.forget()
    assert video.id in await asks(world)
    world.clock.skip(24 * 3600)
    await Sweep(world.gateway, Engine()).run()
    assert video.id not in await asks(world)
