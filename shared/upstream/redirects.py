"""Which redirects of a download may be followed.

The upstream chooses the address, and the gateway fetches it from inside the operator's network. An
upstream that is faulty or taken over must not reach other servers of that network, so a redirect
may only lead to a public name over TLS, or to the upstream's own origin. Names are not resolved:
behind private endpoints a public name has a private address, and TLS proves which server answers.
"""

import re
from typing import TYPE_CHECKING

from shared.errors import Misrouted

if TYPE_CHECKING:
    import httpx

# Never public: a name without a dot, an address instead of a name (also in the forms that systems
# read as one, such as 127.1 or 0x7f000001), and the endings kept for private networks.
_PRIVATE_NAME = re.compile(r"[^.]*|.*:.*|(.*\.)?(0x[0-9a-f]*|\d+)|.*\.(localhost|local|internal|home\.arpa)", re.IGNORECASE)


def redirected(url: "httpx.URL", location: str, upstream: "httpx.URL") -> "httpx.URL":
    """The address that a redirect from `url` leads to.

    Raises Misrouted where it may not be followed, or httpx.InvalidURL where it is not a URL.
    """
    target = url.join(location)
    if _origin(target) == _origin(upstream):
        return target
    if target.scheme != "https":
        raise Misrouted("The upstream redirected a download to an address without TLS.")
    if _PRIVATE_NAME.fullmatch(target.host.rstrip(".")):
        raise Misrouted("The upstream redirected a download to an address on a private network.")
    return target


def _origin(url: "httpx.URL") -> tuple[str, str, int | None]:
    ports = {"http": 80, "https": 443}
    return url.scheme, url.host, url.port or ports.get(url.scheme)
