"""Webhooks go to public addresses, whatever a name leads to and whenever it changes."""

import pytest

from shared.errors import InvalidRequest
from shared.events.webhooks.addresses import Addresses, NotAllowed

pytestmark = pytest.mark.anyio


class Names:
    """A name server whose answers a test may change."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked: list[str] = []

    async def resolve(self, host: str) -> list[str]:
        self.asked.append(host)
        return self.addresses


NO_HTTPS = ["http://a.example/hook", "ftp://a.example", "https://user:secret@a.example/", "https://", "a.example", "https://["]
NO_HTTPS += ["https://a.example/" + "a" * 3000, "http://127.0.0.1/hook", "http://localhost/hook"]


@pytest.mark.parametrize("url", [*NO_HTTPS, None, 7])
async def test_only_https_is_taken(url: object) -> None:
    with pytest.raises(InvalidRequest, match="https"):
        Addresses().check(url, (), "url")


@pytest.mark.parametrize("host", ["xn--strae-oqa.de", "xn--a.example", "XN--A.example"])
async def test_an_encoded_name_is_asked_for_as_it_is(host: str) -> None:
    """`straße.de` is another server than `strasse.de`, which it would become when it is decoded and
    encoded again; and what decodes to nothing is only a name that does not resolve.
    """
    names, url = Names("93.184.215.14"), f"https://{host}/hook"
    assert Addresses().check(url, [host.lower()], "url") == url
    named, _ = await Addresses(resolve=names.resolve).pinned(url)
    assert (names.asked, named.netloc.decode()) == ([host.lower()], host.lower())


@pytest.mark.parametrize("port", ["0", "65536", "99999", "y"])
async def test_a_port_that_there_cannot_be_is_not_taken(port: str) -> None:
    """Nor is it asked, where it was stored before it was looked at."""
    url = f"https://a.example:{port}/hook"
    with pytest.raises(InvalidRequest):
        Addresses().check(url, (), "url")
    with pytest.raises(NotAllowed):
        await Addresses(resolve=Names("93.184.215.14").resolve).pinned(url)


async def test_a_key_may_be_limited_to_hosts() -> None:
    addresses = Addresses()
    assert addresses.check("https://A.example/hook", ["a.example"], "url")
    for url in ("https://b.example/hook", "https://a.example.evil.example/", "https://a.example@evil.example/"):
        with pytest.raises(InvalidRequest):
            addresses.check(url, ["a.example"], "url")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "168.63.129.16",
        "::1",
        "fd00::1",
        "fe80::1%eth0",
        "::ffff:10.0.0.1",
        "0.0.0.0",
    ],
)
async def test_a_name_that_leads_inside_is_not_followed(address: str) -> None:
    """Not even where another of its addresses is public."""
    for found in ([address], ["93.184.215.14", address]):
        with pytest.raises(NotAllowed):
            await Addresses(resolve=Names(*found).resolve).pinned("https://a.example/hook")


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    names = Names("93.184.215.14")
    named, pinned = await Addresses(resolve=names.resolve).pinned("https://a.example:8443/hook?a=1")
    assert (named.host, str(pinned)) == ("a.example", "https://93.184.215.14:8443/hook?a=1")
    names.addresses = ["2606:2800:21f:cb07:6820:80da:af6b:8b2c"]
    _, pinned = await Addresses(resolve=names.resolve).pinned("https://a.example/hook")
    assert str(pinned) == "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/hook"


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "2130706433", "[::ffff:127.0.0.1]", "localhost"])
async def test_this_machine_has_many_names(host: str) -> None:
    """As the system's own resolver reads them."""
    with pytest.raises(NotAllowed):
        await Addresses().pinned(f"https://{host}/hook")


async def test_the_operator_may_list_networks() -> None:
    """And may have a receiver on the same machine without TLS."""
    inside = Addresses(["10.0.0.0/8", "127.0.0.0/8"], resolve=Names("10.1.2.3").resolve)
    _, pinned = await inside.pinned("https://a.example/hook")
    assert pinned.host == "10.1.2.3"
    assert inside.check("http://127.0.0.1:9000/hook", (), "url")
    with pytest.raises(InvalidRequest):
        inside.check("http://10.1.2.3/hook", (), "url")
