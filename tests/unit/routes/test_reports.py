"""What LiteLLM's operators and their keys ask about spend, answered in the shapes they know."""

import pytest

from tests.fakes.world import World

# A budget gives the test tables of its own: some of these routes read all keys.
pytestmark = [pytest.mark.anyio, pytest.mark.world(budget=10**12)]


async def made(world: World, secret: str, **fields: object) -> str:
    """A completed video of a key."""
    body = {"prompt": "A cat", "seconds": "4", **fields}
    video_id = str((await world.send("POST", "v1/videos", secret=secret, body=body)).json["id"])
    await world.gateway.lifecycle.finish(video_id, None)
    return video_id


async def key(world: World, **settings: object) -> str:
    return str((await world.send("POST", "key/generate", body=settings)).json["key"])


async def test_a_key_reads_its_own_logs_and_nobody_elses(world: World) -> None:
    """Without saying which, and by its own name; another's is refused, the operator sees all."""
    other = await key(world)
    mine, _ = await made(world, world.secret), await made(world, other)
    for query in ({}, {"api_key": world.secret}, {"api_key": world.owner}):
        logs = await world.send("GET", "spend/logs", secret=world.secret, query=query)
        assert [each["video_id"] for each in logs.json] == [mine]
    refused = await world.send("GET", "spend/logs", secret=world.secret, query={"api_key": other})
    assert (refused.status, refused.json["error"]["param"]) == (403, "api_key")
    assert len((await world.send("GET", "spend/logs")).json) == 2


async def test_logs_are_summed_by_day(world: World) -> None:
    """With users, models and keys of each, in dollars."""
    await made(world, world.secret, user="ann")
    world.clock.skip(86_400)
    await made(world, world.secret, user="bob")
    await made(world, world.secret, user="bob", seconds="8")
    first, second = (await world.send("GET", "spend/logs", query={"summarize": "true"})).json
    assert first["startTime"] < second["startTime"]
    assert (first["spend"], first["users"], first[world.owner]) == (0.4, {"ann": 0.4}, 0.4)
    assert (second["users"], second["models"]) == ({"bob": 1.2}, {world.model.name: 1.2})
    assert (await world.send("GET", "spend/logs", query={"summarize": "maybe"})).status == 400


async def test_tags_are_summed_between_days(world: World) -> None:
    """Most spent first, and a key's own for a key."""
    cheap, dear = await key(world, tags=["draft"]), await key(world, tags=["film", "draft"])
    await made(world, cheap)
    await made(world, dear, seconds="8")
    tags = await world.send("GET", "spend/tags")
    assert tags.json == [
        {"individual_request_tag": "draft", "log_count": 2, "total_spend": 1.2},
        {"individual_request_tag": "film", "log_count": 1, "total_spend": 0.8},
    ]
    assert [each["total_spend"] for each in (await world.send("GET", "spend/tags", secret=cheap)).json] == [0.4]
    assert (await world.send("GET", "spend/tags", query={"end_date": "2020-01-01"})).json == []


async def test_keys_are_listed_by_what_they_have_spent(world: World) -> None:
    """In both of LiteLLM's forms; deleted keys are not there."""
    dear, gone = await key(world, key_alias="dear"), await key(world)
    await made(world, world.secret)
    await made(world, dear, seconds="8")
    await world.send("POST", "key/delete", body={"keys": [gone]})
    keys = (await world.send("GET", "spend/keys")).json
    assert [each["spend"] for each in keys] == [0.8, 0.4]
    (first,) = (await world.send("GET", "global/spend/keys", query={"limit": "1"})).json
    assert (first["key_alias"], first["total_spend"], first["api_key"]) == ("dear", 0.8, keys[0]["token"])


async def test_a_price_is_told_before_anything_is_made(world: World) -> None:
    """With the same checks as a create, and with nothing reserved."""
    asked = {"model": world.model.name, "seconds": "8", "size": "1280x720"}
    reply = await world.send("POST", "spend/calculate", secret=world.secret, body=asked)
    assert (reply.status, reply.json) == (200, {"cost": 0.8})
    refused = await world.send("POST", "spend/calculate", secret=world.secret, body={**asked, "seconds": "5"})
    assert (refused.status, refused.json["error"]["param"]) == (400, "seconds")
    assert (await world.send("POST", "spend/calculate", secret="sk-a-stranger-to-all", body=asked)).status == 401
    assert (await world.account()).reserved == 0
