"""Where the bytes of a video may be fetched from, and with which headers.

The upstream chooses the address, by a redirect or in the job itself, and the gateway fetches it
from inside the operator's network. A compromised or faulty upstream must not be able to make it
fetch from a server of that network. So a redirect may only lead to a public host name over TLS, and
an address in a job only to a host that the deployment lists. The deployment's own server may always
be asked, wherever the operator has put it, and only that server is sent the credentials.

A redirect's name is not resolved: with private endpoints a public name resolves to a private
address, and TLS proves who answers. A listed host's name is resolved once, checked, and the address
that was checked is the one connected to.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import msgspec

from shared.config.catalog import Deployment
from shared.errors import Misrouted
from shared.media.remote_image import host_of, is_public

if TYPE_CHECKING:
    import httpx

# Never public: a name without a dot, an IP address (also written as 127.1 or 0x7f000001), and the
# endings reserved for private networks.
_PRIVATE_NAME = re.compile(r"[^.]*|.*:.*|(.*\.)?(0x[0-9a-f]*|\d+)|.*\.(localhost|local|internal|home\.arpa)", re.IGNORECASE)
_PLAIN = {"accept-encoding": "identity"}  # a compressed answer has no length to compare with

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The IP addresses of a host."""


async def addresses_of(host: str, port: int) -> list[str]:
    """The addresses that the system's resolver knows; none if it knows no such host."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(address[0]) for *_, address in found]


class Place(msgspec.Struct, frozen=True):
    """An address with the headers it is asked with. `extensions` are httpx's own."""

    url: "httpx.URL"
    headers: Mapping[str, str] = msgspec.field(default_factory=lambda: _PLAIN)
    extensions: Mapping[str, Any] = msgspec.field(default_factory=dict)


class Downloads(msgspec.Struct, frozen=True):
    """The places of one deployment's bytes. `credentials` are the headers for its own server.

    Methods raise Misrouted if an address may not be fetched, and httpx.InvalidURL if it is
    malformed.
    """

    deployment: Deployment
    credentials: Mapping[str, str]
    resolve: Resolve

    def at(self, url: "httpx.URL") -> Place:
        """A place at the deployment's own server."""
        return Place(url, {**_PLAIN, **self.credentials})

    async def named(self, address: str) -> Place:
        """The place of an address that a job names."""
        import httpx

        url = httpx.URL(address)
        if self._is_own(url):
            return self.at(url)
        if not self._is_listed(url.host):
            raise Misrouted("The upstream names a host for the video that the deployment's content_hosts do not list.")
        return await self._pinned(url)

    async def redirected(self, url: "httpx.URL", location: str) -> Place:
        """The place that an answer from `url` redirects to, without credentials."""
        target = url.join(location)
        if self._is_own(target):
            return Place(target)
        if self._is_listed(target.host):
            return await self._pinned(target)
        if target.scheme != "https":
            raise Misrouted("The upstream redirected a download to an address without TLS.")
        if _PRIVATE_NAME.fullmatch(target.host.rstrip(".")):
            raise Misrouted("The upstream redirected a download to an address on a private network.")
        return Place(target)

    def _is_own(self, url: "httpx.URL") -> bool:
        import httpx

        return _origin(url) == _origin(httpx.URL(self.deployment.base_url))

    def _is_listed(self, host: str) -> bool:
        return host.lower() in self.deployment.content_hosts

    async def _pinned(self, url: "httpx.URL") -> Place:
        """A listed host at an address of it that may be asked."""
        if url.scheme not in _PORTS:
            raise Misrouted("The upstream names an address for the video that is neither http nor https.")
        host = host_of(url)
        for address in await self.resolve(host, url.port or _PORTS[url.scheme]):
            if self._may_be_asked(host, address):
                # The connection is not kept: the pool finds it by address, and another name may
                # have the same address.
                headers = {**_PLAIN, "host": url.netloc.decode(), "connection": "close"}
                return Place(url.copy_with(host=address), headers, {"sni_hostname": host})
        raise Misrouted("The host of the video has no address that may be asked; content_hosts may list private ones.")

    def _may_be_asked(self, host: str, address: str) -> bool:
        """Public addresses may, private ones if they are listed, or if the listed name itself is a
        private one.
        """
        if is_public(address) or _PRIVATE_NAME.fullmatch(host):
            return True
        return any(ip_address(address) in each for each in self._networks())

    def _networks(self) -> list[Any]:
        listed = [each for each in self.deployment.content_hosts if re.fullmatch(r"[\d.]+(/\d+)?|.*:.*", each)]
        return [ip_network(each, strict=False) for each in listed]


_PORTS = {"http": 80, "https": 443}


def _origin(url: "httpx.URL") -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or _PORTS.get(url.scheme)
