"""Tokens of Entra: which are believed, which are not, and what the log says of them."""

import json
import logging
from collections.abc import Callable
from hashlib import sha256
from hmac import digest
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.accounts.keys import token_of
from tests.fakes.issuer import APP, PERSON, TENANT, Issuer, encoded, key, public, signed
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

OTHER = "99999999-2222-3333-4444-555555555555"


async def status(world: World, token: str) -> int:
    return (await world.send("GET", "/v1/videos", secret=token)).status


def hs256(issuer: Issuer, secret: bytes) -> str:
    """A token that takes the published key for a shared secret."""
    text = f"{encoded(json.dumps({'alg': 'HS256', 'typ': 'JWT', 'kid': 'first'}))}.{encoded(json.dumps(issuer.claims()))}"
    return f"{text}.{encoded(digest(secret, text.encode(), sha256))}"


def pem() -> bytes:
    return key("first").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def tampered(token: str, **changed: Any) -> str:
    """The token with other claims under the old signature."""
    header, claims, signature = token.split(".")
    told = json.loads(jwt.utils.base64url_decode(claims)) | changed
    return f"{header}.{encoded(json.dumps(told))}.{signature}"


BAD: dict[str, tuple[str, Callable[[Issuer], str]]] = {
    "expired": ("it has expired", lambda i: i.token(exp=int(i.now().timestamp()) - 61)),
    "not yet": ("it is not valid yet", lambda i: i.token(nbf=int(i.now().timestamp()) + 61)),
    "without an end": ("it lacks `exp`", lambda i: i.token(exp=None)),
    "an end that is text": ("its times are not times", lambda i: i.token(exp="2099")),
    "an end that is true": ("its times are not times", lambda i: i.token(exp=True)),
    "an end that is no number": ("its times are not times", lambda i: i.token(exp=float("nan"))),
    "an end beyond all time": ("its times are not times", lambda i: i.token(exp=1e300)),
    "an end on the last day": ("its times are not times", lambda i: i.token(exp=253_402_300_799)),
    "a beginning that is text": ("its times are not times", lambda i: i.token(nbf="now")),
    "another audience": ("it is for another audience", lambda i: i.token(aud="api://other")),
    "no audience": ("it lacks `exp`, `iss` or `aud`", lambda i: i.token(aud=None)),
    "an audience of numbers": ("it is for another audience", lambda i: i.token(aud=[1])),
    "another issuer": ("its issuer is not", lambda i: i.token(iss=f"https://evil.example/{TENANT}/v2.0")),
    "another tenant's issuer": ("its issuer is not", lambda i: i.token(iss=f"{i.url}/{OTHER}/v2.0")),
    "an issuer that is a list": ("its issuer is not", lambda i: i.token(iss=[f"{i.url}/{TENANT}/v2.0"])),
    "another tenant": ("it is of another tenant", lambda i: i.token(tid=OTHER)),
    "no tenant": ("it is of another tenant", lambda i: i.token(tid=None)),
    "an id token, which names no app": ("it lacks `azp` or `appid`", lambda i: i.token(azp=None)),
    "nobody's": ("it lacks `oid`", lambda i: i.token(oid=None)),
    "an object id that is no text": ("it lacks `oid`", lambda i: i.token(oid={"a": 1})),
    "another key's signature": ("its signature is not", lambda i: i.token(signed_with="second", header={"kid": "first"})),
    "an unknown key": ("its tenant has published no key", lambda i: i.token(signed_with="second")),
    "no key": ("it names no key", lambda i: i.token(header={"kid": ""})),
    "a key that is null": ("its header cannot be read", lambda i: i.token(header={"kid": None})),
    "a key that is a list": ("its header cannot be read", lambda i: i.token(header={"kid": ["first"]})),
    "a long name of a key": ("it names no key", lambda i: i.token(header={"kid": "x" * 300})),
    "tampered claims": ("its signature is not", lambda i: tampered(i.token(), oid=OTHER)),
    "no algorithm": ("it is not signed with RS256", lambda i: signed(i.claims(), header={"alg": None})),
    "the algorithm none": (
        "it is not signed with RS256",
        lambda i: f"{encoded(json.dumps({'alg': 'none', 'kid': 'first'}))}.{encoded(json.dumps(i.claims()))}.",
    ),
    "none under a signature": ("it is not signed with RS256", lambda i: i.token(header={"alg": "none"})),
    "the public key as a secret": ("it is not signed with RS256", lambda i: hs256(i, pem())),
    "RS512": ("it is not signed with RS256", lambda i: i.token(header={"alg": "RS512"})),
    "a critical header": ("its header cannot be read", lambda i: i.token(header={"crit": ["exp"]})),
    "claims that are not encoded": ("its header cannot be read", lambda i: i.token(header={"crit": ["b64"], "b64": False})),
    "a key of its own": (
        "its tenant has published no key",
        lambda i: i.token(signed_with="own", header={"jwk": public("own")}),
    ),
    "a token in a token": ("it is not a token that can be read", lambda i: signed(i.token().encode(), header={"cty": "JWT"})),
    "claims that are a list": ("it is not a token that can be read", lambda i: signed([i.claims()])),
    "claims that are too deep": ("it is not a token that can be read", lambda i: signed(b"[" * 20_000)),
    "claims that are no text": ("it is not a token that can be read", lambda i: signed(b"\xff\xfe{}")),
    "a header that is too deep": ("its header cannot be read", lambda _: f"eyJ{encoded('{' + '[' * 20_000)}.e30.AAAA"),
    "encrypted": ("it has another form", lambda i: f"{i.token()}.AAAA.AAAA"),
    "huge": ("it has another form", lambda i: i.token(filling="x" * 70_000)),
    "garbage": ("its header cannot be read", lambda _: "eyJ.not.base64!"),
    "garbage of other bytes": ("its header cannot be read", lambda _: "eyJ\udcff.\udcff.\udcff"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_token_is_refused_as_a_bad_key_is(
    world: World, issuer: Issuer, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """The same answer, that tells nothing; the reason is in the log, once, without the token."""
    why, make = BAD[name]
    token = make(issuer)
    with caplog.at_level(logging.WARNING, "gateway"):
        refused, again = [await world.send("GET", "/v1/videos", secret=token) for _ in range(2)]
    like_a_key = await world.send("GET", "/v1/videos", secret="sk-of-nobody")
    assert (refused.status, refused.json) == (401, like_a_key.json) == (again.status, again.json)
    assert [why in record.getMessage() for record in caplog.records] == [True]
    assert token not in caplog.text
    assert token.split(".")[1] not in caplog.text or len(token) < 20
    assert len([row async for row in world.gateway.tables.gateway.scan("keys")]) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "v1", "ver": "1.0", "azp": None, "appid": APP},
        {"aud": ["api://video-gateway"]},
        {"tid": TENANT.upper(), "azp": APP.upper(), "oid": PERSON.upper()},
        {"nbf": None},
        {"scp": None, "roles": ["Any"], "idtyp": "app"},
    ],
    ids=["version 1.0", "a list of one audience", "upper case", "no beginning", "an app's own"],
)
async def test_a_token_of_every_right_form_is_taken(world: World, issuer: Issuer, changed: dict[str, Any]) -> None:
    """Both versions, people and apps."""
    if changed.get("iss") == "v1":
        changed = {**changed, "iss": f"{issuer.url}/{TENANT}/"}
    assert await status(world, issuer.token(**changed)) == 200


