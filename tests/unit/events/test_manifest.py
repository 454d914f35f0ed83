"""Every finished video has a manifest beside it, for as long as it has its film."""

import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import ResourceExistsError

from shared.media.video import Video
from shared.storage.blobs import MANIFESTS, VIDEOS
from shared.upkeep.sweep import Sweep
from tests.fakes.orchestrations import Engine
from tests.fakes.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.world(knobs={"manifests": True})]


async def rendered(world: World, *end: Any) -> tuple[Video, Any]:
    """A video before its last step, and what that step is given."""
    video, steps = await world.start(prompt="A marked prompt"), world.gateway.steps
    await world.submitted(video.id)
    world.upstream.end(*end)
    outcome = await steps.check(video.id)
    return await world.video(video.id), {"video": video.id, "failure": outcome.get("failed")}


async def written(world: World, video_id: str, text: str) -> None:
    """What the host does with the output of the last step."""
    service = world.gateway.archive._connect()
    with suppress(ResourceExistsError):
        await service.create_container(MANIFESTS)
    await service.get_blob_client(MANIFESTS, f"{video_id}.json").upload_blob(text, overwrite=True)


async def has_manifest(world: World, video_id: str) -> bool:
    return await world.gateway.archive._connect().get_blob_client(MANIFESTS, f"{video_id}.json").exists()


async def made(world: World) -> Video:
    """A video with its manifest, of which nothing is left to do."""
    video, outcome = await rendered(world)
    await written(world, video.id, await world.gateway.steps.finish(outcome) or "")
    await world.gateway.steps.leave(video.id)
    return await world.video(video.id)


async def test_a_manifest_tells_what_the_journal_tells_and_where_the_film_is(world: World) -> None:
    """The signature of its caller's key, and what the key is, are not in it."""
    video, outcome = await rendered(world)
    text = await world.gateway.steps.finish(outcome) or ""
    told = json.loads(text)
    assert (told["id"], told["type"], told["status"]) == (f"{video.id}.ended", "video.completed", "completed")
    assert (told["cost"], told["prompt"], told["key_id"]) == (0.4, "A marked prompt", world.owner)
    blob = world.gateway.archive._connect().get_blob_client(told["container"], told["blob"])
    assert told["container"] == VIDEOS
    assert (await blob.get_blob_properties()).size == told["bytes"]
    assert world.secret not in text


@pytest.mark.world(knobs={"manifests": True, "log_prompts": False})
async def test_with_log_prompts_off_a_manifest_has_no_prompt(world: World) -> None:
    _, outcome = await rendered(world)
    assert "marked" not in (await world.gateway.steps.finish(outcome) or "marked")


async def test_only_what_is_completed_and_wanted_has_a_manifest(world: World) -> None:
    """Then no step follows: what is left of the others is cleared away at once."""
    _, failed = await rendered(world, "failed", {"code": "x", "message": "No."})
    assert await world.gateway.steps.finish(failed) is None
    video, deleted = await rendered(world)
    await world.gateway.lifecycle.delete(video.id)
    assert await world.gateway.steps.finish(deleted) is None
    assert [each async for each in world.gateway.pool.unfinished(world.model)] == []


@pytest.mark.world(knobs={})
async def test_without_the_setting_nothing_is_written(world: World) -> None:
    _, outcome = await rendered(world)
    assert await world.gateway.steps.finish(outcome) is None
    assert [each async for each in world.gateway.pool.unfinished(world.model)] == []


async def test_a_manifest_that_was_not_written_is_written_again(world: World) -> None:
    """The host can fail to write it when the step has returned: the pool has the video until a
    later step, so the sweep starts it again.
    """
    video, outcome = await rendered(world)
    first = await world.gateway.steps.finish(outcome)
    assert [each async for each, _ in world.gateway.pool.unfinished(world.model)] == [video.id]
    world.clock.skip(60)
    engine = Engine()
    await Sweep(world.gateway, engine).run()
    assert engine.started == [video.id]
    assert await world.gateway.steps.finish(outcome) == first
    await world.gateway.steps.leave(video.id)
    assert [each async for each in world.gateway.pool.unfinished(world.model)] == []


async def test_a_manifest_that_is_never_written_is_given_up(world: World) -> None:
    """With every deadline of its video: nothing is looked at for ever."""
    video, outcome = await rendered(world)
    await world.gateway.steps.finish(outcome)
    world.clock.skip(timedelta(days=2).total_seconds())
    await Sweep(world.gateway, Engine()).run()
    assert [each async for each in world.gateway.pool.unfinished(world.model)] == []
    assert (await world.video(video.id)).status == "completed"


async def test_a_manifest_goes_with_its_video(world: World) -> None:
    """When its caller deletes it, or its time is over."""
    deleted = await made(world)
    await world.gateway.lifecycle.delete(deleted.id)
    assert not await has_manifest(world, deleted.id)
    dropped = await made(world)
    assert await has_manifest(world, dropped.id)
    await world.gateway.archive.drop(dropped)
    assert not await has_manifest(world, dropped.id)


async def test_a_manifest_that_is_written_while_its_video_is_deleted_is_dropped(world: World) -> None:
    """By the step after: the host writes what it was given, whatever has happened meanwhile."""
    video, outcome = await rendered(world)
    text = await world.gateway.steps.finish(outcome) or ""
    await world.gateway.lifecycle.delete(video.id)
    await written(world, video.id, text)
    await world.gateway.steps.leave(video.id)
    assert not await has_manifest(world, video.id)
    assert [each async for each in world.gateway.pool.unfinished(world.model)] == []
