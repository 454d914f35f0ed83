"""The operator's routes over the real handlers, and who may see what."""

import json
import re
from typing import Any

import pytest

from shared.accounts.keys import KEYS
from shared.media.video import new_id
from tests.fakes.asking import Reply
from tests.fakes.world import World

pytestmark = pytest.mark.anyio


async def generate(world: World, **fields: Any) -> Any:
    reply = await world.send("POST", "key/generate", body=fields)
    assert reply.status == 200, reply.body
    return reply.json


async def info(world: World, key: str) -> Any:
    reply = await world.send("GET", "key/info", query={"key": key})
    assert reply.status == 200, reply.body
    return reply.json["info"]


async def listed(world: World, **query: str) -> list[Any]:
    given = {"return_full_object": "true", "size": "1000", **query}
    reply = await world.send("GET", "key/list", query=given)
    assert reply.status == 200, reply.body
    keys: list[Any] = reply.json["keys"]
    return keys


async def create(world: World, secret: str, **fields: Any) -> Reply:
    return await world.send("POST", "v1/videos", secret=secret, body={"prompt": "A cat", "seconds": "4", **fields})


async def test_every_setting_is_kept_and_shown(world: World) -> None:
    """What generate is told, info tells; the secret is in the first answer alone."""
    settings = {
        "key_alias": f"team-{world.owner}",
        "user_id": "anna",
        "models": [world.model.name],
        "max_budget": 12.5,
        "soft_budget": 10,
        "budget_duration": "1mo",
        "rpm_limit": 3,
        "max_parallel_requests": 2,
        "max_seconds_per_video": 8,
        "seconds_limit": 100,
        "tags": ["blue", "red"],
        "metadata": {"team": "video", "nested": {"n": [1, 2.5, None, True]}},
    }
    made = await generate(world, **settings, duration="30d")
    secret = made["key"]
    assert secret.startswith("sk-")
    assert made["token"] == made["token_id"]
    assert made["key_name"] == f"sk-...{secret[-4:]}"
    for shown in (made, await info(world, secret), await info(world, made["token"]), await info(world, made["key_id"])):
        assert {name: shown[name] for name in settings} == settings
        assert shown["expires"].startswith("2026-12-22T")
        assert (shown["status"], shown["spend"], shown["blocked"]) == ("active", 0.0, False)
        assert shown["budget_reset_at"].startswith("2026-12-22T")
    everything = {"return_full_object": "true", "size": "1000"}
    for path, query in (("key/info", {"key": made["key_id"]}), ("key/list", everything)):
        assert secret not in (await world.send("GET", path, query=query)).body.decode()


async def test_a_key_without_settings_has_no_limits(world: World) -> None:
    """An empty object makes a key that may do everything."""
    made = await generate(world)
    assert [made[name] for name in ("max_budget", "rpm_limit", "expires", "key_alias")] == [None] * 4
    assert (await create(world, made["key"])).status == 200


async def test_an_update_changes_what_it_names(world: World) -> None:
    """Absent fields stay, null clears, counters are not touched; the alias names the key where no
    key is given.
    """
    alias = f"a-{world.owner}"
    made = await generate(world, key_alias=alias, max_budget=5, rpm_limit=9, tags=["t"])
    await create(world, made["key"])
    updated = await world.send("POST", "key/update", body={"key": made["key"], "max_budget": 7, "tags": None})
    assert (updated.json["max_budget"], updated.json["rpm_limit"], updated.json["tags"]) == (7, 9, [])
    named = await world.send("POST", "key/update", body={"key_alias": alias, "rpm_limit": None})
    assert (named.json["key_id"], named.json["rpm_limit"], named.json["reserved"]) == (made["key_id"], None, 0.4)
    assert named.json["key_alias"] == alias
    renamed = await world.send("POST", "key/update", body={"key": made["key_id"], "key_alias": None})
    assert renamed.json["key_alias"] is None
    assert (await world.send("POST", "key/update", body={"key_alias": alias, "rpm_limit": 1})).status == 404


