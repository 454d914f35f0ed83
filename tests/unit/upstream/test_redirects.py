"""Downloads are sent on to public names over TLS, or to the upstream's own origin."""

import httpx
import pytest

from shared.errors import Misrouted
from shared.upstream.redirects import redirected

PUBLIC = "https://east.openai.example/openai/v1"
LOCAL = "http://127.0.0.1:8000/v1"


def leads(location: str, upstream: str) -> str:
    return str(redirected(httpx.URL(f"{upstream}/videos/video_1/content"), location, httpx.URL(upstream)))


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
