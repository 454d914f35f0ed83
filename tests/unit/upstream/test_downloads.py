"""Downloads lead to the upstream's own server, to public names over TLS, or to hosts that the
operator lists.
"""

import asyncio
from collections.abc import Mapping

import httpx
import pytest

from shared.config.catalog import Deployment
from shared.dialects import known
from shared.errors import Misrouted
from shared.upstream.downloads import Downloads, Place

PUBLIC = "https://east.openai.example/openai/v1"
LOCAL = "http://127.0.0.1:8000/v1"


def leads(location: str, upstream: str) -> str:
    asked = httpx.URL(f"{upstream}/videos/video_1/content")
    return str(asyncio.run(downloads(upstream).redirected(asked, location)).url)


def downloads(upstream: str, *listed: str, names: Mapping[str, list[str]] | None = None) -> Downloads:
    """What a deployment there may fetch; `names` is what the system knows."""

    async def resolve(host: str, port: int) -> list[str]:
        return (names or {}).get(host, [])

    deployment = Deployment("d", known.SGLANG, "m", upstream, content_hosts=listed)
    return Downloads(deployment, {"authorization": "Bearer key"}, resolve)


def named(address: str, *listed: str, **names: list[str]) -> Place:
    """The place of an address in a job of a server on a private network."""
    known_names = {name.replace("_", "."): found for name, found in names.items()}
    return asyncio.run(downloads("http://10.1.2.3:8000/v1", *listed, names=known_names).named(address))


@pytest.mark.parametrize(
    ("upstream", "location"),
    [
        (PUBLIC, "https://store.blob.core.windows.net/a?sig=1"),
        (PUBLIC, "https://1.videos.example:8443/a"),
        (LOCAL, "https://store.example/a"),
        (LOCAL, "http://127.0.0.1:8000/files/1"),
        ("http://10.1.2.3/v1", "http://10.1.2.3:80/files/1"),
        ("https://gpu.internal/v1", "https://gpu.internal/files/1"),
    ],
)
def test_a_public_name_and_the_upstreams_own_origin_are_followed(upstream: str, location: str) -> None:
    """The latter wherever the operator has put it."""
    assert leads(location, upstream) == str(httpx.URL(location))


def test_a_path_leads_on_at_the_same_server() -> None:
    """As most servers write it."""
    assert leads("/files/1", LOCAL) == "http://127.0.0.1:8000/files/1"


@pytest.mark.parametrize("upstream", [PUBLIC, LOCAL])
@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:7071/admin/host/status",
        "http://127.0.0.1:8001/v1",
        "https://127.0.0.1:8000/v1",
        "http://store.example/a",
        "ftp://store.example/a",
        "file:///etc/passwd",
        "https://localhost/",
        "https://LOCALHOST./",
        "https://a.localhost/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://0.0.0.0/",
        "https://10.0.0.1/",
        "https://169.254.169.254/metadata/identity/oauth2/token",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fe80::1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://metadata.google.internal/",
        "https://printer.local/",
        "https://intranet/",
    ],
)
def test_a_server_of_the_private_network_is_never_asked(upstream: str, location: str) -> None:
    """Whatever it is written as, and whether TLS is spoken or not."""
    with pytest.raises((Misrouted, httpx.InvalidURL)):
        leads(location, upstream)


@pytest.mark.parametrize("address", ["http://10.1.2.3:8000/files/1", "HTTP://10.1.2.3:8000/v1/videos/1/content?key=1"])
def test_only_the_deployments_own_server_sees_its_key(address: str) -> None:
    """The operator's own host, whatever a guard would say of its address."""
    assert named(address).headers["authorization"] == "Bearer key"
    other = named("https://s3.example/a.mp4", "s3.example", s3_example=["93.184.216.34"])
    assert "authorization" not in other.headers


@pytest.mark.parametrize(
    "address",
    ["https://other.example/a", "http://10.1.2.3:8001/a", "https://10.1.2.3:8000/a", "http://169.254.169.254/a", "file:///a"],
)
def test_a_host_that_is_not_listed_is_not_asked(address: str) -> None:
    """Another port of the own server is another server."""
    with pytest.raises(Misrouted, match="content_hosts"):
        named(address, "s3.example")


def test_a_listed_host_is_asked_at_the_address_that_was_checked() -> None:
    """A second look at its name could give another one; TLS still proves the name."""
    place = named("https://s3.example/a.mp4?sig=1", "s3.example", s3_example=["10.0.0.9", "93.184.216.34"])
    assert str(place.url) == "https://93.184.216.34/a.mp4?sig=1"
    assert (place.headers["host"], place.extensions) == ("s3.example", {"sni_hostname": "s3.example"})
    assert place.headers["connection"] == "close", "another name at this address would be taken for it"


@pytest.mark.parametrize(
    "private", ["10.0.0.9", "127.0.0.1", "169.254.169.254", "::1", "fd00::1", "100.64.0.1", "::ffff:10.0.0.9", "168.63.129.16"]
)
def test_a_listed_public_name_with_a_private_address_is_refused(private: str) -> None:
    """Whoever owns the name could point it anywhere, unless the operator lists the address too."""
    with pytest.raises(Misrouted):
        named("https://s3.example/a", "s3.example", s3_example=[private])
    assert named(
        "https://s3.example/a", "s3.example", f"{private}/64" if ":" in private else f"{private}/24", s3_example=[private]
    )


def test_a_private_name_that_is_listed_may_have_a_private_address() -> None:
    """The operator has written it down, and no stranger can own it."""
    assert str(named("http://minio:9000/a", "minio", minio=["10.0.0.9"]).url) == "http://10.0.0.9:9000/a"
    assert str(named("http://10.0.0.7/a", "10.0.0.7", **{"10_0_0_7": ["10.0.0.7"]}).url) == "http://10.0.0.7/a"


def test_a_listed_name_is_asked_for_as_it_is_encoded() -> None:
    """It would become `strasse.de` when it is encoded again, which is another server."""
    place = named("https://xn--strae-oqa.de/a", "straße.de", **{"xn--strae-oqa_de": ["93.184.215.14"]})
    assert (place.headers["host"], place.extensions) == ("xn--strae-oqa.de", {"sni_hostname": "xn--strae-oqa.de"})


def test_a_redirect_to_a_listed_host_may_do_without_tls() -> None:
    """As the listed host itself may."""
    place = asyncio.run(
        downloads(LOCAL, "minio", names={"minio": ["10.0.0.9"]}).redirected(httpx.URL(LOCAL), "http://minio:9000/a")
    )
    assert str(place.url) == "http://10.0.0.9:9000/a"
