"""The functions: `video_generation`, `video_status`, `video_content`, … and their twins with an `a`
in front, which are awaited.

Each takes these keyword arguments beside its own:

    api_base, api_key    the gateway, or the Azure resource
    api_version, azure_ad_token, custom_llm_provider="azure"    for Azure itself
    timeout              seconds
    extra_headers, extra_query, extra_body    sent as they are
    client               an `openai.OpenAI` (or `AsyncOpenAI`) to use instead
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI, OpenAI
from openai.types import Video

from video_gateway.connection import Place, async_client_of, client_of, find_place
from video_gateway.download import content, content_async, save, save_async
from video_gateway.exceptions import translated
from video_gateway.video import VideoObject, read_video

OnProgress = Callable[[VideoObject], object]

_PLACE = ("api_base", "api_key", "api_version", "azure_ad_token", "custom_llm_provider")
_SENT = ("timeout", "extra_headers", "extra_query", "extra_body")
_LOOK_AGAIN = 1.0  # seconds, where the server does not say


@dataclass(frozen=True)
class _Options:
    """The keyword arguments that every function takes."""

    place: Place
    client: Any
    sent: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, given: dict[str, Any]) -> "_Options":
        """Raises TypeError for a name that no function takes."""
        unknown = set(given) - {*_PLACE, *_SENT, "client"}
        if unknown:
            raise TypeError(f"unexpected argument: {', '.join(sorted(unknown))} (send others with extra_body)")
        client = given.get("client")
        place = find_place(**{name: given[name] for name in _PLACE if given.get(name)}) if client is None else _of(client)
        return cls(place, client, {name: given[name] for name in _SENT if given.get(name) is not None})

    def creating(self) -> dict[str, Any]:
        """What a create sends. The key makes the official client's own retries recognisable."""
        if self.place.azure:
            return self.sent
        headers = {"Idempotency-Key": str(uuid.uuid4()), **self.sent.get("extra_headers", {})}
        return {**self.sent, "extra_headers": headers}


def _of(client: "OpenAI | AsyncOpenAI") -> Place:
    return Place(str(client.base_url).rstrip("/"), None, "/openai/v1" in str(client.base_url))


@contextmanager
def _connected(options: _Options, *, creating: bool = False) -> Iterator[OpenAI]:
    client: OpenAI = options.client or client_of(options.place)
    with translated():
        yield client.with_options(max_retries=options.place.create_retries) if creating else client


@asynccontextmanager
async def _connected_async(options: _Options, *, creating: bool = False) -> AsyncIterator[AsyncOpenAI]:
    client: AsyncOpenAI = options.client or async_client_of(options.place)
    try:
        with translated():
            yield client.with_options(max_retries=options.place.create_retries) if creating else client
    finally:
        if options.client is None:
            await client.close()


def _create(options: _Options, operation: str, arguments: dict[str, Any]) -> VideoObject:
    with _connected(options, creating=True) as client:
        raw = getattr(client.videos.with_raw_response, operation)(**arguments, **options.creating())
        return read_video(raw.parse(), raw.headers, priced=True)


async def _create_async(options: _Options, operation: str, arguments: dict[str, Any]) -> VideoObject:
    async with _connected_async(options, creating=True) as client:
        raw = await getattr(client.videos.with_raw_response, operation)(**arguments, **options.creating())
        return read_video(raw.parse(), raw.headers, priced=True)


def _post(options: _Options, path: str, body: dict[str, Any]) -> VideoObject:
    """A video made from another one, which is named by its id: the official client's own methods
    take only a file there.
    """
    with _connected(options, creating=True) as client:
        return read_video(client.post(f"/videos/{path}", cast_to=Video, body=body, options=_sent(options)), {}, priced=True)


async def _post_async(options: _Options, path: str, body: dict[str, Any]) -> VideoObject:
    async with _connected_async(options, creating=True) as client:
        video = await client.post(f"/videos/{path}", cast_to=Video, body=body, options=_sent(options))
        return read_video(video, {}, priced=True)


def _sent(options: _Options) -> Any:
    """The same arguments as the client's methods take, as its `post` does."""
    names = {"extra_headers": "headers", "extra_query": "params", "extra_body": "extra_json", "timeout": "timeout"}
    return {names[name]: value for name, value in options.creating().items()}


def _given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _generation(options: _Options, **asked: Any) -> dict[str, Any]:
    """What `videos.create` is called with. `user` is no argument of it, but a field of the gateway;
    Azure refuses it.
    """
    user = asked.pop("user")
    if user is not None and not options.place.azure:
        options.sent["extra_body"] = {"user": user, **options.sent.get("extra_body", {})}
    if asked["seconds"] is not None:
        asked["seconds"] = str(asked["seconds"])
    return _given(**{**asked, "model": options.place.model(asked["model"])})


