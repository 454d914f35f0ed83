"""The page's files: which there are, how browsers keep them, and what they may do."""

import gzip
import re

import msgspec
import pytest

from shared.config.entra import Entra
from shared.routes import paths, studio
from tests.fakes.asking import Reply, ask, request
from tests.fakes.issuer import APP, AUDIENCE, TENANT

pytestmark = pytest.mark.anyio


async def get(name: str = "", **headers: str) -> Reply:
    """Without a key, and without a gateway."""
    path = f"studio/{name}" if name else "studio"
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    return await ask(request(headers=sent, path=path), paths.other_path)


async def built() -> list[str]:
    """The names of the files that the page asks for."""
    return re.findall(r'(?:src|href)="/studio/([^"]+)"', (await get()).body.decode())


async def test_the_page_and_all_that_it_asks_for_is_there() -> None:
    """With the type that a browser runs it as, since it may not guess."""
    page = await get()
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    types = {name.rpartition(".")[2]: (await get(name)).headers["content-type"] for name in await built()}
    assert types == {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}


async def test_no_code_runs_but_the_files_and_nobody_frames_them() -> None:
    """Whatever a prompt or a name says: the policy of every file lets no inline code run."""
    for name in ("", *await built()):
        headers = (await get(name)).headers
        policy = dict(each.strip().split(" ", 1) for each in headers["content-security-policy"].split(";"))
        assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
        assert (policy["frame-ancestors"], policy["connect-src"]) == ("'none'", "'self'")
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|javascript:", (await get()).body.decode())


async def test_what_has_a_digest_in_its_name_is_kept_and_the_page_is_asked_for() -> None:
    """So a new version is seen at once, and costs nothing else."""
    kept = {name: (await get(name)).headers["cache-control"] for name in ("", *await built())}
    for name, control in kept.items():
        assert control == ("public, max-age=31536000, immutable" if name.startswith("assets/") else "no-cache"), name


@pytest.mark.parametrize("encoding", ["identity", "gzip, br"])
async def test_who_has_this_version_gets_no_bytes(encoding: str) -> None:
    """As it is and packed are two representations, each with its own tag."""
    first = await get(accept_encoding=encoding)
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"another", {tag}', "*"):
        again = await get(accept_encoding=encoding, if_none_match=known)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    other = "gzip" if encoding == "identity" else "identity"
    assert (await get(accept_encoding=other, if_none_match=tag)).status == 200


@pytest.mark.parametrize(
    ("encodings", "packed"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("", False), ("br", False), ("gzip;q=0", False), ("gzip;q=0.0, br", False)],
)
async def test_files_are_packed_for_those_who_take_it(encodings: str, packed: bool) -> None:
    """And are the same files."""
    plain, sent = await get(), await get(accept_encoding=encodings)
    assert (sent.headers.get("content-encoding") == "gzip") is packed
    assert (gzip.decompress(sent.body) if packed else sent.body) == plain.body
    assert sent.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize(
    "name",
    ["x.js", "../gateway.py", "..%2fgateway.py", "assets/../../gateway.py", "/etc/passwd", "assets", "\0", "é"],
)
async def test_a_name_that_is_none_of_the_files_is_not_found(name: str) -> None:
    """No path is made of it, so it leads nowhere."""
    reply = await get(name)
    assert (reply.status, reply.code) == (404, "unknown_url")


@pytest.mark.parametrize("client_id", [None, APP])
async def test_the_page_learns_how_to_sign_in(client_id: str | None) -> None:
    """Public facts alone. Where there is a tenant, its host is the one other origin that may be
    asked.
    """
    entra = msgspec.convert({"tenant": TENANT, "audience": AUDIENCE, "accounts": [], "client_id": client_id}, Entra)
    policy = studio.file("index.html", {}, entra).headers["content-security-policy"]
    told = studio.sign_in(entra).body["entra"]
    if client_id is None:
        assert (told, policy.partition("connect-src ")[2]) == (None, "'self'")
    else:
        assert policy.partition("connect-src ")[2] == "'self' https://login.microsoftonline.com"
        assert told == {
            "authority": f"https://login.microsoftonline.com/{TENANT}",
            "client_id": APP,
            "scope": f"openid offline_access {AUDIENCE}/.default",
        }


async def test_a_gateway_that_is_not_configured_tells_of_no_tenant() -> None:
    """People have keys then, or nothing."""
    assert (await get("sign_in.json")).json == {"entra": None}


def test_the_first_load_is_small() -> None:
    """At most 150 kB packed; all of it, the operator's part too."""
    assert sum(len(each.packed) for each in studio._files().values()) < 150_000


async def test_a_file_may_be_asked_for_by_head() -> None:
    """As monitors and caches do."""
    reply = await ask(request("HEAD", path="studio"), paths.other_path)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