async def test_blocking_and_unblocking(world: World) -> None:
    """A blocked key gets 401 on every route, and comes back as it was."""
    for action, status in (("block", 401), ("unblock", 200)):
        reply = await world.send("POST", f"key/{action}", body={"key": world.secret})
        assert (reply.status, reply.json["blocked"]) == (200, action == "block")
        for method, path in (("POST", "v1/videos"), ("GET", "v1/videos"), ("GET", "v1/models"), ("GET", "key/info")):
            body = {"prompt": "A cat"} if method == "POST" else None
            assert (await world.send(method, path, secret=world.secret, body=body)).status == status
    assert (await world.send("POST", "key/block", body={"key": "sk-unknown-to-everybody"})).status == 404


async def test_deleting_ends_keys_and_keeps_their_videos(world: World) -> None:
    """By key or alias, several at once; an unknown one stops all; afterwards 401, and listed as
    deleted alone.
    """
    alias = f"a-{world.owner}"
    first, second = await generate(world, key_alias=alias), await generate(world)
    await create(world, first["key"])
    stopped = await world.send("POST", "key/delete", body={"keys": [second["key"], "sk-unknown-to-everybody"]})
    assert stopped.status == 404
    assert (await create(world, second["key"])).status == 200
    done = await world.send("POST", "key/delete", body={"keys": [second["key"]], "key_aliases": [alias]})
    assert done.json == {"deleted_keys": [second["key"], alias]}
    for each in (first, second):
        assert (await create(world, each["key"])).status == 401
        assert (await world.send("GET", "key/info", query={"key": each["key_id"]})).status == 404
    ids = {first["key_id"], second["key_id"]}
    assert not ids & {each["key_id"] for each in await listed(world)}
    assert ids <= {each["key_id"] for each in await listed(world, status="deleted")}
    assert len((await world.send("GET", "spend/logs", query={"api_key": first["key_id"]})).json) == 1


async def test_regenerating_shows_a_new_secret_once(world: World) -> None:
    """Also one of the operator's own making, with new settings in the same request."""
    chosen = f"sk-chosen-{world.owner}-and-long-enough"
    reply = await world.send("POST", "key/regenerate", body={"key": world.secret, "new_key": chosen, "rpm_limit": 5})
    assert (reply.status, reply.json["key"], reply.json["key_id"], reply.json["rpm_limit"]) == (200, chosen, world.owner, 5)
    assert (await create(world, world.secret)).status == 401
    assert (await create(world, chosen)).status == 200
    again = await world.send("POST", "key/regenerate", body={"key": chosen, "new_key": chosen})
    assert (again.status, again.code) == (409, "key_exists")
    assert (await create(world, chosen)).status == 200


async def test_a_secret_or_alias_is_given_once(world: World) -> None:
    """409 that is not retried; nothing is listed that was not made."""
    secret, alias = f"sk-mine-{world.owner}-is-long-enough", f"a-{world.owner}"
    made = await generate(world, key=secret, key_alias=alias)
    assert made["key"] == secret
    before = len(await listed(world))
    for fields in ({"key": secret}, {"key_alias": alias}):
        reply = await world.send("POST", "key/generate", body=fields)
        assert (reply.status, reply.code, reply.headers["x-should-retry"]) == (409, "key_exists", "false")
        assert secret not in reply.body.decode()
    assert len(await listed(world)) == before


HUGE = "a" * 1_000_000
DEEP = json.loads('{"a":' * 900 + "1" + "}" * 900)

BAD_VALUES: dict[tuple[str, ...], tuple[Any, ...]] = {
    ("max_budget", "soft_budget"): (-1, -1e-9, 1e10, 10**400, "5", True, [1], {}),
    ("rpm_limit", "max_parallel_requests", "max_seconds_per_video", "seconds_limit"): (-1, 1.5, 10**10, 10**400, "5", True, []),
    ("key_alias",): ("", HUGE, 5, ["a"], {}),
    ("user_id",): ("", HUGE, 5),
    ("budget_duration",): ("", "1y", "999999mo", "0d", 30, HUGE),
    ("duration",): ("", "-1d", "forever", "999999mo", 30),
    ("models",): ("sora-2", ["unknown"], [5], {}, ["sora-2"] * 200),
    ("tags",): ("blue", [""], [5], [HUGE], [str(n) for n in range(33)]),
    ("metadata",): ([], "text", {"a": HUGE}, DEEP),
    ("priority",): (0, -1, 1.5, "high", 10**400),
    ("blocked",): (None, 1, "true"),
    ("max_bugdet", HUGE, "token", "spend", "reserved", "deleted", "window_start"): (1,),
}
BAD_SETTINGS = [({name: value}, name[:64]) for names, values in BAD_VALUES.items() for name in names for value in values]


