"""The routes of videos. Each handler authenticates the caller, calls one thing below, and shapes
the answer.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, get_args

from shared.accounts.account import rate_headers, spend_headers
from shared.accounts.idempotency import read_identity
from shared.accounts.keys import Caller
from shared.errors import Conflict, InvalidRequest, NotFound
from shared.media.requests import CreateRequest, parse_create, parse_list, parse_remix, with_history
from shared.media.video import Status, Video, dollars, owner_of
from shared.routes.admission import Asked, admit
from shared.routes.calls import Answer, Call
from shared.routes.waiting import has_news

_MOST_SOURCES = 16  # of a chain of remixes, read one by one
_DIGITS = 4  # of the length of a small body: at most 9,999 bytes

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def create_video(call: Call) -> Answer:
    """Admit a video and answer at once. Its orchestration does the rest."""
    caller = await call.caller()
    fields, catalog = await call.fields(), call.gateway.settings.catalog
    return await _admit(call, caller, await _aside(call, parse_create, fields, catalog))


async def remix_video(call: Call, video_id: str) -> Answer:
    """A new video from a completed one: by the upstream's own remix, or made anew where the caller
    wants another length, size or image.
    """
    caller = await call.caller()
    source = await own_video(call, video_id)
    if source.status != "completed":
        raise Conflict("Only a completed video can be remixed.")
    settings = call.gateway.settings
    fields, recreate = await call.fields(), settings.knobs.recreate_remixes
    request = await _aside(call, parse_remix, fields, source, settings.catalog, recreate=recreate)
    if request.recreated:
        request = with_history(request, await _prompts(call, source))
    return await _admit(call, caller, request)


async def _prompts(call: Call, video: Video) -> list[str]:
    """The prompts that led to a video, oldest first: the prompt of an upstream's remix only
    describes the change to its source. Deleted sources are left out.
    """
    prompts = [video.prompt]
    for _ in range(_MOST_SOURCES):
        if video.remixed_from is None or video.recreated:
            break
        entry = await call.gateway.videos.find(video.remixed_from)
        if entry is None or entry.video.deleted:
            break
        video = entry.video
        prompts.insert(0, video.prompt)
    return prompts


async def _admit(call: Call, caller: Caller, request: CreateRequest) -> Answer:
    gateway, arrived = call.gateway, call.gateway.clock.now()
    identity = await _aside(call, read_identity, call.headers, request, arrived)
    admitted = await admit(gateway, call.orchestrations, Asked(caller, request, identity, call.request_id))
    video, account = admitted.video, admitted.account
    headers = {"x-response-cost": dollars(video.cost), **spend_headers(account), **rate_headers(account, arrived)}
    if admitted.replayed:
        headers["idempotent-replayed"] = "true"
    return _video_answer(call, video, video.wire(), headers)


async def _aside(call: Call, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run a function on a body in a thread, since an image of 20 MiB in a data URL takes tenths of
    a second; or here, if the body is so small that a thread would cost more.
    """
    length = call.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and len(length) <= _DIGITS:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


async def list_videos(call: Call) -> Answer:
    caller = await call.caller()
    asked = parse_list(call.query, call.gateway.settings.catalog)
    store = call.gateway.videos
    read = store.newest_first if asked.newest_first else store.oldest_first
    page = await read(caller.owner, asked.limit, after=asked.after, wanted=asked.wanted)
    return Answer(
        {
            "object": "list",
            "data": [await shown(call, video) for video in page.videos],
            "first_id": page.videos[0].id if page.videos else None,
            "last_id": page.last,
            "has_more": page.more,
        }
    )


async def count_videos(call: Call) -> Answer:
    """How many videos the key has, by status. With `has_more`, there are older ones that were not
    counted.
    """
    caller = await call.caller()
    counts = await call.gateway.videos.counts(caller.owner)
    by_status = {status: counts.by_status.get(status, 0) for status in get_args(Status)}
    return Answer({"object": "video.counts", **by_status, "has_more": counts.more})


async def get_video(call: Call, video_id: str) -> Answer:
    """The video; with `?wait=`, not before it has changed, or those seconds are over."""
    video = await own_video(call, video_id)
    if await has_news(call, video):
        video = await own_video(call, video_id)
    return _video_answer(call, video, await shown(call, video))


async def delete_video(call: Call, video_id: str) -> Answer:
    caller = await call.caller()
    video = await own_video(call, video_id)
    await call.gateway.lifecycle.delete(video.id, caller.account.token if caller.account else None)
    return Answer({"id": video.id, "object": "video.deleted", "deleted": True})


async def edit_video(call: Call) -> Answer:
    """Not supported: no server behind the gateway edits videos."""
    raise await _not_supported(call, "edit videos")


async def extend_video(call: Call) -> Answer:
    """Not supported: no server behind the gateway extends videos."""
    raise await _not_supported(call, "extend videos")


async def create_character(call: Call) -> Answer:
    """Not supported: no server behind the gateway has characters."""
    raise await _not_supported(call, "make characters")


async def get_character(call: Call, character_id: str) -> Answer:
    """Not supported: no server behind the gateway has characters."""
    del character_id
    raise await _not_supported(call, "make characters")


async def _not_supported(call: Call, what: str) -> InvalidRequest:
    """The refusal of an operation of OpenAI's that no dialect supports. Raises Unauthenticated."""
    await call.caller()
    return InvalidRequest(f"No model here can {what}. Models that can: none here.", code="not_supported", param="model")


async def own_video(call: Call, video_id: str) -> Video:
    """The video, if it is the caller's or the caller is the operator. Raises NotFound: another
    key's video, an unknown id and a malformed id get the same 404.
    """
    caller = await call.caller()
    mine = caller.master or owner_of(video_id) == caller.owner
    entry = await call.gateway.videos.find(video_id) if mine else None
    if entry is None or entry.video.deleted:
        raise NotFound("No such video.", param="video_id")
    return entry.video


async def shown(call: Call, video: Video) -> dict[str, Any]:
    """The video, with its place in the queue as it is now."""
    standing = await call.gateway.pool.standing(video) if video.waits else None
    return video.wire(standing.wire() if standing else None)


def _video_answer(call: Call, video: Video, shown: dict[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
    """The video as callers see it, and while it is unfinished the header `openai-poll-after-ms`, by
    which the official client waits: whole milliseconds.
    """
    pace = {} if video.finished else {"openai-poll-after-ms": str(round(call.gateway.settings.knobs.poll_seconds * 1000))}
    return Answer(shown, headers={**pace, **(headers or {})})
