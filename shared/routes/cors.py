"""CORS: lets the pages that the operator lists call the gateway from a browser
(https://fetch.spec.whatwg.org/#http-cors-protocol).

A page's script sends the key in a header; the gateway uses no cookies. So no answer allows
credentials. A browser then sends nothing that the page does not know, and even any page (`*`) may
be allowed without risk to a user's session.
"""

from collections.abc import Mapping

from shared.config.browsers import Cors

_METHODS = "GET, HEAD, POST, DELETE"
# What a script may read beside the body. Browsers show a few more by themselves.
EXPOSED = (
    *("x-request-id", "location", "retry-after", "retry-after-ms", "x-should-retry", "allow"),
    *("accept-ranges", "content-disposition", "content-length", "content-range", "etag", "idempotent-replayed"),
    *("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    *("openai-poll-after-ms", "x-response-cost", "x-key-spend", "x-key-max-budget", "x-has-more"),
)


def is_preflight(rules: Cors, method: str, headers: Mapping[str, str]) -> bool:
    """Whether this is a browser's preflight request, from a page that is allowed. It has no key."""
    return method == "OPTIONS" and "access-control-request-method" in headers and rules.allows(headers.get("origin", ""))


def permission(rules: Cors, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of the answer to a preflight. Any header may be sent: only the key grants
    anything, and the page has to know it.
    """
    asked = headers.get("access-control-request-headers")
    return {
        "access-control-allow-methods": _METHODS,
        "access-control-max-age": str(rules.max_age_seconds),
        **({"access-control-allow-headers": asked} if asked else {}),
    }


def sharing(rules: Cors, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that let a page read an answer; none if no page may call at all.

    An answer names only the origin that asks, so `Vary` tells caches to keep one for each origin.
    """
    if not rules.origins:
        return {}
    origin = headers.get("origin", "")
    if not origin or not rules.allows(origin):
        return {"vary": "Origin"}
    return {"vary": "Origin", "access-control-allow-origin": origin, "access-control-expose-headers": ", ".join(EXPOSED)}
