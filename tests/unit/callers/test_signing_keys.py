"""The keys of a tenant: rotation, an endpoint that is down, slow or lies, and floods of names."""

import asyncio
import json
import threading
from collections.abc import Callable

import pytest

from shared.callers import signing_keys
from tests.fakes.issuer import TENANT, Answer, Issuer, public
from tests.fakes.world import World
from tests.unit.callers.test_tokens import status

pytestmark = pytest.mark.anyio

KEYS = f"/{TENANT}/discovery/v2.0/keys"
DISCOVERY = f"/{TENANT}/v2.0/.well-known/openid-configuration"


def instead(path: str, status: int, body: bytes) -> Callable[[str], Answer | None]:
    return lambda asked: (status, body) if asked == path else None


async def settled(world: World) -> None:
    """Waits for a fetch that nobody waits for."""
    assert world.gateway.identities is not None
    fetching = world.gateway.identities.tokens.keys._fetching
    if fetching is not None:
        await fetching


async def test_a_new_key_is_found_when_it_first_signs(world: World, issuer: Issuer) -> None:
    """A minute after the last fetch at the latest; the old one goes with what is published."""
    assert await status(world, issuer.token()) == 200
    issuer.published = ["first", "second"]
    world.clock.skip(61)
    assert await status(world, issuer.token(signed_with="second")) == 200
    assert await status(world, issuer.token(oid="dddddddd-0000-0000-0000-000000000001")) == 200
    issuer.published = ["second"]
    world.clock.skip(3601)
    assert await status(world, issuer.token(signed_with="second")) == 200
    await settled(world)
    assert await status(world, issuer.token()) == 401


async def test_a_withdrawn_key_opens_nothing_more(world: World, issuer: Issuer) -> None:
    """Not even for a token that was good before, however far off its end: whoever stole the key
    chooses that.
    """
    token = issuer.token(exp=int(issuer.now().timestamp()) + 10**9)
    assert await status(world, token) == 200
    issuer.published = ["second"]
    world.clock.skip(3601)
    await status(world, token)
    await settled(world)
    world.clock.skip(300)
    assert await status(world, token) == 401


@pytest.mark.parametrize(
    ("key_issuer", "opens"),
    [
        ("{url}/{tenantid}/v2.0", 200),
        (f"{{url}}/{TENANT}/v2.0", 200),
        ("{url}/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0", 401),
        (f"https://evil.example/{TENANT}/v2.0", 401),
    ],
    ids=["any tenant", "this tenant", "personal accounts", "another host"],
)
async def test_a_key_signs_for_its_own_issuer_alone(world: World, issuer: Issuer, key_issuer: str, opens: int) -> None:
    """Although it is published beside the tenant's keys."""
    marked = public("second") | {"issuer": key_issuer.replace("{url}", issuer.url)}
    issuer.says = instead(KEYS, 200, json.dumps({"keys": [public("first"), marked]}).encode())
    assert await status(world, issuer.token(signed_with="second")) == opens
    assert await status(world, issuer.token()) == 200


async def test_random_names_of_keys_fetch_once_a_minute(world: World, issuer: Issuer) -> None:
    """Whatever number of callers sends them."""
    for minute in range(1, 4):
        tokens = [issuer.token(header={"kid": f"{minute}-{number}"}) for number in range(30)]
        assert {await status(world, token) for token in tokens} == {401}
        assert issuer.fetches == minute
        world.clock.skip(60)


async def test_all_who_come_at_once_wait_for_one_fetch(world: World, issuer: Issuer) -> None:
    """Also when it is the first of all."""
    tokens = [issuer.token(jti=str(number)) for number in range(20)]
    assert set(await asyncio.gather(*(status(world, token) for token in tokens))) == {200}
    assert issuer.fetches == 1


async def test_old_keys_go_on_working_for_a_day_while_nobody_answers(world: World, issuer: Issuer) -> None:
    """Then nothing can be checked: 503, and no more a 401 that blames the caller."""
    assert await status(world, issuer.token()) == 200
    issuer.says = lambda path: (500, b"")
    for hour in range(1, 24):
        world.clock.skip(3600)
        assert await status(world, issuer.token(jti=str(hour))) == 200
        await settled(world)
    world.clock.skip(3601)
    reply = await world.send("GET", "/v1/videos", secret=issuer.token())
    assert (reply.status, reply.code) == (503, "sign_in_unavailable")
    assert "retry-after" in reply.headers
    issuer.says = lambda path: None
    world.clock.skip(5)
    assert await status(world, issuer.token()) == 200


