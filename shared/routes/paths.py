"""The table of routes: finds the handler of a method and a path, under any of the prefixes
in use.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from shared.errors import MethodNotAllowed, NotFound
from shared.routes import content, models, operator, videos
from shared.routes.calls import Answer, Call, Handler


async def key_action(call: Call, action: str) -> Answer:
    """What stands under `/key/`."""
    return await other_path(call, f"key/{action}")


async def other_path(call: Call, path: str = "") -> Answer:
    """Answer a path that no trigger has, with the handler of the same path under another prefix.
    Raises NotFound or MethodNotAllowed.
    """
    route = find(call.request.method, path)
    return await route.handler(call, **route.parts)


@dataclass(frozen=True)
class Route:
    handler: Handler
    parts: Mapping[str, str]


# Matched without prefix, so that `/v1`, `/openai/v1`, `/openai` (the official Azure client) and
# none all lead here.
_ROUTES: tuple[tuple[str, tuple[str, ...], Handler], ...] = (
    (r"videos", ("POST",), videos.create_video),
    (r"videos/generations", ("POST",), videos.create_video),
    (r"videos", ("GET",), videos.list_videos),
    (r"videos/(?P<video_id>[^/]+)", ("GET",), videos.get_video),
    (r"videos/(?P<video_id>[^/]+)", ("DELETE",), videos.delete_video),
    (r"videos/(?P<video_id>[^/]+)/remix", ("POST",), videos.remix_video),
    (r"videos/(?P<video_id>[^/]+)/content", ("GET", "HEAD"), content.get_content),
    (r"models", ("GET",), models.list_models),
    (r"models/(?P<name>.+)", ("GET",), models.get_model),
    (r"model/info", ("GET",), operator.model_info),
    *((f"key/{action}", (method,), handler) for action, method, handler in operator.ACTIONS),
    (r"spend/logs", ("GET",), operator.spend_logs),
    (r"(global/)?spend/report", ("GET",), operator.spend_report),
)
_PREFIX = re.compile(r"^(openai/)?(v1/)?")


def find(method: str, path: str) -> Route:
    """The handler of a path under any of the prefixes. Raises NotFound or MethodNotAllowed."""
    bare = _PREFIX.sub("", path.strip("/"), count=1)
    allowed: list[str] = []
    for pattern, methods, handler in _ROUTES:
        match = re.fullmatch(pattern, bare)
        if match and method in methods:
            return Route(handler, match.groupdict())
        if match:
            allowed += methods
    if allowed:
        names = ", ".join(dict.fromkeys(allowed))
        raise MethodNotAllowed(f"This path takes {names}.", headers={"allow": names})
    hint = " Videos are made with POST /v1/videos." if bare.startswith(("video/generations", "deployments/")) else ""
    raise NotFound(f"Unknown request URL: {method} /{path[:200]}.{hint}", code="unknown_url")