def video_generation(  # noqa: PLR0917 - the order is the one that callers know
    prompt: str,
    model: str | None = None,
    input_reference: Any = None,
    seconds: str | int | None = None,
    size: str | None = None,
    user: str | None = None,
    *,
    wait: bool = False,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> VideoObject:
    """Start a video. `seconds` like "8", `size` like "1280x720", `input_reference` an open image.

    With `wait` it returns when the video has ended, completed or failed; so it does with
    `on_progress`, which is called with the video at every look. Raises what
    `video_gateway.exceptions` has.
    """
    to = _Options.read(options)
    asked = _generation(to, prompt=prompt, model=model, input_reference=input_reference, seconds=seconds, size=size, user=user)
    video = _create(to, "create", asked)
    return _wait(video, to, on_progress) if wait or on_progress else video


async def avideo_generation(  # noqa: PLR0917 - as above
    prompt: str,
    model: str | None = None,
    input_reference: Any = None,
    seconds: str | int | None = None,
    size: str | None = None,
    user: str | None = None,
    *,
    wait: bool = False,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> VideoObject:
    """`video_generation`, awaited."""
    to = _Options.read(options)
    asked = _generation(to, prompt=prompt, model=model, input_reference=input_reference, seconds=seconds, size=size, user=user)
    video = await _create_async(to, "create", asked)
    return await _wait_async(video, to, on_progress) if wait or on_progress else video


def _wait(video: VideoObject, options: _Options, on_progress: OnProgress | None) -> VideoObject:
    while True:
        if on_progress:
            on_progress(video)
        if video.ended:
            return video
        time.sleep(_pause(video))
        video = _kept(video, _status(video.id, options))


async def _wait_async(video: VideoObject, options: _Options, on_progress: OnProgress | None) -> VideoObject:
    while True:
        if on_progress:
            on_progress(video)
        if video.ended:
            return video
        await asyncio.sleep(_pause(video))
        video = _kept(video, await _status_async(video.id, options))


def _pause(video: VideoObject) -> float:
    """Seconds until the next look, as the last answer said."""
    told = video._hidden_params["additional_headers"].get("openai-poll-after-ms")
    return float(told) / 1000 if told else _LOOK_AGAIN


def _kept(before: VideoObject, now: VideoObject) -> VideoObject:
    """The price was told by the create alone."""
    if now._hidden_params["response_cost"] is None:
        now._hidden_params["response_cost"] = before._hidden_params["response_cost"]
    return now


def _status(video_id: str, options: _Options) -> VideoObject:
    with _connected(options) as client:
        raw = client.videos.with_raw_response.retrieve(video_id, **options.sent)
        return read_video(raw.parse(), raw.headers)


async def _status_async(video_id: str, options: _Options) -> VideoObject:
    async with _connected_async(options) as client:
        raw = await client.videos.with_raw_response.retrieve(video_id, **options.sent)
        return read_video(raw.parse(), raw.headers)


def video_status(video_id: str, **options: Any) -> VideoObject:
    """The video as it is now."""
    return _status(video_id, _Options.read(options))


async def avideo_status(video_id: str, **options: Any) -> VideoObject:
    """`video_status`, awaited."""
    return await _status_async(video_id, _Options.read(options))


def video_wait(video_id: str, on_progress: OnProgress | None = None, **options: Any) -> VideoObject:
    """The video when it has ended, completed or failed. Calls `on_progress` at every look."""
    to = _Options.read(options)
    return _wait(_status(video_id, to), to, on_progress)


async def avideo_wait(video_id: str, on_progress: OnProgress | None = None, **options: Any) -> VideoObject:
    """`video_wait`, awaited."""
    to = _Options.read(options)
    return await _wait_async(await _status_async(video_id, to), to, on_progress)


def video_content(video_id: str, *, variant: str | None = None, file: "str | Path | None" = None, **options: Any) -> bytes:
    """The bytes of a completed video; or of its "thumbnail" or "spritesheet", by `variant`.

    With `file` they are written there in pieces instead, and b"" is returned: a cut download is
    resumed, and the length compared. Raises ConflictError while the video is not completed, and
    IncompleteDownload.
    """
    to = _Options.read(options)
    with _connected(to) as client:
        if file is None:
            return content(client, video_id, variant, to.sent)
        save(client, video_id, variant, to.sent, Path(file))
        return b""


async def avideo_content(
    video_id: str, *, variant: str | None = None, file: "str | Path | None" = None, **options: Any
) -> bytes:
    """`video_content`, awaited."""
    to = _Options.read(options)
    async with _connected_async(to) as client:
        if file is None:
            return await content_async(client, video_id, variant, to.sent)
        await save_async(client, video_id, variant, to.sent, Path(file))
        return b""


def _remix(options: _Options, video_id: str, prompt: str, input_reference: Any, seconds: Any) -> dict[str, Any]:
    """What `videos.remix` is called with. A length and an image are fields of the gateway; they are
    sent as JSON, so that nothing is dropped.
    """
    more = _given(seconds=None if seconds is None else str(seconds), input_reference=_as_url(input_reference))
    if more:
        options.sent["extra_body"] = {**more, **options.sent.get("extra_body", {})}
    return {"video_id": video_id, "prompt": prompt}


def _as_url(image: Any) -> "dict[str, str] | None":
    """An open image, bytes or a path as the object that JSON has for it."""
    import base64

    if image is None or isinstance(image, Mapping):
        return image  # type: ignore[return-value]
    data = image if isinstance(image, bytes) else Path(image).read_bytes() if isinstance(image, str | Path) else image.read()
    return {"image_url": f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"}


def video_remix(
    video_id: str, prompt: str, *, input_reference: Any = None, seconds: str | int | None = None, **options: Any
) -> VideoObject:
    """A new video from a completed one, changed as the prompt says."""
    to = _Options.read(options)
    return _create(to, "remix", _remix(to, video_id, prompt, input_reference, seconds))


async def avideo_remix(
    video_id: str, prompt: str, *, input_reference: Any = None, seconds: str | int | None = None, **options: Any
) -> VideoObject:
    """`video_remix`, awaited."""
    to = _Options.read(options)
    return await _create_async(to, "remix", _remix(to, video_id, prompt, input_reference, seconds))


def video_list(after: str | None = None, limit: int | None = None, order: str | None = None, **options: Any) -> dict[str, Any]:
    """A page of videos: `{"object", "data", "first_id", "last_id", "has_more"}`."""
    to = _Options.read(options)
    with _connected(to) as client:
        raw = client.videos.with_raw_response.list(**_given(after=after, limit=limit, order=order), **to.sent)
        return _page(raw.parse().data, raw)


async def avideo_list(
    after: str | None = None, limit: int | None = None, order: str | None = None, **options: Any
) -> dict[str, Any]:
    """`video_list`, awaited."""
    to = _Options.read(options)
    async with _connected_async(to) as client:
        raw = await client.videos.with_raw_response.list(**_given(after=after, limit=limit, order=order), **to.sent)
        return _page(raw.parse().data, raw)


def _page(videos: Any, raw: Any) -> dict[str, Any]:
    told = raw.http_response.json()
    page = {name: told.get(name) for name in ("object", "first_id", "last_id", "has_more")}
    return {**page, "data": [read_video(each, raw.headers) for each in videos]}


def video_delete(video_id: str, **options: Any) -> dict[str, Any]:
    """Delete a video, or cancel one that waits: `{"id", "object": "video.deleted", "deleted"}`."""
    to = _Options.read(options)
    with _connected(to) as client:
        return client.videos.delete(video_id, **to.sent).to_dict()


async def avideo_delete(video_id: str, **options: Any) -> dict[str, Any]:
    """`video_delete`, awaited."""
    to = _Options.read(options)
    async with _connected_async(to) as client:
        return (await client.videos.delete(video_id, **to.sent)).to_dict()


def video_edit(video_id: str, prompt: str, **options: Any) -> VideoObject:
    """A new video, edited from a completed one where the model can."""
    return _post(_Options.read(options), "edits", {"video": {"id": video_id}, "prompt": prompt})


async def avideo_edit(video_id: str, prompt: str, **options: Any) -> VideoObject:
    """`video_edit`, awaited."""
    return await _post_async(_Options.read(options), "edits", {"video": {"id": video_id}, "prompt": prompt})


def video_extension(video_id: str, prompt: str, seconds: str | int, **options: Any) -> VideoObject:
    """A new video that goes on where a completed one ends, where the model can."""
    asked = {"video": {"id": video_id}, "prompt": prompt, "seconds": str(seconds)}
    return _post(_Options.read(options), "extensions", asked)


async def avideo_extension(video_id: str, prompt: str, seconds: str | int, **options: Any) -> VideoObject:
    """`video_extension`, awaited."""
    asked = {"video": {"id": video_id}, "prompt": prompt, "seconds": str(seconds)}
    return await _post_async(_Options.read(options), "extensions", asked)
