"""What could not be delivered is the operator's to see, and to have tried again."""

from typing import Any

import pytest

from tests.fakes.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.world(sinks=("datadog", "langsmith"))]


async def given_up(world: World) -> str:
    """A video whose events are refused by everyone."""
    video = await world.start(prompt="The canary sings")
    await world.submitted(video.id)
    world.upstream.end()
    await world.live(video.id)
    world.receivers.rejects |= {f"{video.id}.started", f"{video.id}.ended"}
    await world.delivered()
    return video.id


async def listed(world: World, **query: str) -> Any:
    reply = await world.send("GET", "events/undelivered", query=query)
    assert reply.status == 200, reply.json
    return reply.json


async def test_the_operator_sees_what_was_given_up_and_why_without_what_it_tells(world: World) -> None:
    video_id = await given_up(world)
    page = await listed(world)
    assert [(each["destination"], each["id"]) for each in page["data"]] == [
        ("datadog", f"{video_id}.ended"),
        ("datadog", f"{video_id}.started"),
        ("langsmith", f"{video_id}.ended"),
    ]
    assert {(each["reason"], each["tries"]) for each in page["data"]} == {("HTTP 400", 1)}
    assert "canary" not in str(page)
    assert len((await listed(world, destination="langsmith"))["data"]) == 1
    assert (await listed(world, destination="lang"))["data"] == []


async def test_a_replay_delivers_them_and_leaves_nothing(world: World) -> None:
    video_id = await given_up(world)
    world.receivers.rejects.clear()
    replayed = await world.send("POST", "events/replay", body={"destination": "langsmith"})
    assert replayed.json == {"replayed": 1, "has_more": False}
    await world.delivered()
    assert world.receivers.seen == {"langsmith": [f"{video_id}.ended"]}
    assert (await world.send("POST", "events/replay")).json == {"replayed": 2, "has_more": False}
    await world.delivered()
    assert sorted(world.receivers.seen["datadog"]) == [f"{video_id}.ended", f"{video_id}.started"]
    assert (await listed(world))["data"] == []


@pytest.mark.parametrize(("method", "path"), [("GET", "events/undelivered"), ("POST", "events/replay")])
async def test_a_key_may_do_neither(world: World, method: str, path: str) -> None:
    await given_up(world)
    assert (await world.send(method, path, secret=world.secret)).code == "master_key_required"
    assert len((await listed(world))["data"]) == 3


@pytest.mark.parametrize(("body", "param"), [({"destination": 7}, "destination"), ({"destinations": "x"}, "destinations")])
async def test_a_wrong_request_replays_nothing(world: World, body: dict[str, Any], param: str) -> None:
    await given_up(world)
    reply = await world.send("POST", "events/replay", body=body)
    assert (reply.status, reply.json["error"]["param"]) == (400, param)
    assert len((await listed(world))["data"]) == 3
