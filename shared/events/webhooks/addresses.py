"""Where webhooks may go: callers choose the URL, so it must not lead into the operator's network.

A URL's text is checked when it is given. At every try its name is resolved anew, each IP address it
has must be allowed, and the connection goes to a checked address. So a name that resolves to
another address a moment later (DNS rebinding) changes nothing.
"""

import asyncio
import ipaddress
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import msgspec

from shared.config.file import LOOPBACK
from shared.errors import InvalidRequest
from shared.media.remote_image import LONGEST_URL, Resolve, host_of, is_public, resolve

if TYPE_CHECKING:
    import httpx

_HOST = re.compile(rb"[A-Za-z0-9.:_-]+")
_PATIENCE = 5.0  # seconds for resolving a name


class NotAllowed(Exception):
    """A webhook may not go to this URL, or its name does not resolve. The message says why."""


class Addresses(msgspec.Struct, frozen=True):
    """The allowed IP addresses: public ones, and those in `networks`, which the operator lists in
    CIDR notation (`10.0.0.0/8`). With a loopback network, `http://` to this machine is allowed too.
    """

    networks: Sequence[str] = ()
    resolve: Resolve = resolve

    def check(self, url: object, hosts: Collection[str], param: str) -> str:
        """Return the URL if its text is allowed. If there are any `hosts`, its host must be one of
        them: the key may use no others. Raises InvalidRequest for `param`.
        """
        parsed = _parsed(url)
        if parsed is None or parsed.userinfo or not self._is_safe(parsed):
            raise InvalidRequest(f"`{param}` must be an https:// address without a user.", param=param)
        if hosts and host_of(parsed) not in hosts:
            raise InvalidRequest(f"`{param}` must be on one of the key's hosts: {', '.join(sorted(hosts))}.", param=param)
        return str(url)

    async def pinned(self, url: str, hosts: Collection[str] = ()) -> "tuple[httpx.URL, httpx.URL]":
        """The parsed URL, and a copy whose host is the IP address to connect to. `hosts` are those
        of `check`: they may have changed since then. Raises NotAllowed.
        """
        named = _parsed(url)
        if named is None:
            raise NotAllowed("it is not a URL")
        if hosts and host_of(named) not in hosts:
            raise NotAllowed("it is on none of the key's hosts")
        try:
            async with asyncio.timeout(_PATIENCE):
                found = await self.resolve(host_of(named))
        except (OSError, UnicodeError, TimeoutError) as error:
            raise NotAllowed("its name does not resolve") from error
        if not found or not all(map(self._allows, found)):
            raise NotAllowed("its name leads to an address that is not public")
        return named, named.copy_with(host=found[0])

    def _is_safe(self, url: "httpx.URL") -> bool:
        local = host_of(url) in LOOPBACK and self._allows("127.0.0.1")
        return url.scheme == "https" or (url.scheme == "http" and local)

    def _allows(self, address: str) -> bool:
        ip = ipaddress.ip_address(address.partition("%")[0])
        return is_public(address) or any(ip in ipaddress.ip_network(each) for each in self.networks)


def _parsed(url: object) -> "httpx.URL | None":
    """The URL, or None if it is malformed or too long."""
    import httpx

    try:
        parsed = httpx.URL(url) if isinstance(url, str) and len(url) <= LONGEST_URL else None
    except httpx.InvalidURL:
        return None
    if parsed is None or not _HOST.fullmatch(parsed.raw_host) or not _is_port(parsed.port):
        return None
    return parsed


def _is_port(port: int | None) -> bool:
    return port is None or 0 < port < 65_536
