"""The bodies of webhooks: events of a video, in the shape of OpenAI's webhook events."""

from collections.abc import Mapping

import msgspec

from shared.events.record import Record

# From the journal's name of an event to that of webhooks.
_TYPES: Mapping[str, str] = {
    "video.started": "video.queued",
    "video.in_progress": "video.in_progress",
    "video.completed": "video.completed",
    "video.failed": "video.failed",
}
EVENT_TYPES = ("video.queued", "video.in_progress", "video.completed", "video.failed")
ENDS = ("video.completed", "video.failed")


def type_of(record: Record) -> str:
    """Which of `EVENT_TYPES` a video's event is."""
    return _TYPES[record.type]


def id_of(record: Record) -> str:
    """The event's id for receivers, the same at every try. It has no dot: dots separate the parts
    of the signed text.
    """
    return f"evt_{record.id.removeprefix('video_').replace('.', '_')}"


def body_of(record: Record) -> bytes:
    """An event's JSON. It has only the video's id, no prompt: a receiver fetches the video with its
    key.
    """
    return body(id_of(record), type_of(record), int(record.time.timestamp()), record.video_id)


def body(event_id: str, event_type: str, created_at: int, video_id: str) -> bytes:
    """The JSON of an event; `created_at` is in unix seconds."""
    event = {"id": event_id, "object": "event", "created_at": created_at, "type": event_type, "data": {"id": video_id}}
    return msgspec.json.encode(event)
