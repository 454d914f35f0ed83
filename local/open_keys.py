"""`--open`: any key is the operator's, as in examples that say `api_key="anything"`.

It is of the stand-in alone: what is deployed has no such switch. The host listens on loopback, so
only programs of this machine get here; a page in a browser would have to come by another name.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec.structs import asdict, replace

from shared.accounts.keys import Caller, Keys
from shared.errors import PermissionDenied
from shared.gateway import Gateway

_LOOPBACK = ("localhost", "127.0.0.1", "::1", "0.0.0.0")


class OpenKeys(Keys):
    """Keys of which every one is the operator's."""

    async def authenticate(self, headers: Mapping[str, str]) -> Caller:
        """The operator. Raises Unauthenticated without any key, and PermissionDenied where the
        request's `Host`, which the host passes on, is another machine: so a web page cannot lead a
        browser here under its own name.
        """
        if urlsplit(f"//{headers.get('x-forwarded-host', '')}").hostname not in _LOOPBACK:
            raise PermissionDenied("With --open, the gateway answers to http://localhost alone.")
        return await super().authenticate(headers)

    def is_master(self, secret: str) -> bool:
        del secret
        return True


def opened(gateway: Gateway) -> Gateway:
    """The same gateway with open keys."""
    return replace(gateway, keys=OpenKeys(**asdict(gateway.keys)))
