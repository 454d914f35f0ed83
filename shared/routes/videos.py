"""What each route does. Handlers check the caller, call one thing below, and shape the answer."""

import logging
from collections.abc import Mapping

from shared.accounts.account import over_soft_budget, rate_headers, spend_headers
from shared.accounts.idempotency import read_identity
from shared.accounts.keys import Caller
from shared.errors import Conflict, GatewayError, Gone, InvalidRequest, NotFound, RangeNotSatisfiable
from shared.media.requests import CreateRequest, parse_create, parse_list, parse_remix
from shared.media.video import Video, dollars, owner_of
from shared.routes.calls import Answer, Call
from shared.routes.ranges import CannotSatisfy, read_range
from shared.storage.blobs import VARIANTS

logger = logging.getLogger("gateway")

# With `delivery: proxy` the bytes of an answer are in the app's memory: a piece of a range at most,
# or a whole small video.
LARGEST_PIECE = 2 * 1024 * 1024
LARGEST_WHOLE = 16 * 1024 * 1024


async def create_video(call: Call) -> Answer:
    """Admit a video and answer at once; the orchestration does the rest."""
    caller = await call.caller()
    return await _admit(call, caller, parse_create(call.fields(), call.gateway.settings.catalog))


async def remix_video(call: Call, video_id: str) -> Answer:
    """A new video from a completed one, with the source's length, size and price."""
    caller = await call.caller()
    source = await _own_video(call, video_id)
    if source.status != "completed":
        raise Conflict("Only a completed video can be remixed.")
    return await _admit(call, caller, parse_remix(call.fields(), source, call.gateway.settings.catalog))


async def _admit(call: Call, caller: Caller, request: CreateRequest) -> Answer:
    gateway = call.gateway
    arrived = gateway.clock.now()
    identity = read_identity(call.headers, request, arrived)
    admitted = await gateway.lifecycle.start(request, caller.owner, identity, caller.account)
    video, account = admitted.video, admitted.account
    headers = {"x-response-cost": dollars(video.cost), **spend_headers(account), **rate_headers(account, arrived)}
    if admitted.replayed:
        headers["idempotent-replayed"] = "true"
    elif over_soft_budget(account):
        logger.warning("key %s has passed its soft budget", caller.owner)
    if not video.finished:
        await _start_orchestration(call, video, maybe_started=admitted.replayed)
    return _video_answer(call, video, headers)


async def _start_orchestration(call: Call, video: Video, *, maybe_started: bool) -> None:
    """The video is recorded, so the promise stands whatever happens here: the sweep starts what has
    no orchestration.
    """
    try:
        if call.orchestrations is None or (maybe_started and await call.orchestrations.alive(video.id)):
            return
        await call.orchestrations.start(video.id)
    except Exception:
        logger.exception("%s: the orchestration of %s did not start", call.request_id, video.id)


async def list_videos(call: Call) -> Answer:
    caller = await call.caller()
    page = parse_list(call.query)
    store = call.gateway.videos
    read = store.newest_first if page.newest_first else store.oldest_first
    videos = await read(caller.owner, page.limit + 1, after=page.after)
    shown = videos[: page.limit]
    return Answer(
        {
            "object": "list",
            "data": [video.wire() for video in shown],
            "first_id": shown[0].id if shown else None,
            "last_id": shown[-1].id if shown else None,
            "has_more": len(videos) > len(shown),
        }
    )


async def get_video(call: Call, video_id: str) -> Answer:
    return _video_answer(call, await _own_video(call, video_id))


async def delete_video(call: Call, video_id: str) -> Answer:
    caller = await call.caller()
    video = await _own_video(call, video_id)
    await call.gateway.lifecycle.delete(video.id, caller.account.token if caller.account else None)
    return Answer({"id": video.id, "object": "video.deleted", "deleted": True})


