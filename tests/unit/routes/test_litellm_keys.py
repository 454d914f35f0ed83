"""Keys as LiteLLM's operators and callers know them: headers, routes and fields."""

from typing import Any
from urllib.parse import quote

import pytest

from tests.fakes.world import World

pytestmark = pytest.mark.anyio

KEPT: dict[str, Any] = {
    "team_id": "film",
    "organization_id": "studio",
    "tpm_limit": 100,
    "aliases": {"sora": "azure-sora-2"},
    "permissions": {"get_spend_routes": True},
}


@pytest.mark.parametrize(
    ("header", "form"),
    [("x-litellm-api-key", "{}"), ("x-litellm-api-key", "Bearer {}"), ("x-api-key", "{}"), ("api-key", "{}")],
)
async def test_every_header_that_clients_send_opens(world: World, header: str, form: str) -> None:
    """Where `Authorization` is taken, or the client is another's."""
    reply = await world.send("GET", "v1/videos", headers={"authorization": "", header: form.format(world.secret)})
    assert reply.status == 200
    refused = await world.send("GET", "v1/videos", headers={"authorization": "", header: "Bearer"})
    assert refused.status == 401


async def test_litellms_own_header_comes_before_authorization(world: World) -> None:
    """Which may be for somebody on the way."""
    reply = await world.send("GET", "v1/videos", secret="token-for-a-proxy", headers={"x-litellm-api-key": world.secret})
    assert reply.status == 200


async def test_fields_of_teams_are_kept_and_shown(world: World) -> None:
    """By generate, info and list; null clears them."""
    made = await world.send("POST", "key/generate", body=KEPT)
    info = (await world.send("GET", "key/info", query={"key": made.json["key"]})).json["info"]
    for shown in (made.json, info):
        assert {name: shown[name] for name in KEPT} == KEPT
    cleared = await world.send("POST", "key/update", body={"key": made.json["key"], **dict.fromkeys(KEPT)})
    assert {cleared.json[name] is None or cleared.json[name] == {} for name in KEPT} == {True}


async def test_keys_are_listed_by_what_is_kept(world: World) -> None:
    """By team, organization or hash; a filter that is unknown would list others, and is refused."""
    made = (await world.send("POST", "key/generate", body=KEPT)).json
    for name, value in (("team_id", "film"), ("organization_id", "studio"), ("key_hash", made["token"])):
        assert (await world.send("GET", "key/list", query={name: value})).json["keys"] == [made["token"]]
        assert (await world.send("GET", "key/list", query={name: "other"})).json["keys"] == []
    refused = await world.send("GET", "key/list", query={"sort_by": "spend"})
    assert (refused.status, refused.code, refused.json["error"]["param"]) == (400, "unknown_parameter", "sort_by")


async def test_what_cannot_be_kept_is_refused_by_name_all_at_once(world: World) -> None:
    """With what to use instead; nothing is made. Null promises nothing."""
    asked = {"model_max_budget": {"m": 1}, "guardrails": ["g"], "budget_id": None, "max_budget": 1}
    reply = await world.send("POST", "key/generate", body=asked)
    assert (reply.status, reply.code, reply.json["error"]["param"]) == (400, "not_supported", "model_max_budget")
    assert "`guardrails`" in reply.json["error"]["message"]
    assert "budget_id" not in reply.json["error"]["message"]
    asked = {"budget_id": None, "guardrails": None, "max_budget": 1}
    assert (await world.send("POST", "key/generate", body=asked)).status == 200


async def test_a_key_in_the_path_gets_a_new_secret(world: World) -> None:
    """With no body, and with settings; by its secret or its id."""
    first = await world.send("POST", f"key/{quote(world.secret)}/regenerate")
    assert first.status == 200
    assert (await world.send("GET", "v1/videos", secret=first.json["key"])).status == 200
    second = await world.send("POST", f"key/{world.owner}/regenerate", body={"max_budget": 3})
    assert second.json["max_budget"] == 3
    assert (await world.send("POST", "key/sk-nobody-knows-this-one/regenerate")).status == 404


async def test_several_keys_are_changed_or_none(world: World) -> None:
    """All are checked before the first is changed."""
    other = (await world.send("POST", "key/generate", body={})).json["key"]
    good = [{"key": world.secret, "max_budget": 2}, {"key": other, "key_alias": "other"}]
    updated = (await world.send("POST", "key/bulk_update", body={"keys": good})).json
    assert [each["key_info"]["max_budget"] for each in updated["successful_updates"]] == [2, None]
    for bad in ({"key": other, "max_budget": -1}, {"key": "sk-unknown-to-everybody"}, {"max_budget": 1}, "key"):
        reply = await world.send("POST", "key/bulk_update", body={"keys": [{"key": world.secret, "max_budget": 9}, bad]})
        assert reply.status in (400, 404)
    assert (await world.account()).max_budget == 2_000_000


async def test_a_key_sees_its_health_and_several_are_told_at_once(world: World) -> None:
    """In LiteLLM's shapes; a key sees itself alone."""
    assert (await world.send("POST", "key/health", secret=world.secret)).json["key"] == "healthy"
    other = (await world.send("POST", "key/generate", body={})).json["key"]
    told = (await world.send("POST", "v2/key/info", body={"keys": [world.secret, other]})).json
    assert told["info"][0]["key_id"] == world.owner
    refused = await world.send("POST", "v2/key/info", secret=world.secret, body={"keys": [world.secret, other]})
    assert refused.status == 403
