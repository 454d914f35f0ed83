"""The files of a finished video: the MP4, its thumbnail, and its spritesheet."""

import re
from collections.abc import Mapping

from shared.errors import Conflict, Gone, InvalidRequest
from shared.media.video import Video
from shared.routes.calls import Answer, Call
from shared.routes.ranges import Selection, described, select
from shared.routes.videos import own_video
from shared.storage.blobs import MEDIA_TYPES, Stored, filename

# A range that storage reads as RFC 9110 says. It knows neither `bytes=-500` nor `If-Range`.
_PLAIN_RANGE = re.compile(r"bytes=\d{1,18}-\d{0,18}", re.ASCII)


async def get_content(call: Call, video_id: str) -> Answer:
    """The bytes, or a redirect to a short-lived signed URL of them.

    An answer without bytes (HEAD, 304, 412, 416) is given here in both kinds of delivery, and so is
    a range that storage would misread.
    """
    video = await own_video(call, video_id)
    variant = call.query.get("variant", "video")
    if variant not in MEDIA_TYPES:
        raise InvalidRequest("`variant` must be 'video', 'thumbnail' or 'spritesheet'.", param="variant")
    redirected = _is_redirected(call)
    _require_content(call, video)
    if redirected and variant == "video" and call.request.method == "GET" and not _conditions(call):
        return await _redirect(call, video, variant)  # nothing to decide: storage is not asked
    file = await _stored(call, video, variant)
    selection = select(call.request.method, call.headers, file)
    if redirected and _storage_sends(call, selection):
        return await _redirect(call, video, variant)
    headers = {
        **described(file, selection),
        "cache-control": "private, no-cache",
        "content-disposition": f'attachment; filename="{filename(video, variant)}"',
    }
    body = None
    if call.request.method == "GET" and selection.length:
        body = await call.gateway.archive.read(video, file, selection.first, selection.last, variant)
    return Answer(body, selection.status, headers, MEDIA_TYPES[variant])


def _is_redirected(call: Call) -> bool:
    """Whether to redirect: `?delivery=` decides, then whether the client can follow, then the
    operator.
    """
    wanted = call.query.get("delivery")
    if wanted not in (None, "proxy", "redirect"):
        raise InvalidRequest("`delivery` must be 'proxy' or 'redirect'.", param="delivery")
    if wanted is None and not _can_follow(call.headers):
        return False
    return (wanted or call.gateway.settings.knobs.delivery) == "redirect"


def _can_follow(headers: Mapping[str, str]) -> bool:
    """Whether the client gets the bytes by a redirect.

    The official .NET client takes every redirect for an error. A script in a browser may not read
    answers of storage, which is another origin; a browser is known by the header `sec-fetch-site`,
    which Node's `fetch` does not send.
    """
    is_script = headers.get("sec-fetch-mode") == "cors" and "sec-fetch-site" in headers
    return not is_script and headers.get("x-stainless-lang") != "csharp"


def _require_content(call: Call, video: Video) -> None:
    """Raises Conflict or Gone for a video that has no content yet, or no longer."""
    if video.status != "completed":
        code = "video_failed" if video.status == "failed" else "video_not_completed"
        raise Conflict(f"The video has no content: it is {video.status.replace('_', ' ')}.", code=code)
    if video.expired(call.gateway.clock.now()):
        raise Gone("The video's retention time is over.")


def _conditions(call: Call) -> bool:
    return any(name == "range" or name.startswith("if-") for name in call.headers)


def _storage_sends(call: Call, selection: Selection) -> bool:
    """Whether storage, asked with the same headers, sends this selection."""
    if "range" in call.headers:
        return selection.status == 206 and _PLAIN_RANGE.fullmatch(call.headers["range"]) is not None
    return call.request.method == "GET" and selection.status == 200


async def _redirect(call: Call, video: Video, variant: str) -> Answer:
    return Answer(status=302, headers={"location": await call.gateway.archive.url(video, variant)})


async def _stored(call: Call, video: Video, variant: str) -> Stored:
    """The file in our storage. Images are stored when they are first asked for. Raises Gone for a
    video that is not stored.
    """
    archive = call.gateway.archive
    file = await archive.stored(video, variant)
    if file is None and variant != "video":
        await call.gateway.images.store(video, variant)
        file = await archive.stored(video, variant)
    if file is None:
        raise Gone("The video's bytes are no longer stored.")
    return file
