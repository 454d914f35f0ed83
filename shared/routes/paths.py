"""The table of routes: finds the handler of a method and a path, under any of the prefixes
in use.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from shared.errors import MethodNotAllowed, NotFound
from shared.routes import content, event_streams, health, models, operator, reports, undelivered, videos, webhooks
from shared.routes.calls import Answer, Call, Handler, named


async def key_action(call: Call, action: str) -> Answer:
    """What stands under `/key/`."""
    return await other_path(call, f"key/{action}")


async def other_path(call: Call, path: str = "") -> Answer:
    """Answer a path that no trigger has, with the handler of the same path under another prefix.
    Raises NotFound or MethodNotAllowed.
    """
    route = find(call.request.method, path)
    named(call, route.handler)
    return await route.handler(call, **route.parts)


async def get_document(call: Call) -> Answer:
    """This description, as an OpenAPI document. Needs no key."""
    return Answer({**_document(), "servers": [{"url": call.request.origin}]})


async def get_docs(call: Call) -> Answer:
    """The same description as a page to read. Needs no key."""
    del call
    from shared.routes import openapi

    return openapi.page(_document())


async def get_studio(call: Call, name: str = "index.html") -> Answer:
    """The page for people, its files, and how to sign in. Needs no key: what it shows, it asks for
    with one. Raises NotFound.
    """
    from shared.routes import studio

    entra = call.given.settings.entra if call.given else None  # a gateway that is not configured has the page, too
    return studio.sign_in(entra) if name == "sign_in.json" else studio.file(name, call.headers, entra)


@cache
def _document() -> dict[str, Any]:
    from shared.routes import openapi

    return openapi.document((each.method, each.path, each.handler) for each in ENDPOINTS)


class Endpoint(msgspec.Struct, frozen=True):
    """A handler and its route: `path` is without prefix and has `{parts}` for the handler."""

    method: str
    path: str
    handler: Handler

    def match(self, path: str) -> dict[str, str] | None:
        """The parts of a path that this route matches; None for any other path."""
        found = _pattern(self.path).fullmatch(path)
        return None if found is None else found.groupdict()


# What a part may be: anything up to the next slash, unless it says otherwise here. What stands at
# the place of a video's id and has a route of its own is no id.
_PARTS = {
    "video_id": r"(?!(?:generations|models|counts|events|edits|extensions|characters)(?:/|$))[^/]+",
    "name": r".+",
}


@cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", lambda part: f"(?P<{part[1]}>{_PARTS.get(part[1], '[^/]+')})", path))


class Route(msgspec.Struct, frozen=True):
    handler: Handler
    parts: Mapping[str, str]


# Matched without prefix, so that `/v1`, `/openai/v1`, `/openai` (the official Azure client) and
# none all lead here.
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("POST", "videos", videos.create_video),
    Endpoint("GET", "videos", videos.list_videos),
    Endpoint("POST", "videos/generations", videos.create_video),
    Endpoint("GET", "videos/models", models.list_video_models),
    Endpoint("GET", "videos/events", event_streams.key_events),
    Endpoint("GET", "videos/counts", videos.count_videos),
    Endpoint("POST", "videos/edits", videos.edit_video),
    Endpoint("POST", "videos/extensions", videos.extend_video),
    Endpoint("POST", "videos/characters", videos.create_character),
    Endpoint("GET", "videos/characters/{character_id}", videos.get_character),
    Endpoint("GET", "videos/{video_id}", videos.get_video),
    Endpoint("DELETE", "videos/{video_id}", videos.delete_video),
    Endpoint("GET", "videos/{video_id}/events", event_streams.video_events),
    Endpoint("POST", "videos/{video_id}/remix", videos.remix_video),
    Endpoint("GET", "videos/{video_id}/content", content.get_content),
    Endpoint("HEAD", "videos/{video_id}/content", content.get_content),
    Endpoint("GET", "models", models.list_models),
    Endpoint("GET", "models/{name}", models.get_model),
    Endpoint("GET", "model/info", operator.model_info),
    *(Endpoint(method, f"key/{action}", handler) for action, method, handler in operator.ACTIONS),
    Endpoint("POST", "v2/key/info", operator.keys_info),
    Endpoint("GET", "spend/logs", reports.spend_logs),
    Endpoint("GET", "spend/report", reports.spend_report),
    Endpoint("GET", "spend/keys", reports.spend_keys),
    Endpoint("GET", "spend/tags", reports.spend_tags),
    Endpoint("POST", "spend/calculate", reports.calculate),
    Endpoint("GET", "global/spend/report", reports.spend_report),
    Endpoint("GET", "global/spend/keys", reports.global_spend_keys),
    Endpoint("GET", "events/undelivered", undelivered.list_undelivered),
    Endpoint("GET", "events/deliveries", undelivered.list_deliveries),
    Endpoint("POST", "events/replay", undelivered.replay),
    Endpoint("GET", "webhook_endpoints", webhooks.list_endpoints),
    Endpoint("POST", "webhook_endpoints", webhooks.create_endpoint),
    Endpoint("GET", "webhook_endpoints/{webhook_endpoint_id}", webhooks.get_endpoint),
    Endpoint("POST", "webhook_endpoints/{webhook_endpoint_id}", webhooks.update_endpoint),
    Endpoint("DELETE", "webhook_endpoints/{webhook_endpoint_id}", webhooks.delete_endpoint),
    Endpoint("POST", "webhook_endpoints/{webhook_endpoint_id}/rotate_secret", webhooks.rotate_secret),
    Endpoint("POST", "webhook_endpoints/{webhook_endpoint_id}/test", webhooks.test_endpoint),
    Endpoint("GET", "webhook_endpoints/{webhook_endpoint_id}/deliveries", webhooks.list_deliveries),
    Endpoint("POST", "webhook_endpoints/{webhook_endpoint_id}/deliveries/{event_id}", webhooks.repeat_delivery),
    Endpoint("GET", "webhook_event_types", webhooks.list_event_types),
    Endpoint("GET", "health", health.health),
    Endpoint("GET", "health/{probe}", health.health),
    Endpoint("GET", "openapi.json", get_document),
    Endpoint("GET", "docs", get_docs),
    *(Endpoint(method, path, get_studio) for path in ("studio", "studio/{name}") for method in ("GET", "HEAD")),
)
_PREFIX = re.compile(r"^(openai/)?(v1/)?")


def find(method: str, path: str) -> Route:
    """The handler of a path under any of the prefixes. Raises NotFound or MethodNotAllowed."""
    bare = _PREFIX.sub("", path.strip("/"), count=1)
    allowed: list[str] = []
    for endpoint in ENDPOINTS:
        parts = endpoint.match(bare)
        if parts is None:
            continue
        if endpoint.method == method:
            return Route(endpoint.handler, parts)
        allowed.append(endpoint.method)
    if allowed:
        names = ", ".join(dict.fromkeys(allowed))
        raise MethodNotAllowed(f"This path takes {names}.", headers={"allow": names})
    hint = " Videos are made with POST /v1/videos." if bare.startswith(("video/generations", "deployments/")) else ""
    raise NotFound(f"Unknown request URL: {method} /{path[:200]}.{hint}", code="unknown_url")
