"""An operator hears of what goes wrong, once for each happening, through the logging providers."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from shared.errors import StorageUnavailable
from shared.events.alerts import TOLD, Alert
from shared.events.record import record_of
from shared.media.video import Video, new_id
from shared.storage.tables import Write
from shared.upkeep.sweep import Sweep
from shared.videos.step_result import failed
from tests.fakes.orchestrations import Engine
from tests.fakes.table import key_of
from tests.fakes.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.world(sinks=("datadog", "langsmith"), limits={"soft_budget": 500_000})]


async def heard(world: World) -> list[dict[str, Any]]:
    """The alerts that have arrived."""
    await world.delivered()
    logs = [log for body in world.receivers.bodies for log in json.loads(body) if body.startswith("[")]
    records = [json.loads(log["message"]) for log in logs]
    return [each for each in records if each["type"] == "alert"]


async def swept(world: World) -> None:
    await Sweep(world.gateway, Engine()).run()


async def test_a_soft_budget_that_is_crossed_is_told_once(world: World) -> None:
    """By the video that crosses it, and not by the next."""
    for number in range(3):
        await world.start(prompt=f"Cat {number}")
        assert len(await heard(world)) == min(number, 1)
    (alert,) = await heard(world)
    assert (alert["error_code"], alert["key_id"]) == ("soft_budget_crossed", world.owner)
    assert "$0.8, more than its soft budget of $0.5" in alert["error_message"]


@pytest.mark.parametrize("teller", ["sweep", "end"])
async def test_a_soft_budget_is_told_of_also_where_the_app_died_before_it_could(world: World, teller: str) -> None:
    """By the sweep that starts the video, or with its end where the client has started it."""
    lifecycle = world.gateway.lifecycle
    video = (await lifecycle.ledger.admit(await crossing_video(world), None, None)).video
    assert await heard(world) == []
    if teller == "sweep":
        world.clock.skip(60)
        await swept(world)
    else:
        await lifecycle.finish(video.id, failed("cancelled", "No.")["failed"])
    assert [each["error_code"] for each in await heard(world)] == ["soft_budget_crossed"]
    await world.start(prompt="Another")
    assert len(await heard(world)) == 1


async def crossing_video(world: World) -> Video:
    """A video in the pool, dearer than the soft budget, that was not admitted yet."""
    video = msgspec.structs.replace(await world.start(), cost=600_000)
    video = msgspec.structs.replace(video, id=new_id(world.owner, world.clock.now()))
    await world.gateway.pool.enter(world.model, video.id)
    return video


async def test_a_soft_budget_is_told_of_again_only_where_it_was_changed(world: World) -> None:
    """Not where a video fails and the next one crosses it once more."""
    first, _ = await world.start(), await world.start(prompt="Another")
    await world.gateway.lifecycle.delete(first.id)
    await world.start(prompt="A third")
    assert len(await heard(world)) == 1
    await world.send("POST", "/key/update", body={"key": world.secret, "soft_budget": 1})
    await world.start(prompt="A fourth")
    assert len(await heard(world)) == 2


async def test_a_deployment_that_is_closed_is_told_once_for_each_outage(world: World) -> None:
    deployment = world.model.deployments[0]
    for _ in range(2):
        await world.gateway.pool.take_down(world.model, deployment, "upstream_auth", 60)
        await swept(world)
        await swept(world)
        world.clock.skip(3600)
    found = await heard(world)
    assert [(each["error_code"], each["deployment"]) for each in found] == [("deployment_closed", deployment.name)] * 2
    assert found[0]["id"] != found[1]["id"]
    assert "upstream_auth" in found[0]["error_message"]


@pytest.mark.parametrize(("failures", "told"), [(5, 0), (6, 1)])
async def test_a_model_whose_videos_fail_is_told_of(world: World, failures: int, told: int) -> None:
    """More than half of ten; once in an hour."""
    for number in range(10):
        video = await world.start(prompt=f"Cat {number}")
        await world.gateway.lifecycle.finish(video.id, failed("x", "No.")["failed"] if number < failures else None)
    await swept(world)
    await swept(world)
    assert [each["error_code"] for each in await heard(world)].count("failure_rate_high") == told


async def test_videos_that_their_callers_cancel_are_no_failures(world: World) -> None:
    for number in range(10):
        video = await world.start(prompt=f"Cat {number}")
        await world.gateway.lifecycle.delete(video.id)
    await swept(world)
    assert [each["error_code"] for each in await heard(world)] == []


async def test_a_provider_that_takes_nothing_is_told_of_to_the_others_once_a_day(world: World) -> None:
    told = record_of("ended", await world.start(), prompts=False)
    await world.delivered()
    world.receivers.says["langsmith"] = 400
    for number in range(2):
        event = msgspec.structs.replace(told, id=f"{number}.ended")
        await world.gateway.couriers.deliveries.add("langsmith", event, "")
        await world.delivered()
        await swept(world)
    (alert,) = await heard(world)
    assert (alert["error_code"], alert["error_message"][:9]) == ("event_undeliverable", "langsmith")


async def test_what_was_given_up_long_ago_hides_nothing_of_today(world: World) -> None:
    """Also not where it sorts before it."""
    told = record_of("ended", await world.start(), prompts=False)
    world.receivers.says["langsmith"] = 400
    for event_id in ("a.ended", "b.ended"):
        await world.gateway.couriers.deliveries.add("langsmith", msgspec.structs.replace(told, id=event_id), "")
        await world.delivered()
        await swept(world)
        world.clock.skip(24 * 3600)
    assert [each["error_code"] for each in await heard(world)].count("event_undeliverable") == 2


async def test_what_lies_undelivered_for_months_is_told_of_once(world: World) -> None:
    """Also when it is forgotten that it was told."""
    told = record_of("ended", await world.start(), prompts=False)
    world.receivers.says["langsmith"] = 400
    await world.gateway.couriers.deliveries.add("langsmith", told, "")
    await world.delivered()
    for _ in range(5):
        await swept(world)
        world.clock.skip(30 * 24 * 3600)
    assert [each["error_code"] for each in await heard(world)].count("event_undeliverable") == 1


async def test_a_video_that_outlives_every_deadline_is_told_of(world: World) -> None:
    video = await world.start()
    world.clock.skip(2 * 24 * 3600)
    await swept(world)
    found = [each for each in await heard(world) if each["error_code"] == "video_stuck"]
    assert [each["video_id"] for each in found] == [video.id]


async def test_an_alert_that_was_not_noted_is_told_again_with_the_same_id(world: World) -> None:
    alert = Alert(kind="video_stuck", subject="x", since="1", message="No.")

    def fail(writes: Sequence[Write]) -> None:
        if any(key_of(write) == alert.id for write in writes):
            raise StorageUnavailable("no")

    world.faults.before = fail
    with pytest.raises(StorageUnavailable):
        await world.gateway.alerts.tell(alert)
    world.faults.before = lambda writes: None
    await heard(world)
    await world.gateway.alerts.tell(alert)
    assert [each["id"] for each in await heard(world)] == [alert.id] * 2


async def test_what_was_told_is_forgotten_in_the_end(world: World) -> None:
    alert = Alert(kind="video_stuck", subject="x", since="1", message="No.")
    await world.gateway.alerts.tell(alert)
    world.clock.skip(timedelta(days=61).total_seconds())
    await swept(world)
    assert [row async for row in world.gateway.tables.gateway.scan(TOLD)] == []


@pytest.mark.world(sinks=(), limits={"soft_budget": 1})
async def test_without_a_provider_nothing_is_written(world: World) -> None:
    await world.start()
    await world.gateway.pool.take_down(world.model, world.model.deployments[0], "upstream_auth", 60)
    await swept(world)
    written = {partition for partition, _ in world.faults.commits}
    assert not [each for each in written if each == TOLD or each.startswith("mail_")]
