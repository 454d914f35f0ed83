"""What webhooks tell: the events of a video, as OpenAI shapes them."""

from collections.abc import Mapping

import msgspec

from shared.events.record import Record

# What the journal calls an event, and what webhooks call it.
_TYPES: Mapping[str, str] = {
    "video.started": "video.queued",
    "video.in_progress": "video.in_progress",
    "video.completed": "video.completed",
    "video.failed": "video.failed",
}
EVENT_TYPES = ("video.queued", "video.in_progress", "video.completed", "video.failed")
ENDS = ("video.completed", "video.failed")


def type_of(record: Record) -> str:
    return _TYPES[record.type]


def id_of(record: Record) -> str:
    """The same at every try. Without a dot, which separates the parts of what is signed."""
    return f"evt_{record.id.removeprefix('video_').replace('.', '_')}"


def body_of(record: Record) -> bytes:
    """Small, and without the prompt: the receiver asks for the video with its key."""
    return body(id_of(record), type_of(record), int(record.time.timestamp()), record.video_id)


def body(event_id: str, event_type: str, created_at: int, video_id: str) -> bytes:
    event = {"id": event_id, "object": "event", "created_at": created_at, "type": event_type, "data": {"id": video_id}}
    return msgspec.json.encode(event)