async def test_a_key_that_may_be_new_is_not_called_bad_while_nobody_answers(world: World, issuer: Issuer) -> None:
    """503: the token may be good."""
    assert await status(world, issuer.token()) == 200
    issuer.says = lambda path: (503, b"")
    world.clock.skip(61)
    assert await status(world, issuer.token(signed_with="second")) == 503


LIES = {
    "another host's keys": instead(DISCOVERY, 200, json.dumps({"issuer": "x", "jwks_uri": "https://evil.example/"}).encode()),
    "a redirect": instead(KEYS, 302, b"https://evil.example/keys"),
    "no document": instead(KEYS, 200, b"<html>"),
    "bytes": instead(KEYS, 200, b"\xff\xfe"),
    "too deep": instead(KEYS, 200, b'{"keys":' + b"[" * 100_000),
    "no keys": instead(KEYS, 200, b'{"keys": []}'),
    "keys that are none": instead(KEYS, 200, b'{"keys": [1, null]}'),
    "a short key": instead(KEYS, 200, json.dumps({"keys": [public("short") | {"kid": "first"}]}).encode()),
    "a shared secret": instead(KEYS, 200, b'{"keys": [{"kty": "oct", "kid": "first", "k": "AAAA"}]}'),
    "a key of nothing": instead(KEYS, 200, b'{"keys": [{"kty": "RSA", "kid": "first", "n": "", "e": ""}]}'),
    "a key for encryption": instead(KEYS, 200, json.dumps({"keys": [public("first") | {"use": "enc"}]}).encode()),
    "a huge document": instead(KEYS, 200, b" " * 300_000),
    "too many keys": instead(KEYS, 200, json.dumps({"keys": [public("first")] * 101}).encode()),
    "an endless number": instead(KEYS, 200, json.dumps({"keys": [public("first") | {"n": "A" * 9_000}]}).encode()),
}


@pytest.mark.parametrize("lie", LIES)
async def test_what_are_no_keys_of_the_tenant_change_nothing(world: World, issuer: Issuer, lie: str) -> None:
    """None is believed at first, and none takes the place of those that are known."""
    issuer.says = LIES[lie]
    assert await status(world, issuer.token()) == 503
    issuer.says = lambda path: None
    world.clock.skip(5)
    assert await status(world, issuer.token()) == 200
    issuer.says = LIES[lie]
    world.clock.skip(3601)
    assert await status(world, issuer.token()) == 200
    await settled(world)
    assert await status(world, issuer.token(jti="2")) == 200


async def test_a_discovery_of_another_issuer_is_not_believed(world: World, issuer: Issuer) -> None:
    """Although it names the right keys."""
    body = json.dumps({"issuer": "https://evil.example", "jwks_uri": f"{issuer.url}{KEYS}"}).encode()
    issuer.says = instead(DISCOVERY, 200, body)
    assert await status(world, issuer.token()) == 503
    assert KEYS not in issuer.asked


async def test_a_host_whose_name_begins_alike_is_not_asked(world: World, issuer: Issuer) -> None:
    """`http://127.0.0.1:1234.evil.example` and `http://127.0.0.1:1234@evil.example` neither."""
    for sequel in (".evil.example/keys", "@evil.example/keys", "5/keys"):
        body = json.dumps({"issuer": f"{issuer.url}/{TENANT}/v2.0", "jwks_uri": f"{issuer.url}{sequel}"}).encode()
        issuer.says = instead(DISCOVERY, 200, body)
        assert await status(world, issuer.token()) == 503
        world.clock.skip(5)
    assert world.upstream.asked == []


async def test_an_endpoint_that_does_not_answer_holds_nobody_up_for_long(
    world: World, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch is given up; whoever has a known key does not wait for it at all."""
    assert await status(world, issuer.token()) == 200
    released = threading.Event()

    def hang(_: str) -> None:
        released.wait(20)

    issuer.says = hang
    try:
        world.clock.skip(3601)
        assert await status(world, issuer.token()) == 200  # while the fetch hangs
        assert world.gateway.identities is not None
        assert world.gateway.identities.tokens.keys._fetching is not None
        monkeypatch.setattr(signing_keys, "_PATIENCE", 0.05)
        another = world.another()
        reply = await world.send("GET", "/v1/videos", secret=issuer.token(), gateway=another)
        assert (reply.status, reply.code) == (503, "sign_in_unavailable")
    finally:
        released.set()
    await settled(world)
