"""CORS: lets the pages that the operator lists call the gateway from a browser
(https://fetch.spec.whatwg.org/#http-cors-protocol).

Keys travel in a header that a page's script sets, and nothing of ours is in a cookie. So no answer
allows credentials: a browser then sends nothing that the page did not know, and any page (`*`) may
be listed without risk to somebody's session.
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
    """Whether this is a browser's question whether a page that is listed may send a request. It
    comes without a key.
    """
    return method == "OPTIONS" and "access-control-request-method" in headers and rules.allows(headers.get("origin", ""))


def permission(rules: Cors, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of the answer to a preflight. Any header may be sent: none of ours grants
    anything, but for the key, which the page has to know.
    """
    asked = headers.get("access-control-request-headers")
    return {
        "access-control-allow-methods": _METHODS,
        "access-control-max-age": str(rules.max_age_seconds),
        **({"access-control-allow-headers": asked} if asked else {}),
    }


def sharing(rules: Cors, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers by which a page may read an answer; empty where no page may call at all.

    An answer tells of no other origin than the one that asks, so a cache must keep one for each.
    """
    if not rules.origins:
        return {}
    origin = headers.get("origin", "")
    if not origin or not rules.allows(origin):
        return {"vary": "Origin"}
    return {"vary": "Origin", "access-control-allow-origin": origin, "access-control-expose-headers": ", ".join(EXPOSED)}
