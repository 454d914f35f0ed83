"""A video's manifest: what a pipeline that reacts to finished videos needs to know of one."""

from typing import Any

import msgspec

from shared.events.record import record_of
from shared.media.video import Video
from shared.storage.blobs import MANIFESTS, VIDEOS, blob_name

PATH = f"{MANIFESTS}/{{instanceId}}.json"  # for the binding that writes it: a video's id is its instance's


def manifest_of(video: Video, *, prompts: bool) -> str:
    """The journal's record of a video's end, with `container` and `blob` of its film, as JSON."""
    record: dict[str, Any] = msgspec.to_builtins(record_of("ended", video, prompts=prompts))
    return msgspec.json.encode({**record, "container": VIDEOS, "blob": blob_name(video)}).decode()
