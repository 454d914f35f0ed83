"""Images from elsewhere: from the operator's hosts alone, and never from inside a network."""

from collections.abc import Callable

import httpx
import pytest

from shared.errors import InvalidRequest, TooLarge
from shared.media.remote_image import RemoteImages, is_public, resolve

pytestmark = pytest.mark.anyio

HOST = "images.example.com"
Say = Callable[[httpx.Request], httpx.Response]


class Server:
    """What is behind the allowed name; `asked` remembers the requests."""

    def __init__(self, *addresses: str, say: Say = lambda _: httpx.Response(200, stream=httpx.ByteStream(b"image"))) -> None:
        self.addresses = list(addresses or ["93.184.215.14"])
        self.asked: list[httpx.Request] = []
        self._say = say

    async def fetch(self, url: str, most: int = 100) -> bytes:
        async with httpx.AsyncClient(transport=httpx.MockTransport(self._answer)) as client:
            return await RemoteImages(frozenset({HOST}), lambda: client, self._resolve).fetch(url, most)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self._say(request)

    async def _resolve(self, host: str) -> list[str]:
        assert host == HOST
        return self.addresses


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """With the name for TLS and for the server, so that a name that moves later leads nowhere."""
    server = Server()
    assert await server.fetch(f"https://{HOST}/a%20cat.png?v=1") == b"image"
    (request,) = server.asked
    assert str(request.url) == "https://93.184.215.14/a%20cat.png?v=1"
    assert (request.headers["host"], request.extensions["sni_hostname"]) == (HOST, HOST)
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example.com/cat.png",
        f"https://{HOST}.evil.example/cat.png",
        f"https://{HOST}:8443/cat.png",
        f"https://user:secret@{HOST}/cat.png",
        f"https://{HOST}@evil.example/cat.png",
        f"http://{HOST}/cat.png",
        f"https://{HOST}./cat.png",
        "https://xn--a.example/cat.png",
        "https://127.0.0.1/cat.png",
        "https://[::1]/cat.png",
        "https://",
        "https://[",
        f"https://{HOST}/" + "a" * 3000,
    ],
    ids=lambda url: url[:40],
)
async def test_no_other_host_is_asked(url: str) -> None:
    """However it is written."""
    server = Server()
    with pytest.raises(InvalidRequest) as refused:
        await server.fetch(url)
    assert refused.value.param == "input_reference"
    assert server.asked == []


@pytest.mark.parametrize("address", ["10.0.0.4", "127.0.0.1", "169.254.169.254", "168.63.129.16", "::1", "fd00::1"])
async def test_a_name_that_leads_inside_is_not_followed(address: str) -> None:
    """Not even where another of its addresses is public."""
    for addresses in ([address], ["93.184.215.14", address]):
        server = Server(*addresses)
        with pytest.raises(InvalidRequest, match="public"):
            await server.fetch(f"https://{HOST}/cat.png")
        assert server.asked == []


@pytest.mark.parametrize(
    "address", ["::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "fe80::1%eth0", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::"]
)
def test_addresses_that_hide_a_private_one_are_not_public(address: str) -> None:
    """Mapped, translated, tunnelled, shared, or for many."""
    assert not is_public(address)
    assert is_public("2606:2800:21f:cb07:6820:80da:af6b:8b2c")


async def test_a_redirect_is_an_error() -> None:
    """It would lead past the list."""
    server = Server(say=lambda _: httpx.Response(302, headers={"location": "https://169.254.169.254/"}))
    with pytest.raises(InvalidRequest, match="302"):
        await server.fetch(f"https://{HOST}/cat.png")
    assert len(server.asked) == 1


async def test_what_is_too_large_is_not_read_to_its_end() -> None:
    """Whatever length is declared."""
    server = Server(say=lambda _: httpx.Response(200, stream=httpx.ByteStream(b"a" * 101)))
    with pytest.raises(TooLarge):
        await server.fetch(f"https://{HOST}/cat.png")
    packed = Server(say=lambda _: httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"a")))
    with pytest.raises(InvalidRequest):
        await packed.fetch(f"https://{HOST}/cat.png")


@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), OSError("no such name")])
async def test_a_server_that_does_not_answer_is_the_requests_fault(failure: Exception) -> None:
    """Its message tells nothing of the network."""

    def say(_: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(InvalidRequest, match="does not answer"):
        await Server(say=say).fetch(f"https://{HOST}/cat.png")


async def test_names_are_resolved_by_the_system() -> None:
    """To every address that they have."""
    assert "127.0.0.1" in await resolve("localhost")
