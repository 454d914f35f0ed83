"""Callers by identity: their accounts, from the first use to the last, and what they may."""

import asyncio
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.accounts.account import Account
from shared.accounts.keys import Keys
from shared.callers.identities import Identities
from shared.gateway import Gateway
from tests.fakes.asking import Reply
from tests.fakes.issuer import APP, AUDIENCE, GROUP, PERSON, TENANT, Issuer
from tests.fakes.world import World
from tests.unit.accounts.test_keys import fails_after
from tests.unit.callers.conftest import entra_of

pytestmark = pytest.mark.anyio

PROJECT = Path(__file__).parents[3]
ANOTHER = "bbbbbbbb-0000-0000-0000-000000000002"
MAKER = {"match": {"role": "Video.Maker"}, "max_budget": 1, "rpm_limit": 50, "tags": ["entra"]}
SHARED = {"match": {"group": GROUP}, "shared": True, "key_alias": "studio", "max_budget": 1}
OPERATORS = {"match": {"role": "Video.Operator"}, "admin": True}

makers = pytest.mark.entra(accounts=[OPERATORS, MAKER, SHARED])


def maker(issuer: Issuer, **changed: Any) -> str:
    return issuer.token(**{"roles": ["Video.Maker"], **changed})


async def create(world: World, token: str, gateway: Gateway | None = None) -> Reply:
    body = {"prompt": "A cat", "seconds": "4", "model": world.model.name}
    return await world.send("POST", "/v1/videos", secret=token, body=body, gateway=gateway)


async def whoami(world: World, token: str, gateway: Gateway | None = None) -> Reply:
    return await world.send("GET", "/key/info", secret=token, gateway=gateway)


async def listed(world: World, **query: str) -> list[dict[str, Any]]:
    """The keys that the operator sees, without the world's own."""
    reply = await world.send("GET", "/key/list", query={"return_full_object": "true", **query})
    return [each for each in reply.json["keys"] if each["key_id"] != world.owner]


@makers
async def test_an_account_is_made_at_the_first_use_and_looks_like_a_keys(world: World, issuer: Issuer) -> None:
    """With the configuration's settings, in the operator's list, and under the person's id."""
    assert (await create(world, maker(issuer))).status == 200
    (account,) = await listed(world, user_id=PERSON)
    assert (account["max_budget"], account["rpm_limit"], account["tags"]) == (1.0, 50, ["entra"])
    assert (account["key_name"], account["running"], account["status"]) == (f"entra:{PERSON}", 1, "active")
    told = await world.send("GET", "/key/info", secret=maker(issuer))
    assert told.json["info"]["key_id"] == account["key_id"]


@makers
async def test_many_first_uses_at_once_make_one_account(world: World, issuer: Issuer) -> None:
    """Through two instances, and nothing is left of the attempts that lost."""
    other = world.another()
    replies = await asyncio.gather(
        *(whoami(world, maker(issuer, jti=str(number)), gateway) for number in range(5) for gateway in (world.gateway, other))
    )
    (account,) = await listed(world)
    assert {reply.json["key"] for reply in replies} == {account["key_id"]}


