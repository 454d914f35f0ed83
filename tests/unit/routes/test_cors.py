"""Which pages a browser lets call the gateway, and what their scripts may read of the answers."""

import pytest

from shared.config.browsers import Cors
from shared.config.file import ConfigFile, _convert
from shared.errors import ConfigurationError
from shared.routes import paths
from shared.routes.cors import EXPOSED
from tests.fakes.asking import Reply
from tests.fakes.world import World
from tests.unit.routes.test_content import completed

pytestmark = pytest.mark.anyio

PAGE = "https://app.example.com"
LISTED = pytest.mark.world(knobs={"cors": Cors(origins=[PAGE], max_age_seconds=60)})
# Browsers show these to every script: https://fetch.spec.whatwg.org/#cors-safelisted-response-header-name
SHOWN = {"cache-control", "content-language", "content-length", "content-type", "expires", "last-modified", "pragma"}
# The browser itself obeys these; they tell a script nothing.
OBEYED = {"content-encoding", "content-security-policy", "cross-origin-opener-policy", "permissions-policy"}
OBEYED |= {"referrer-policy", "vary", "x-content-type-options"}


async def preflight(world: World, path: str, origin: str = PAGE) -> Reply:
    asked = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization,x-a"}
    return await world.send("OPTIONS", path, secret="", headers=asked)


async def test_no_page_may_call_unless_the_operator_says_so(world: World) -> None:
    """Neither in words nor by accident."""
    reply = await preflight(world, "v1/videos")
    assert reply.status == 405
    assert not {name for name in reply.headers if name.startswith("access-control") or name == "vary"}


@LISTED
@pytest.mark.parametrize("path", ["v1/videos", "v1/videos/video_1/content", "key/generate", "no/such/path"])
async def test_a_listed_page_may_send_its_key_anywhere(world: World, path: str) -> None:
    """A preflight comes without a key; a path that there is not has to be readable as a 404."""
    reply = await preflight(world, path)
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert reply.headers["access-control-allow-headers"] == "authorization,x-a"
    assert reply.headers["access-control-max-age"] == "60"
    assert "access-control-allow-credentials" not in reply.headers


@LISTED
@pytest.mark.parametrize("origin", ["https://app.example.com.evil.example", "http://app.example.com", "null", ""])
async def test_another_page_gets_no_permission(world: World, origin: str) -> None:
    """Whatever it looks like; a cache must not give it the answer to a listed one."""
    for reply in (
        await preflight(world, "v1/videos", origin),
        await world.send("GET", "v1/videos", headers={"origin": origin}),
    ):
        assert "access-control-allow-origin" not in reply.headers
        assert reply.headers["vary"] == "Origin"


@LISTED
async def test_errors_and_redirects_can_be_read_too(world: World) -> None:
    """A page that may not read a refusal cannot say why it fails."""
    video = await completed(world)
    for path, secret, status in (
        ("v1/videos", "sk-wrong", 401),
        ("v1/videos/video_1", None, 404),
        ("v1/files", None, 404),
        (f"v1/videos/{video.id}/content", world.secret, 302),
        (f"v1/videos/{video.id}/content", world.secret, 206),
    ):
        asked = {"origin": PAGE, **({"range": "bytes=0-3", "x-stainless-lang": "csharp"} if status == 206 else {})}
        reply = await world.send("GET", path, secret=secret, headers=asked)
        assert reply.status == status
        assert reply.headers["access-control-allow-origin"] == PAGE


@pytest.mark.world(knobs={"cors": Cors(origins=["*"])}, limits={"rpm_limit": 1, "max_budget": 1_000_000})
async def test_a_script_may_read_every_header_that_tells_something(world: World) -> None:
    """All that are seen on a video's way and on every list are exposed; `*` lists every page."""
    page = {"origin": "https://any.example"}
    body = {"prompt": "A cat", "model": world.model.name, "seconds": "4"}
    made = await world.send("POST", "v1/videos", secret=world.secret, body=body, headers={**page, "idempotency-key": "1"})
    again = await world.send("POST", "v1/videos", secret=world.secret, body=body, headers={**page, "idempotency-key": "1"})
    refused = await world.send("POST", "v1/videos", secret=world.secret, body=body, headers=page)
    assert (made.status, again.status, refused.status) == (200, 200, 429)
    await world.submitted(made.json["id"])
    world.upstream.end()
    video = await world.live(made.json["id"])
    content = f"v1/videos/{video.id}/content"
    whole = await world.send("GET", content, secret=world.secret, headers=page, query={"delivery": "proxy"})
    part = await world.send(
        "GET", content, secret=world.secret, headers={**page, "range": "bytes=9-"}, query={"delivery": "proxy"}
    )
    sent = await world.send("GET", content, secret=world.secret, headers=page)
    allowed = await world.send("PUT", "v1/videos", headers=page)
    plain = [each.path for each in paths.ENDPOINTS if each.method == "GET" and "{" not in each.path]
    lists = [await world.send("GET", path, headers=page) for path in plain if path != "videos/events"]
    replies = (made, again, refused, whole, part, sent, allowed, *lists)
    assert all(each.headers["access-control-allow-origin"] == "https://any.example" for each in replies)
    seen = {name for each in replies for name in each.headers if not name.startswith("access-control")}
    assert "x-has-more" in seen
    assert seen - SHOWN - OBEYED <= set(EXPOSED)


@LISTED
async def test_a_file_differs_by_page_and_by_packing(world: World) -> None:
    """A cache that is told of one alone gives a page the answer to another."""
    for origin in (PAGE, "https://other.example"):
        reply = await world.send("GET", "studio", headers={"origin": origin})
        assert reply.headers["vary"].split(", ") == ["Origin", "accept-encoding"]


@pytest.mark.parametrize(
    "origin", ["https://app.example.com/", "app.example.com", "https://*.example.com", "https://A.example"]
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    """Else the page stays shut out, and nobody knows why."""
    with pytest.raises(ConfigurationError, match=r"gateway\.cors\.origins"):
        _convert({"gateway": {"cors": {"origins": [origin]}}}, ConfigFile, "config.yaml")


def test_a_typo_gets_a_suggestion() -> None:
    """As everywhere in the file."""
    with pytest.raises(ConfigurationError, match="`origins`"):
        _convert({"gateway": {"cors": {"origin": []}}}, ConfigFile, "config.yaml")
