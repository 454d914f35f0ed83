"""Calls that wait for changes of videos. They look again and again while the caller is connected
and its key may still ask.
"""

import re
from collections.abc import AsyncIterator
from datetime import timedelta

from shared.errors import InvalidRequest
from shared.media.video import Video
from shared.routes.calls import Call
from shared.videos.following import Follower, View, Views

_TICK = 1.0  # seconds until a caller that has gone away is missed
_SECONDS = re.compile(r"\d{1,6}(\.\d{1,6})?", re.ASCII)


async def has_news(call: Call, video: Video) -> bool:
    """Wait until a video changes, for at most the seconds of `?wait=`. Returns False if it did not
    change, has ended, or no place for waiting is left. Raises InvalidRequest, and what `looks`
    raises.
    """
    seconds, gateway = _asked(call), call.gateway
    if not seconds or video.finished:
        return False
    owner = (await call.caller()).owner
    if gateway.places.refusal(owner):
        return False
    with gateway.places.taken(owner):
        follower = gateway.following.video(video.id, View.of(video.to_row()))
        async for changes in looks(call, follower, seconds):
            if changes:
                return True
    return False


async def looks(call: Call, follower: Follower, seconds: float) -> AsyncIterator[Views]:
    """Yields what has changed, every second; mostly nothing. Ends after `seconds`, or as many as
    the operator allows, or once the caller has disconnected. Raises Unauthenticated for a key that
    may no longer ask, and StorageUnavailable.
    """
    clock = call.gateway.clock
    until = clock.now() + timedelta(seconds=min(seconds, call.gateway.settings.knobs.waiting.longest_seconds))
    while clock.now() < until and call.request.connected():
        await call.caller()
        yield await follower.changes()
        await clock.sleep(min(_TICK, (until - clock.now()).total_seconds()))


def _asked(call: Call) -> float:
    asked = call.query.get("wait", "0")
    if not _SECONDS.fullmatch(asked):
        raise InvalidRequest("`wait` must be a number of seconds, such as 30.", param="wait")
    return float(asked)
