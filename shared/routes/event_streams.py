"""Server-sent events of one video, or of all videos of a key
(https://html.spec.whatwg.org/multipage/server-sent-events.html).

An event tells a state, so the next one makes up for one that a client has missed. A stream ends
before the platform cuts it off; the client connects again and tells with `Last-Event-ID` what it
knows.
"""

import json
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.errors import GatewayError, envelope
from shared.media.video import Video
from shared.routes.calls import Answer, Call
from shared.routes.videos import own_video, shown
from shared.routes.waiting import looks
from shared.videos.following import Follower, View, Views

_MEDIA_TYPE = "text/event-stream; charset=utf-8"
_OPENING, _COMMENT = b"retry: 1000\n\n", b": nothing new\n\n"
_SILENCE = timedelta(seconds=15)  # the longest: some proxies close a silent connection after half a minute
_REMEMBERED = timedelta(minutes=10)  # after a longer absence a client should read the list
# The time until which everything has been told, in unix milliseconds, and the event's state.
_EVENT_ID = re.compile(r"(\d{13})\.([a-z_]+\.\d{1,3})", re.ASCII)


async def video_events(call: Call, video_id: str) -> Answer:
    """The video as it is, and again after every change. The stream ends with the video. 204 where
    the caller knows the end already: then no browser asks again.
    """
    video = await own_video(call, video_id)
    view = View.of(video.to_row())
    knows = _last_event(call)[1] == _state(video)
    if knows and video.finished:
        return Answer(status=204)
    return await _stream(call, call.gateway.following.video(video.id, view if knows else None), ends_with_video=True)


async def key_events(call: Call) -> Answer:
    """Every change of the key's videos, from now on or from the event of `Last-Event-ID` on."""
    caller = await call.caller()
    follower = await call.gateway.following.key(caller.owner, _last_event(call)[0])
    return await _stream(call, follower, ends_with_video=False)


async def _stream(call: Call, follower: Follower, *, ends_with_video: bool) -> Answer:
    """The answer. Its first piece is made before it is returned: if no place is left, the answer is
    an error.
    """
    pieces = _pieces(call, (await call.caller()).owner, follower, ends_with_video=ends_with_video)
    return Answer(_resumed(await anext(pieces), pieces), headers={"x-accel-buffering": "no"}, media_type=_MEDIA_TYPE)


async def _resumed(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """The first piece, which was made already, and the rest. The rest is closed with this, so that
    its place is free at once.
    """
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


async def _pieces(call: Call, owner: str, follower: Follower, *, ends_with_video: bool) -> AsyncGenerator[bytes, None]:
    with call.gateway.places.taken(owner):
        yield _OPENING
        try:
            async for piece in _news(call, follower, ends_with_video=ends_with_video):
                yield piece
        except GatewayError as error:
            yield _event("error", envelope(error))


async def _news(call: Call, follower: Follower, *, ends_with_video: bool) -> AsyncIterator[bytes]:
    clock = call.gateway.clock
    spoke = clock.now()
    complete = _last_event(call)[0] or spoke  # everything until then has been told
    async for changes in looks(call, follower, math.inf):
        looked = clock.now()
        if not changes and looked - spoke < _SILENCE:
            continue
        if not changes:
            yield _COMMENT
        async for event in _told_in_turn(call, changes, complete, looked):
            yield event
        spoke, complete = clock.now(), looked
        if ends_with_video and any(view is None or view.ended for view in changes.values()):
            return


async def _told_in_turn(call: Call, changes: Views, complete: datetime, looked: datetime) -> AsyncIterator[bytes]:
    """An event for each change. Each is made once the one before is sent, since there may be
    hundreds.

    Only the last one says that everything until this look is told: a client that is cut off before
    it gets all of them again. Raises Unauthenticated for a key that may no longer ask.
    """
    names = _in_order(changes)
    for name in names:
        if not call.request.connected():
            return
        await call.caller()
        yield await _told(call, name, looked if name == names[-1] else complete)


def _in_order(changes: Views) -> list[str]:
    """The ids of the videos, in the order in which they came to their states."""
    return sorted(changes, key=lambda name: (view.since.timestamp() if (view := changes[name]) else math.inf, name))


async def _told(call: Call, video_id: str, at: datetime) -> bytes:
    """The event of a change, with the video as it is now. If it has changed again meanwhile, the
    next look finds that and tells it again.
    """
    entry = await call.gateway.videos.find(video_id)
    moment = f"{at.timestamp() * 1000:.0f}"
    if entry is None or entry.video.deleted:
        return _event("video.deleted", {"id": video_id, "object": "video.deleted", "deleted": True}, f"{moment}.deleted.0")
    video = entry.video
    return _event(f"video.{video.status}", await shown(call, video), f"{moment}.{_state(video)}")


def _event(name: str, data: dict[str, Any], event_id: str | None = None) -> bytes:
    lines = [f"event: {name}", *([f"id: {event_id}"] if event_id else []), f"data: {json.dumps(data)}"]
    return ("\n".join(lines) + "\n\n").encode()


def _state(video: Video) -> str:
    return f"{video.status}.{video.progress}"


def _last_event(call: Call) -> tuple[datetime | None, str | None]:
    """What the caller's `Last-Event-ID` says: the time until which it knows everything, and the
    state that the event told. None if there is no such header, if it is not one of ours, or if the
    caller was away for too long.
    """
    known = _EVENT_ID.fullmatch(call.headers.get("last-event-id", ""))
    if known is None:
        return None, None
    at = datetime.fromtimestamp(int(known[1]) / 1000, UTC)
    return (at if call.gateway.clock.now() - at < _REMEMBERED else None), known[2]