async def test_bad_settings_are_refused_and_change_nothing(world: World) -> None:
    """Generate, update and regenerate say 400, name the field and keep it short; the key is as it
    was, none is new.
    """
    await world.gateway.keys.update(world.owner, {"alias": f"a-{world.owner}", "max_budget": 5_000_000})
    before = await world.account()
    world.faults.commits.clear()
    for fields, param in BAD_SETTINGS:
        for path, also in (
            ("key/generate", {}),
            ("key/update", {"key": world.owner}),
            ("key/regenerate", {"key": world.owner}),
        ):
            reply = await world.send("POST", path, body={**also, **fields})
            shown = f"{path} {str(fields)[:80]}"
            assert (reply.status, reply.json["error"]["param"]) == (400, param), shown
            assert reply.json["error"]["type"] == "invalid_request_error"
            assert len(reply.body) < 1_000, shown
    assert world.faults.commits == []
    assert await world.account() == before


NO_OBJECTS: dict[str, bytes] = {
    "empty": b"",
    "cut": b"{",
    "null": b"null",
    "a list": b"[]",
    "a text": b'"key"',
    "not a number": b'{"max_budget": NaN}',
    "infinite": b'{"max_budget": 1e999}',
    "half a character": b'{"key_alias": "\\ud800"}',
    "not utf-8": b"\xff\xfe",
    "deep": b"[" * 100_000,
    "deeper": b'{"a":' * 100_000,
    "a megabyte": b'{"key": "sk-' + b"a" * 1_000_000 + b'", "x": 1}',
}


@pytest.mark.parametrize("action", ["generate", "update", "delete", "block", "unblock", "regenerate"])
async def test_a_body_that_is_no_object_is_refused(world: World, action: str) -> None:
    """Broken JSON and what is no JSON get a short 400 in the usual envelope on every route; nothing
    is written.
    """
    world.faults.commits.clear()
    for name, body in NO_OBJECTS.items():
        reply = await world.send("POST", f"key/{action}", body=body)
        assert (reply.status, reply.json["error"]["type"]) == (400, "invalid_request_error"), name
        assert len(reply.body) < 1_000, name
    assert world.faults.commits == []


OTHER_SHAPES: list[tuple[str, dict[str, Any], int]] = [
    ("key/generate", {"key": "sk-short"}, 400),
    ("key/generate", {"key": "no-prefix-but-long-enough"}, 400),
    ("key/generate", {"key": "sk-with a space in the middle"}, 400),
    ("key/generate", {"key": "sk-ünïcödé-is-no-header-value"}, 400),
    ("key/generate", {"key": "sk-" + "a" * 300}, 400),
    ("key/generate", {"key": 5}, 400),
    ("key/regenerate", {"key": "OWNER", "new_key": "sk-short"}, 400),
    ("key/update", {}, 400),
    ("key/update", {"key": ""}, 400),
    ("key/update", {"key": 5}, 400),
    ("key/update", {"key": ["OWNER"]}, 400),
    ("key/update", {"key": "nothing of the kind", "rpm_limit": 1}, 404),
    ("key/update", {"key": "f" * 64, "rpm_limit": 1}, 404),
    ("key/update", {"key": "key_ffffffff", "rpm_limit": 1}, 404),
    ("key/update", {"key": "key_00000000", "rpm_limit": 1}, 404),
    ("key/update", {"key": "gateway", "rpm_limit": 1}, 404),
    ("key/update", {"key": "sk-1234", "rpm_limit": 1}, 404),
    ("key/delete", {}, 400),
    ("key/delete", {"keys": []}, 400),
    ("key/delete", {"keys": "OWNER"}, 400),
    ("key/delete", {"keys": [5]}, 400),
    ("key/delete", {"keys": [""]}, 400),
    ("key/delete", {"keys": ["OWNER"] * 101}, 400),
    ("key/delete", {"key": "OWNER"}, 400),
    ("key/delete", {"keys": ["key_00000000"]}, 404),
    ("key/block", {}, 400),
    ("key/block", {"key": "OWNER", "blocked": False}, 400),
    ("key/block", {"key": "key_00000000"}, 404),
    ("key/block", {"key": "../etc/passwd' or 1 eq 1 '"}, 404),
]


