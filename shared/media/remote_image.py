"""Fetches reference images from addresses that callers send.

A caller must not make the gateway ask servers of the operator's own network, or the cloud's
metadata service. So only hosts that the operator has listed are asked, over TLS on port 443. Their
names are resolved here, every address must be public, and the connection goes to an address that
was checked. So a name that resolves to another address a moment later (DNS rebinding) changes
nothing.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from shared.errors import InvalidRequest, TooLarge

if TYPE_CHECKING:
    import httpx

LONGEST_URL = 2048  # characters
_LONGEST_FETCH = 20.0  # seconds for everything, while the caller waits
_AT_ONCE = 8  # images that are fetched at the same time
# Networks that `ipaddress` calls global but that may lead inside: Azure's own host service, and
# IPv6 networks whose addresses contain an IPv4 address that may be private (NAT64, 6to4, Teredo).
_INSIDE = tuple(
    ipaddress.ip_network(each)
    for each in ("168.63.129.16/32", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::ffff:0:0/96")
)

Resolve = Callable[[str], Awaitable[list[str]]]


async def resolve(host: str) -> list[str]:
    """The IP addresses of a host name. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class RemoteImages(msgspec.Struct, frozen=True):
    """Fetches images from `hosts` (exact names) with the client that `http` returns."""

    hosts: frozenset[str]
    http: "Callable[[], httpx.AsyncClient]"
    resolve: Resolve = resolve
    _turns: asyncio.Semaphore = msgspec.field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def fetch(self, address: str, most: int) -> bytes:
        """The bytes at an address, at most `most`. Raises InvalidRequest or TooLarge."""
        import httpx

        url = self._allowed(address)
        try:
            async with self._turns, asyncio.timeout(_LONGEST_FETCH):
                return await self._read(url, await self._public_address(host_of(url)), most)
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            raise invalid_reference("cannot be fetched: its server does not answer") from error

    def _allowed(self, address: str) -> "httpx.URL":
        import httpx

        try:
            url = httpx.URL(address) if len(address) <= LONGEST_URL else None
        except httpx.InvalidURL:
            url = None
        if url is None or url.scheme != "https" or url.port is not None or url.userinfo:
            raise invalid_reference("must have an https:// address without a port or a user")
        if host_of(url) not in self.hosts:
            raise invalid_reference("is on a host that this gateway does not fetch from; send the image itself")
        return url

    async def _public_address(self, host: str) -> str:
        """An address of the host, if all of its addresses are public. Raises InvalidRequest."""
        addresses = await self.resolve(host)
        if not addresses or not all(map(is_public, addresses)):
            raise invalid_reference("is on a host without a public address")
        return addresses[0]

    async def _read(self, url: "httpx.URL", address: str, most: int) -> bytes:
        client = self.http()
        pinned = url.copy_with(host=address)
        # TLS checks the certificate against the name, not the IP address. The connection is not
        # kept: the pool finds it by address, and another name may have the same address.
        headers = {"host": host_of(url), "accept-encoding": "identity", "connection": "close"}
        request = client.build_request("GET", pinned, headers=headers, extensions={"sni_hostname": host_of(url)})
        answer = await client.send(request, stream=True, follow_redirects=False)
        try:
            if answer.status_code != 200 or answer.headers.get("content-encoding", "identity") != "identity":
                raise invalid_reference(f"cannot be fetched: its server answered {answer.status_code}")
            data = bytearray()
            async for piece in answer.aiter_raw():
                data += piece
                if len(data) > most:
                    raise TooLarge(f"The reference image is larger than {most // 1024**2} MiB.", param="input_reference")
            return bytes(data)
        finally:
            await answer.aclose()


def host_of(url: "httpx.URL") -> str:
    """The host as DNS and certificates have it. `url.host` is decoded for people: decoding fails
    for some names, and what it gives may encode to another name.
    """
    return url.raw_host.decode().lower()


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return ip.is_global and not ip.is_multicast and not any(ip in each for each in _INSIDE if each.version == ip.version)


def invalid_reference(what: str) -> InvalidRequest:
    """The error about a reference image; `what` ends the sentence "The reference image …"."""
    return InvalidRequest(f"The reference image {what}.", code="invalid_reference", param="input_reference")