async def get_content(call: Call, video_id: str) -> Answer:
    """A short-lived signed URL to the bytes, or the bytes themselves."""
    video = await _own_video(call, video_id)
    variant = call.query.get("variant", "video")
    if variant not in ("video", *VARIANTS):
        raise InvalidRequest("`variant` must be 'video', 'thumbnail' or 'spritesheet'.", param="variant")
    if video.status != "completed":
        code = "video_failed" if video.status == "failed" else "video_not_completed"
        raise Conflict(f"The video has no content: it is {video.status.replace('_', ' ')}.", code=code)
    if video.expires_at is not None and video.expires_at <= call.gateway.clock.now():
        raise Gone("The video's retention time is over.")
    if variant != "video":
        await _fetch_image(call, video, variant)
    elif call.gateway.settings.knobs.delivery == "proxy":
        return await _proxied(call, video)
    return Answer(status=302, headers={"location": await call.gateway.archive.url(video, variant)})


async def _own_video(call: Call, video_id: str) -> Video:
    """The video, if it is the caller's. Another key's, an unknown and a malformed id are all the
    same 404.
    """
    caller = await call.caller()
    mine = caller.master or owner_of(video_id) == caller.owner
    entry = await call.gateway.videos.find(video_id) if mine else None
    if entry is None or entry.video.deleted:
        raise NotFound("No such video.", param="video_id")
    return entry.video


def _video_answer(call: Call, video: Video, headers: Mapping[str, str] | None = None) -> Answer:
    """The video, and while it is unfinished when to look again: the official client wants whole
    milliseconds.
    """
    pace = {} if video.finished else {"openai-poll-after-ms": str(round(call.gateway.settings.knobs.poll_seconds * 1000))}
    return Answer(video.wire(), headers={**pace, **(headers or {})})


async def _fetch_image(call: Call, video: Video, variant: str) -> None:
    """Thumbnails and spritesheets are fetched when they are first asked for, while the upstream
    still has them.
    """
    gateway = call.gateway
    if await gateway.archive.has_image(video, variant):
        return
    upstream = gateway.upstreams.of(video)
    if upstream is None:
        raise NotFound(f"This video has no {variant}.", code="variant_not_found", param="variant")
    try:
        async with upstream.content(video.upstream_id or "", variant) as content:
            await gateway.archive.save_image(video, variant, content)
    except GatewayError as error:
        raise NotFound(f"The upstream has no {variant} of this video.", code="variant_not_found", param="variant") from error


async def _proxied(call: Call, video: Video) -> Answer:
    """The bytes through the app, for storage that callers cannot reach: whole where small, else
    piece by piece.
    """
    total = video.bytes or 0
    etag = f'"{video.id}"'
    headers = {"accept-ranges": "bytes", "etag": etag, "content-disposition": f'attachment; filename="{video.id}.mp4"'}
    asked = call.headers.get("range", "")
    if call.headers.get("if-range", etag) != etag:
        asked = ""
    try:
        wanted = read_range(asked, total, largest=LARGEST_PIECE)
    except CannotSatisfy as error:
        raise RangeNotSatisfiable("The range lies outside the video.", headers={"content-range": f"bytes */{total}"}) from error
    if call.request.method == "HEAD":
        return Answer(headers={**headers, "content-length": str(total)}, media_type="video/mp4")
    if wanted is None and total > LARGEST_WHOLE:
        raise InvalidRequest(
            f"The video has {total} bytes: ask for it in pieces, beginning with 'Range: bytes=0-'.", code="range_required"
        )
    start, end = wanted or (0, total - 1)
    part = await call.gateway.archive.read(video, start, end - start + 1)
    if part is None:
        raise Gone("The video's bytes are no longer stored.")
    if wanted is None:
        return Answer(part, headers=headers, media_type="video/mp4")
    headers["content-range"] = f"bytes {start}-{end}/{total}"
    return Answer(part, 206, headers, "video/mp4")