async def test_a_key_of_another_shape_is_refused(world: World) -> None:
    """Secrets that no header could carry, names that are no key's, the operator's own account:
    nothing changes.
    """
    world.faults.commits.clear()
    for path, body, status in OTHER_SHAPES:
        given = json.loads(json.dumps(body).replace("OWNER", world.owner))
        reply = await world.send("POST", path, body=given)
        assert reply.status == status, (path, body, reply.body)
    assert world.faults.commits == []


OPERATORS_ROUTES: list[tuple[str, str, Any]] = [
    ("POST", "key/generate", {}),
    ("POST", "key/update", {"key": "OWNER", "max_budget": 1000}),
    ("POST", "key/delete", {"keys": ["OWNER"]}),
    ("POST", "key/block", {"key": "OWNER"}),
    ("POST", "key/unblock", {"key": "OWNER"}),
    ("POST", "key/regenerate", {"key": "OWNER"}),
    ("GET", "key/list", None),
    ("POST", "key/OWNER/regenerate", None),
    ("POST", "key/bulk_update", {"keys": [{"key": "OWNER", "max_budget": 1000}]}),
    ("GET", "spend/report", None),
    ("GET", "spend/keys", None),
    ("GET", "global/spend/keys", None),
    ("GET", "global/spend/report", None),
]


async def test_only_the_operator_may(world: World) -> None:
    """A virtual key gets 403 on every route of the operator's, also about itself; a stranger gets
    401; nothing changes.
    """
    world.faults.commits.clear()
    for method, path, body in OPERATORS_ROUTES:
        path = path.replace("OWNER", world.owner)  # noqa: PLW2901
        given = None if body is None else json.loads(json.dumps(body).replace("OWNER", world.owner))
        for secret, status in ((world.secret, 403), ("sk-a-stranger-to-everybody", 401)):
            assert (await world.send(method, path, secret=secret, body=given)).status == status, path
        assert (await world.send(method, path, body=given, headers={"authorization": ""})).status == 401, path
    assert world.faults.commits == []


async def test_a_key_may_look_at_itself_and_at_nobody_else(world: World) -> None:
    """Its own settings and counters, by whichever name; another's are 403, and an unknown one's
    404.
    """
    other = await generate(world)
    for query in ({}, {"key": world.secret}, {"key": world.owner}):
        reply = await world.send("GET", "key/info", secret=world.secret, query=query)
        assert (reply.status, reply.json["info"]["key_id"]) == (200, world.owner)
    for name in (other["key"], other["key_id"], other["token"]):
        assert (await world.send("GET", "key/info", secret=world.secret, query={"key": name})).status == 403
    assert (await world.send("GET", "key/info")).code == "missing_required_parameter"
    assert (await world.send("GET", "key/info", query={"key": "nobody"})).status == 404


async def test_wrong_methods_and_actions_are_told_apart(world: World) -> None:
    """405 names the method that works, 404 is for what does not exist."""
    wrong = await world.send("GET", "key/generate")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert (await world.send("POST", "key/info", body={})).status == 405
    assert (await world.send("DELETE", "key/generate")).status == 405
    assert (await world.send("POST", "key/" + "x" * 10_000, body={})).status == 404


async def test_keys_are_listed_newest_first_in_pages(world: World) -> None:
    """Pages do not overlap and leave none out; filters narrow; wrong pages are refused."""
    user = f"u-{world.owner}"
    made = []
    for _ in range(5):
        world.clock.skip(1)
        made.append((await generate(world, user_id=user))["token"])
    pages = [await world.send("GET", "key/list", query={"user_id": user, "size": "2", "page": str(n)}) for n in (1, 2, 3, 4)]
    assert [token for page in pages for token in page.json["keys"]] == made[::-1]
    assert {(page.json["total_count"], page.json["total_pages"]) for page in pages} == {(5, 3)}
    await world.send("POST", "key/block", body={"key": made[0]})
    assert [each["token"] for each in await listed(world, user_id=user, status="revoked")] == [made[0]]
    for query in (
        {"page": "0"},
        {"size": "x"},
        {"size": "-1"},
        {"page": "9" * 30},
        {"page": "0" * 8 + "19999999"},
        {"status": "gone"},
    ):
        reply = await world.send("GET", "key/list", query=query)
        assert (reply.status, reply.json["error"]["param"]) == (400, next(iter(query)))