@pytest.mark.parametrize("header", ["authorization", "api-key", "x-litellm-api-key"])
async def test_a_token_is_taken_where_a_key_is(world: World, issuer: Issuer, header: str) -> None:
    """In the headers of OpenAI's and Azure's clients alike."""
    headers = {"authorization": "", header: f"Bearer {issuer.token()}"}
    assert (await world.send("GET", "/v1/videos", headers=headers)).status == 200


async def test_clocks_may_differ_by_the_leeway(world: World, issuer: Issuer) -> None:
    """A minute by default, at both ends."""
    now = int(issuer.now().timestamp())
    assert await status(world, issuer.token(exp=now - 59)) == 200
    assert await status(world, issuer.token(nbf=now + 59)) == 200


async def test_a_token_opens_nothing_after_its_end(world: World, issuer: Issuer) -> None:
    """Although it is remembered that it was good."""
    token = issuer.token(exp=int(issuer.now().timestamp()) + 10)
    assert await status(world, token) == 200
    world.clock.skip(71)
    assert await status(world, token) == 401


async def test_a_token_is_checked_once(world: World, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every further call costs a hash, for five minutes."""
    token = issuer.token()
    assert await status(world, token) == 200
    monkeypatch.delattr(jwt, "decode")
    assert [await status(world, token) for _ in range(5)] == [200] * 5


async def test_keys_and_tokens_work_side_by_side(world: World, issuer: Issuer) -> None:
    """And where no tokens are taken, one is a bad key."""
    assert await status(world, world.secret) == 200
    assert await status(world, issuer.token()) == 200
    without = msgspec.structs.replace(world.gateway, identities=None)
    assert (await world.send("GET", "/v1/videos", secret=issuer.token(), gateway=without)).code == "invalid_api_key"


async def test_no_secret_leads_to_an_identitys_account(world: World, issuer: Issuer) -> None:
    """Neither its name nor a hash of it: what is stored is a number that nobody has the secret
    for.
    """
    assert await status(world, issuer.token()) == 200
    rows = [row.key async for row in world.gateway.tables.gateway.scan("tokens") if row.key.startswith("identity_")]
    assert len(rows) == 1
    for guess in (f"own:{PERSON}", rows[0], rows[0].removeprefix("identity_"), PERSON, token_of(f"own:{PERSON}")):
        assert await status(world, guess) == 401


async def test_floods_of_bad_tokens_leave_little_in_the_log(
    world: World, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """60 lines a minute; the next minute tells again."""
    with caplog.at_level(logging.WARNING, "gateway"):
        for number in range(100):
            await status(world, issuer.token(aud=f"api://{number}"))
        assert len(caplog.records) == 60
        world.clock.skip(60)
        await status(world, issuer.token(aud="api://next"))
        assert len(caplog.records) == 61
