"""The files of a finished video: the MP4, its thumbnail, and its spritesheet."""

import asyncio

from shared.errors import (
    Conflict,
    Gone,
    InvalidRequest,
    Misrouted,
    Missing,
    NotAVideo,
    NotFound,
    RangeNotSatisfiable,
    Refused,
    Retired,
    Unavailable,
    UpstreamError,
)
from shared.media.video import Video
from shared.routes.calls import Answer, Call
from shared.routes.ranges import CannotSatisfy, read_range
from shared.routes.videos import own_video
from shared.storage.blobs import MEDIA_TYPES, filename
from shared.upstream.client import log_failure

# With `delivery: proxy` an answer is held in memory: at most one piece of a range, or a whole small
# file (bytes).
LARGEST_PIECE = 2 * 1024 * 1024
LARGEST_WHOLE = 16 * 1024 * 1024
_LONGEST_FETCH = 60.0  # seconds to fetch an image from the upstream, while the caller waits
_LOOK_AGAIN = 5.0  # seconds of `retry-after`, where the upstream names none


async def get_content(call: Call, video_id: str) -> Answer:
    """A short-lived signed URL to the bytes, or with `delivery: proxy` the bytes themselves."""
    video = await own_video(call, video_id)
    variant = call.query.get("variant", "video")
    if variant not in MEDIA_TYPES:
        raise InvalidRequest("`variant` must be 'video', 'thumbnail' or 'spritesheet'.", param="variant")
    if video.status != "completed":
        code = "video_failed" if video.status == "failed" else "video_not_completed"
        raise Conflict(f"The video has no content: it is {video.status.replace('_', ' ')}.", code=code)
    if video.expires_at is not None and video.expires_at <= call.gateway.clock.now():
        raise Gone("The video's retention time is over.")
    length = video.bytes or 0 if variant == "video" else await _image_length(call, video, variant)
    if call.gateway.settings.knobs.delivery == "proxy":
        return await _proxied(call, video, variant, length)
    return Answer(status=302, headers={"location": await call.gateway.archive.url(video, variant)})


async def _image_length(call: Call, video: Video, variant: str) -> int:
    """The length of an image in bytes. Images are stored when they are first asked for, while the
    upstream still has them.
    """
    length = await call.gateway.archive.length(video, variant)
    return await _stored_image(call, video, variant) if length is None else length


async def _stored_image(call: Call, video: Video, variant: str) -> int:
    """Fetch an image from the upstream, store it, and return its length in bytes.

    Raises NotFound where the upstream has none, and Unavailable where it cannot send it now.
    """
    gateway = call.gateway
    model, upstream = gateway.settings.catalog.get(video.model), gateway.upstreams.of(video)
    if model is None or upstream is None or variant not in model.capability.variants:
        raise _no_such(variant)
    # While the pool has the video, the sweep drops what a killed process leaves of a video that was
    # deleted meanwhile.
    await gateway.pool.enter(model, video.id)
    try:
        async with asyncio.timeout(_LONGEST_FETCH), upstream.content(video.upstream_id or "", variant) as content:
            length = await gateway.archive.save_image(video, variant, content)
        await _drop_if_deleted(call, video)
    except (Missing, Misrouted, NotAVideo, Refused, Retired) as error:
        log_failure(video.id, variant, error)
        raise _no_such(variant) from error
    except (UpstreamError, TimeoutError) as error:
        wait = (isinstance(error, UpstreamError) and error.retry_after) or _LOOK_AGAIN
        raise Unavailable(f"The upstream cannot give the {variant} just now: try again.", retry_after=wait) from error
    finally:
        await gateway.pool.leave(model.name, video.id)
    return length


async def _drop_if_deleted(call: Call, video: Video) -> None:
    """Drop the image of a video that was deleted while it was fetched: the delete had found no
    image to drop. Raises NotFound then.
    """
    entry = await call.gateway.videos.find(video.id)
    if entry is None or entry.video.deleted:
        await call.gateway.archive.drop_images(video)
        raise NotFound("No such video.", param="video_id")


def _no_such(variant: str) -> NotFound:
    return NotFound(f"The upstream has no {variant} of this video.", code="variant_not_found", param="variant")


async def _proxied(call: Call, video: Video, variant: str, total: int) -> Answer:
    """The bytes through the app, for storage that callers cannot reach: a small file whole, any
    other in pieces.
    """
    name, media_type = filename(video, variant), MEDIA_TYPES[variant]
    etag = f'"{video.id}"' if variant == "video" else f'"{name}"'
    headers = {"accept-ranges": "bytes", "etag": etag, "content-disposition": f'attachment; filename="{name}"'}
    wanted = _wanted(call, total, etag)
    if call.request.method == "HEAD":
        return Answer(headers={**headers, "content-length": str(total)}, media_type=media_type)
    if wanted is None and total > LARGEST_WHOLE:
        raise InvalidRequest(
            f"The video has {total} bytes: ask for it in pieces, beginning with 'Range: bytes=0-'.", code="range_required"
        )
    start, end = wanted or (0, total - 1)
    part = await call.gateway.archive.read(video, start, end - start + 1, variant)
    if part is None:
        raise Gone("The video's bytes are no longer stored.")
    if wanted is None:
        return Answer(part, headers=headers, media_type=media_type)
    headers["content-range"] = f"bytes {start}-{end}/{total}"
    return Answer(part, 206, headers, media_type)


def _wanted(call: Call, total: int, etag: str) -> tuple[int, int] | None:
    """The requested range as first and last byte; None for the whole file. Raises
    RangeNotSatisfiable.
    """
    asked = call.headers.get("range", "") if call.headers.get("if-range", etag) == etag else ""
    try:
        return read_range(asked, total, largest=LARGEST_PIECE)
    except CannotSatisfy as error:
        raise RangeNotSatisfiable("The range lies outside the video.", headers={"content-range": f"bytes */{total}"}) from error
