"""Couriers bring everything to its receiver: late if need be, with the same ids, or to where the
operator finds it.
"""

import asyncio

import httpx
import msgspec
import pytest

from shared.events.deliveries import MAIL
from shared.events.record import record_of
from tests.fakes.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.world(sinks=("datadog",))]

DAY = 24 * 60 * 60.0


async def ended(world: World) -> str:
    """A video that has come to its end; its two events are on their way."""
    video = await world.start()
    await world.submitted(video.id)
    world.upstream.end()
    await world.live(video.id)
    return video.id


async def on_its_way(world: World) -> int:
    return len([row async for row in world.gateway.tables.gateway.scan(f"{MAIL}datadog")])


async def given_up(world: World) -> list[tuple[str, str]]:
    return [(each.record.id, each.reason) async for each in world.gateway.couriers.deliveries.undelivered()]


async def test_a_receiver_that_is_down_for_a_day_gets_everything_afterwards(world: World) -> None:
    """Once, and in some dozens of requests rather than thousands, in whichever way it was down."""
    happenings = []
    for trouble in (503, 401, 302, httpx.ConnectError("down")):
        world.receivers.says["datadog"] = trouble
        video_id = await ended(world)
        happenings += [f"{video_id}.started", f"{video_id}.ended"]
        await world.delivered(DAY / 4)
    assert await on_its_way(world) == 8
    assert world.receivers.asked["datadog"] < 100
    del world.receivers.says["datadog"]
    await world.delivered(3600)
    assert sorted(world.receivers.seen["datadog"]) == sorted(happenings)
    assert await on_its_way(world) == 0


@pytest.mark.parametrize("trouble", [401, 302, httpx.ConnectError("down")], ids=str)
async def test_whatever_may_pass_is_waited_out(world: World, trouble: int | Exception) -> None:
    """A wrong key, a wrong address, and a receiver that does not answer."""
    world.receivers.says["datadog"] = trouble
    video_id = await ended(world)
    await world.delivered(60)
    assert await on_its_way(world) == 2
    del world.receivers.says["datadog"]
    await world.delivered(600)
    assert sorted(world.receivers.seen["datadog"]) == [f"{video_id}.ended", f"{video_id}.started"]


async def test_after_three_days_an_event_is_given_up_and_can_be_replayed(world: World) -> None:
    world.receivers.says["datadog"] = 503
    video_id = await ended(world)
    await world.delivered(4 * DAY)
    assert await on_its_way(world) == 0
    assert await given_up(world) == [(f"{video_id}.ended", "HTTP 503"), (f"{video_id}.started", "HTTP 503")]
    del world.receivers.says["datadog"]
    deliveries = world.gateway.couriers.deliveries
    for each in [each async for each in deliveries.undelivered("datadog")]:
        await deliveries.replay(each)
        await deliveries.replay(each)
    await world.delivered()
    assert sorted(world.receivers.seen["datadog"]) == [f"{video_id}.ended", f"{video_id}.started"]
    assert await given_up(world) == []


async def test_an_event_that_a_receiver_refuses_holds_up_no_other(world: World) -> None:
    """The batch is halved until it is alone, and it is given up at once."""
    bad, good = [await ended(world) for _ in range(2)]
    world.receivers.rejects = {f"{bad}.started"}
    await world.delivered()
    assert sorted(world.receivers.seen["datadog"]) == sorted([f"{bad}.ended", f"{good}.started", f"{good}.ended"])
    assert await given_up(world) == [(f"{bad}.started", "HTTP 400")]


async def test_a_receiver_may_say_when_to_come_again(world: World) -> None:
    world.receivers.says["datadog"] = httpx.Response(429, headers={"retry-after": "7200"})
    await ended(world)
    await world.delivered()
    assert await world.gateway.couriers.deliveries.wait("datadog") == pytest.approx(7200, abs=1)
    assert world.receivers.asked["datadog"] == 1


async def test_what_was_sent_and_not_noted_is_sent_again_with_the_same_ids(world: World) -> None:
    """The courier died between the two."""
    video_id = await ended(world)
    world.faults.dies_after = len(world.faults.commits)
    dying = asyncio.create_task(world.gateway.couriers.deliver("datadog"))
    await world.faults.died.wait()
    dying.cancel()
    world.faults.dies_after = None
    await world.delivered()
    assert sorted(world.receivers.seen["datadog"]) == 2 * [f"{video_id}.ended"] + 2 * [f"{video_id}.started"]


@pytest.mark.world(sinks=("datadog", "datadog_llm_observability"))
async def test_what_was_given_up_is_told_apart_by_its_destination(world: World) -> None:
    """Also where the name of one begins with that of another."""
    world.receivers.says["datadog_llm_observability"] = 400
    await ended(world)
    await world.delivered()
    deliveries = world.gateway.couriers.deliveries
    assert [each.record.id async for each in deliveries.undelivered("datadog")] == []
    assert (await deliveries.backlog("datadog")).given_up == 0
    assert (await deliveries.backlog("datadog_llm_observability")).given_up == 1


async def test_two_couriers_at_once_leave_nothing(world: World) -> None:

    await ended(world)
    await asyncio.gather(*(world.gateway.couriers.deliver("datadog") for _ in range(2)))
    await world.delivered()
    assert await on_its_way(world) == 0


async def test_events_of_a_day_go_in_batches(world: World) -> None:
    told, couriers = record_of("started", await world.start(), prompts=True), world.gateway.couriers
    for number in range(50):
        await couriers.deliveries.add("datadog", msgspec.structs.replace(told, id=f"video_{number}.started"), "")
    await world.delivered(1)
    assert len(world.receivers.seen["datadog"]) == 51
    assert world.receivers.asked == {"datadog": 2}


async def test_a_courier_of_what_is_no_longer_configured_ends(world: World) -> None:
    assert await world.gateway.couriers.deliver("another") is None


async def test_the_sweep_summons_where_something_is_due(world: World) -> None:
    """The net for a summons that was lost: only where something waits, and is due."""
    summoned: list[str] = []

    class Summoner:
        async def summon(self, destination: str) -> None:
            summoned.append(destination)

    couriers = world.gateway.couriers
    await ended(world)
    couriers.go_through(Summoner())
    await couriers.summon_where_due()
    assert summoned == ["datadog"]
    world.receivers.says["datadog"] = 503
    await world.delivered()
    await couriers.summon_where_due()
    assert summoned == ["datadog"]
    world.clock.skip(5)
    await couriers.summon_where_due()
    assert summoned == ["datadog", "datadog"]