@pytest.mark.parametrize(
    ("limits", "status", "code"),
    [
        ({"max_budget": 0.39}, 429, "budget_exceeded"),
        ({"rpm_limit": 0}, 429, "rate_limit_exceeded"),
        ({"max_parallel_requests": 0}, 429, "too_many_running"),
        ({"seconds_limit": 3}, 429, "seconds_limit_exceeded"),
        ({"max_seconds_per_video": 3}, 400, "seconds_not_allowed"),
        ({"blocked": True}, 401, "key_blocked"),
    ],
)
async def test_a_limit_answers_a_create(world: World, limits: dict[str, Any], status: int, code: str) -> None:
    """With its status, code and headers; no video is recorded and nothing asked upstream."""
    made = await generate(world, **limits)
    reply = await create(world, made["key"])
    assert (reply.status, reply.code) == (status, code)
    assert ("retry-after" in reply.headers) == (code in ("rate_limit_exceeded", "too_many_running"))
    if code == "rate_limit_exceeded":
        assert {name for name in reply.headers if name.startswith("x-ratelimit-")} == {
            f"x-ratelimit-{part}-requests" for part in ("limit", "remaining", "reset")
        }
    for part in (made["key"], made["key_id"], made["token"]):
        assert part not in reply.body.decode()
    assert [each async for each in world.gateway.videos.of(made["key_id"])] == []
    assert [each async for each in world.gateway.pool.unfinished(world.model)] == []
    assert world.upstream.asked == []


async def test_a_success_says_what_it_cost_and_what_is_left(world: World) -> None:
    """Cost, spend, budget and rate of the key, in headers."""
    made = await generate(world, max_budget=10, rpm_limit=5)
    reply = await create(world, made["key"])
    wanted = {"x-response-cost": "0.4", "x-key-spend": "0", "x-key-max-budget": "10", "x-ratelimit-remaining-requests": "4"}
    assert {name: reply.headers.get(name) for name in wanted} == wanted
    await world.gateway.lifecycle.finish(reply.json["id"], None)
    assert (await create(world, made["key"])).headers["x-key-spend"] == "0.4"


async def test_a_model_that_is_not_on_the_list_is_forbidden(world: World) -> None:
    """403 that names what is allowed; every spelling of an allowed model works."""
    made = await generate(world, models=["sora-2"])
    assert made["models"] == [world.model.name], "names are kept as the catalog has them"
    assert (await create(world, made["key"], model="azure/sora-2")).status == 200
    await world.gateway.keys.update(made["key_id"], {"models": '["other"]'})
    reply = await create(world, made["key"])
    assert (reply.status, reply.code, reply.json["error"]["param"]) == (403, "model_not_allowed", "model")


async def test_an_expired_key_is_refused(world: World) -> None:
    """To the second, without a timer; a longer life can be given afterwards."""
    made = await generate(world, duration="30m")
    world.clock.skip(30 * 60 - 1)
    assert (await create(world, made["key"])).status == 200
    world.clock.skip(1.01)
    expired = await create(world, made["key"])
    assert (expired.status, expired.code) == (401, "key_expired")
    assert [each["status"] for each in await listed(world, status="expired") if each["key_id"] == made["key_id"]] == ["expired"]
    await world.send("POST", "key/update", body={"key": made["key_id"], "duration": None})
    assert (await create(world, made["key"])).status == 200