@makers
async def test_who_is_second_by_a_hair_gets_the_first_ones_account(
    world: World, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another instance made it after this one had looked; nothing is left of its own attempt."""
    first = await whoami(world, maker(issuer))
    looks, real = [], Keys._read_owner

    async def too_early(keys: Keys, name: str) -> str | None:
        looks.append(name)
        return None if len(looks) == 1 else await real(keys, name)

    monkeypatch.setattr(Keys, "_read_owner", too_early)
    second = await whoami(world, maker(issuer), world.another())
    assert first.json["key"] == second.json["key"] == (await listed(world))[0]["key_id"]
    assert len(await listed(world)) == 1


@makers
async def test_a_crash_at_the_first_use_leaves_nothing_that_counts(world: World, issuer: Issuer) -> None:
    """After whichever write: the next use has one account, which works."""
    for survived in range(3):
        person = f"bbbbbbbb-0000-0000-0000-00000000010{survived}"
        world.faults.before = fails_after(survived)
        assert (await whoami(world, maker(issuer, oid=person))).status == 503
        world.faults.before = lambda writes: None
        one, other = [(await whoami(world, maker(issuer, oid=person), each)).json for each in (world.gateway, world.another())]
        assert one["key"] == other["key"]


@makers
async def test_the_budget_holds_for_each_person(world: World, issuer: Issuer) -> None:
    """429 as for a key; the next person has one of his own, and so has an app."""
    codes = [(await create(world, maker(issuer, jti=str(number)))) for number in range(4)]
    assert [reply.status for reply in codes] == [200, 200, 429, 429]
    assert codes[-1].code == "budget_exceeded"
    assert (await create(world, maker(issuer, oid=ANOTHER))).status == 200
    assert (await create(world, maker(issuer, oid="dddddddd-0000-0000-0000-000000000001", scp=None))).status == 200


@makers
async def test_two_people_never_see_each_others_videos(world: World, issuer: Issuer) -> None:
    """404, and an empty list."""
    video_id = (await create(world, maker(issuer))).json["id"]
    other = maker(issuer, oid=ANOTHER)
    assert (await world.send("GET", f"/v1/videos/{video_id}", secret=maker(issuer))).status == 200
    for method in ("GET", "DELETE"):
        assert (await world.send(method, f"/v1/videos/{video_id}", secret=other)).code == "video_not_found"
    assert (await world.send("GET", "/v1/videos", secret=other)).json["data"] == []
    assert (await world.send("GET", "/v1/videos", secret=world.secret)).json["data"] == []


@makers
async def test_those_who_share_an_account_share_videos_and_budget_and_are_told_apart(world: World, issuer: Issuer) -> None:
    """The spend of each is under the own id."""
    one, two = issuer.token(groups=[GROUP]), issuer.token(groups=[GROUP], oid=ANOTHER)
    video_id = (await create(world, one)).json["id"]
    assert (await world.send("GET", f"/v1/videos/{video_id}", secret=two)).status == 200
    assert [(await create(world, two)).status, (await create(world, one)).status] == [200, 429]
    (account,) = await listed(world, key_alias="studio")
    assert (account["running"], account["user_id"]) == (2, None)
    spend = (await world.send("GET", "/spend/report", query={"group_by": "user"})).json
    assert {line["user"]: line["videos"] for line in spend} == {PERSON: 1, ANOTHER: 1}


@makers
async def test_an_app_of_its_own_is_reported_under_its_app_id(world: World, issuer: Issuer) -> None:
    """Which is what people know it by; its object id tells its account apart."""
    await create(world, maker(issuer, scp=None, oid="dddddddd-0000-0000-0000-000000000001"))
    assert [each["user_id"] for each in await listed(world)] == [APP]


@makers
async def test_operators_by_role_are_the_operator(world: World, issuer: Issuer) -> None:
    """Others are not, whatever else they are."""
    token = issuer.token(roles=["Video.Operator", "Video.Maker"])
    assert (await world.send("GET", "/key/list", secret=token)).status == 200
    assert "deployments" in (await world.send("GET", "/health", secret=token)).json
    assert (await world.send("GET", "/key/list", secret=maker(issuer))).code == "master_key_required"
    assert "deployments" not in (await world.send("GET", "/health", secret=maker(issuer))).json
    assert "deployments" not in (await world.send("GET", "/health", secret=issuer.token(aud="x"))).json


@makers
async def test_an_identity_that_nothing_is_configured_for_is_told_so(
    world: World, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """403: the token is good. The log says who it was; no account is made."""
    with caplog.at_level(logging.WARNING, "gateway"):
        reply = await create(world, issuer.token(roles=["Other"]))
    assert (reply.status, reply.code) == (403, "identity_not_mapped")
    assert PERSON in caplog.text
    assert await listed(world) == []


@makers
@pytest.mark.parametrize(
    "overage",
    [
        {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph.windows.net/x"}}},
        {"hasgroups": True},
    ],
)
async def test_groups_that_are_too_many_for_a_token_are_not_matched(
    world: World, issuer: Issuer, caplog: pytest.LogCaptureFixture, overage: dict[str, Any]
) -> None:
    """The log says why; nobody is asked at the address that the token names. A role works."""
    with caplog.at_level(logging.WARNING, "gateway"):
        assert (await create(world, issuer.token(**overage))).code == "identity_not_mapped"
    assert "more groups than a token holds" in caplog.text
    assert (await create(world, maker(issuer, **overage))).status == 200
    assert world.upstream.asked == []


@makers
async def test_the_operator_can_block_one_person(world: World, issuer: Issuer) -> None:
    """401 as for a key, for this person alone, until the block is lifted."""
    await create(world, maker(issuer))
    (account,) = await listed(world)
    for action, status in (("block", 401), ("unblock", 200)):
        await world.send("POST", f"/key/{action}", body={"key": account["key_id"]})
        reply = await create(world, maker(issuer))
        assert reply.status == status
    assert (await create(world, maker(issuer, oid=ANOTHER))).status == 200


@makers
async def test_an_account_that_was_deleted_is_not_made_anew(world: World, issuer: Issuer) -> None:
    """It would have a new budget. 401, on other instances as well."""
    await create(world, maker(issuer))
    (account,) = await listed(world)
    await world.send("POST", "/key/delete", body={"keys": [account["key_id"]]})
    for gateway in (world.gateway, world.another()):
        assert (await create(world, maker(issuer), gateway)).code == "invalid_api_key"
    assert await listed(world) == []


@makers
async def test_a_changed_configuration_changes_accounts_at_their_next_use(world: World, issuer: Issuer) -> None:
    """All of its settings, and none of the counters; what the operator has changed by hand stays
    until then.
    """
    await create(world, maker(issuer))
    (before,) = await listed(world)
    await world.send("POST", "/key/update", body={"key": before["key_id"], "max_budget": 7, "metadata": {"by": "hand"}})
    await create(world, maker(issuer))
    assert [each["max_budget"] for each in await listed(world)] == [7]
    changed = world.with_entra(entra_of(issuer, [{"match": {"role": "Video.Maker"}, "max_budget": 9}]))
    assert (await create(world, maker(issuer), changed)).status == 200
    (after,) = await listed(world)
    assert (after["max_budget"], after["rpm_limit"], after["tags"], after["metadata"]) == (9, None, [], {})
    assert (after["key_id"], after["running"]) == (before["key_id"], 3)


APPS = ("aaaaaaaa-0000-0000-0000-00000000000a", "aaaaaaaa-0000-0000-0000-00000000000b")
BY_APP = [
    {"match": {"app_id": app}, "max_budget": 1, "budget_duration": days} for app, days in zip(APPS, ("30d", "60d"), strict=True)
]


@pytest.mark.entra(accounts=BY_APP)
async def test_nobody_is_rid_of_what_is_spent_by_changing_between_apps(world: World, issuer: Issuer) -> None:
    """Whose entries have budgets of different lengths: it is one account, and one spend."""
    for app in APPS:
        video_id = (await create(world, issuer.token(azp=app))).json["id"]
        await world.submitted(video_id)
        world.upstream.end()
        await world.live(video_id)
    for number in range(4):
        world.clock.skip(6)
        assert (await create(world, issuer.token(azp=APPS[number % 2]))).code == "budget_exceeded"
    assert [each["spend"] for each in await listed(world)] == [0.8]


@makers
async def test_an_account_is_found_by_the_token_that_is_listed(world: World, issuer: Issuer) -> None:
    """Like a key's, so that an operator can block it by what the list says; it opens nothing."""
    await create(world, maker(issuer))
    (account,) = await listed(world)
    assert (await whoami(world, account["token"])).status == 401
    reply = await world.send("POST", "/key/block", body={"key": account["token"]})
    assert (reply.status, reply.json["key_id"]) == (200, account["key_id"])
    assert (await create(world, maker(issuer))).code == "key_blocked"


@makers
async def test_a_person_who_gets_another_role_keeps_the_videos(world: World, issuer: Issuer) -> None:
    """One account, with the settings of whichever entry fits."""
    video_id = (await create(world, maker(issuer))).json["id"]
    changed = world.with_entra(entra_of(issuer, [{"match": {"role": "Lead"}, "max_budget": 100}, MAKER]))
    lead = issuer.token(roles=["Lead", "Video.Maker"])
    assert (await world.send("GET", f"/v1/videos/{video_id}", secret=lead, gateway=changed)).status == 200
    assert [each["max_budget"] for each in await listed(world)] == [100]


@makers
async def test_a_shared_account_whose_alias_is_another_keys_is_the_operators_to_mend(
    world: World, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """500, and the log names the alias; nobody gets into that key."""
    await world.gateway.keys.issue(Account(alias="studio"))
    reply = await create(world, issuer.token(groups=[GROUP]))
    assert (reply.status, reply.code) == (500, "configuration_error")
    assert "'studio'" in caplog.text


@makers
async def test_a_stream_tells_nothing_after_the_token_has_expired(world: World, issuer: Issuer) -> None:
    """It ends with the error that a new call would get."""
    token = maker(issuer, exp=int(issuer.now().timestamp()) + 10)
    video_id = (await create(world, token)).json["id"]
    world.clock.skip(5)
    reply = await world.send("GET", f"/v1/videos/{video_id}/events", secret=token)
    first, *_, last = reply.body.decode().strip().split("\n\n")
    del first
    assert "event: error" in last
    assert "invalid_api_key" in last


@pytest.mark.parametrize("configured", [False, True])
async def test_nothing_is_imported_until_a_token_comes(configured: bool, tmp_path: Path) -> None:
    """Neither the library where tokens are taken, nor any of this where they are not."""
    entra = {"tenant": TENANT, "audience": AUDIENCE, "accounts": [MAKER]}
    (tmp_path / "config.yaml").write_text(json.dumps({"general_settings": {"entra": entra}} if configured else {}))
    env = {
        "AzureWebJobsStorage": "UseDevelopmentStorage=true",
        "AZURE_OPENAI_API_BASE": "http://127.0.0.1:1",
        "GATEWAY_CONFIG": str(tmp_path / "config.yaml"),
    }
    script = "import sys, function_app; from shared import gateway; gateway.build(gateway.settings.load()); print(*sys.modules)"
    run = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], cwd=PROJECT, env=env, capture_output=True, text=True, check=True
    )
    unwanted = ("jwt", "cryptography", *(() if configured else ("shared.callers.identities", "shared.callers.tokens")))
    assert [name for name in run.stdout.split() if name.startswith(unwanted)] == []


@makers
async def test_many_tokens_fill_no_memory(world: World, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many are remembered and no more."""
    monkeypatch.setattr("shared.callers.identities._REMEMBERED", 3)
    identities = world.gateway.identities
    assert isinstance(identities, Identities)
    for number in range(7):
        await create(world, maker(issuer, jti=str(number)))
        assert len(identities._known) <= 3