async def test_another_keys_an_unknown_and_a_malformed_id_are_the_same_404(world: World) -> None:
    """Byte for byte apart from the request's own id, on every route of a video, and nothing is
    asked upstream.
    """
    mine = await world.start()
    await world.gateway.submission.submit(mine.id)
    world.upstream.end()
    await world.live(mine.id)
    stranger = (await generate(world))["key"]
    deleted = (await create(world, stranger)).json["id"]
    assert (await world.send("DELETE", f"v1/videos/{deleted}", secret=stranger)).status == 200
    unknown = new_id(world.owner, world.clock.now())
    world.upstream.asked.clear()
    world.faults.commits.clear()
    ids = [
        mine.id,
        mine.id.upper(),
        deleted,
        unknown,
        new_id("key_ffffffff", world.clock.now()),
        "video_",
        "video_123",
        "x" * 5_000,
    ]
    ids += ["key", "once_x", "..", "%00", "'", "video_" + "é" * 32, mine.id + "\n", mine.id[:-1], "key_00000000"]
    for method, path in (
        ("GET", "v1/videos/{}"),
        ("GET", "v1/videos/{}/content"),
        ("HEAD", "v1/videos/{}/content"),
        ("DELETE", "v1/videos/{}"),
        ("POST", "v1/videos/{}/remix"),
    ):
        body = {"prompt": "A dog"} if method == "POST" else None
        answers = set()
        for video_id in ids:
            reply = await world.send(method, path.format(video_id), secret=stranger, body=body)
            headers = {name: value for name, value in reply.headers.items() if name != "x-request-id"}
            assert re.fullmatch(r"req_[0-9a-f]{24}", reply.headers["x-request-id"])
            answers.add((reply.status, reply.body, json.dumps(headers, sort_keys=True)))
        assert len(answers) == 1, path
        assert {status for status, *_ in answers} == {404}
    assert world.upstream.asked == []
    assert world.faults.commits == []
    assert (await world.send("GET", f"v1/videos/{mine.id}", secret=world.secret)).status == 200
    assert (await world.send("GET", f"v1/videos/{mine.id}")).status == 200, "the operator sees all"


async def test_a_list_shows_only_the_callers_own(world: World) -> None:
    """Whatever `after` says: rows of other keys, and rows that are no videos, never come
    into it.
    """
    body = {"prompt": "A cat"}
    mine = await world.send("POST", "v1/videos", secret=world.secret, body=body, headers={"idempotency-key": "k"})
    stranger = (await generate(world))["key"]
    theirs = await create(world, stranger)
    for after in ("", "a", "key", "once_", "video_", "zzz", "'", "\x01", "é", "f" * 5_000, theirs.json["id"]):
        for order in ("asc", "desc"):
            reply = await world.send("GET", "v1/videos", secret=world.secret, query={"after": after, "order": order})
            assert reply.status in (200, 400), after[:9]
            if reply.status == 200:
                assert {each["id"] for each in reply.json["data"]} <= {mine.json["id"]}
    assert (await world.send("GET", "v1/videos", secret=stranger)).json["first_id"] == theirs.json["id"]


async def test_model_info_has_prices_and_no_secrets(world: World) -> None:
    """Everybody sees what a model costs and can do; only the operator where it is served, and
    nobody with which key.
    """
    for secret in (None, world.secret):
        reply = await world.send("GET", "model/info", secret=secret)
        (model,) = reply.json["data"]
        assert model["model_name"] == world.model.name
        assert model["model_info"]["output_cost_per_video_per_second"] == {"720x1280": 0.1, "1280x720": 0.1}
        assert model["model_info"]["seconds"] == [4, 8, 12]
        assert ("api_base" in model["params"]) == (secret is None)
        assert "upstream-secret" not in reply.body.decode()


async def test_bad_creates_cost_nothing(world: World) -> None:
    """A create that cannot be read leaves no reservation, no note and no idempotency record."""
    world.faults.commits.clear()
    for body in (b"", b"{", b"[]", b'{"prompt": 5}', b'{"prompt": "x", "seconds": NaN}', b'{"prompt": "x", "n": 2}'):
        reply = await world.send("POST", "v1/videos", secret=world.secret, body=body, headers={"idempotency-key": "k"})
        assert reply.status == 400
    long = {"idempotency-key": "k" * 256}
    assert (await world.send("POST", "v1/videos", secret=world.secret, body={"prompt": "x"}, headers=long)).status == 400
    assert world.faults.commits == []


async def test_the_list_of_keys_is_exactly_what_was_made(world: World) -> None:
    """One row for each key, none for the operator's own account."""
    await create(world, "sk-1234")
    rows = [row.key async for row in world.gateway.tables.gateway.scan(KEYS)]
    assert world.owner in rows
    assert "key_00000000" not in rows


async def test_money_below_a_micro_dollar_is_refused_by_name(world: World) -> None:
    """It would become 0, which forbids every video."""
    for name in ("max_budget", "soft_budget"):
        reply = await world.send("POST", "key/generate", body={name: 1e-7})
        assert (reply.status, reply.json["error"]["param"]) == (400, name)
    assert (await world.send("POST", "key/generate", body={"max_budget": 1e-6})).json["max_budget"] == 1e-6
    assert (await world.send("POST", "key/generate", body={"max_budget": 0})).json["max_budget"] == 0
