"""The journal's record: one event of a video, a blocked request, a rejected message or an alert."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from shared.config.catalog import MICROS
from shared.errors import GatewayError, NotPassed
from shared.media.video import Video
from shared.storage.event_marks import Happening

_OfVideo = Literal["video.started", "video.in_progress", "video.completed", "video.failed"]
Type = _OfVideo | Literal["request.blocked", "request.rejected", "alert"]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One event. `id` is the same each time the event is sent, so a receiver can recognize a
    repeated one: `<video id>.started`, `.running` or `.ended`; `<video id>.blocked` of a request
    that guardrails blocked; `<request id>.rejected` of a queue message; or an alert's id.

    Times are UTC, waits are in seconds, money is in dollars. `price` is the most that the video may
    cost, `cost` what it did cost: 0 unless it is completed. With `log_prompts: false`, `prompt`,
    `parameters` and `error_message` are None: upstreams quote prompts in their messages.
    """

    id: str
    type: Type
    time: datetime
    video_id: str = ""
    status: str = ""
    model: str = ""
    seconds: int = 0
    size: str = ""
    price: float = 0.0
    cost: float = 0.0
    prompt: str | None = None
    parameters: dict[str, Any] | None = None
    deployment: str | None = None
    user: str | None = None
    key_id: str = ""
    key_alias: str | None = None
    key_user: str | None = None
    tags: list[str] = []
    guardrails: list[dict[str, Any]] = []
    request_id: str | None = None
    upstream_id: str | None = None
    upstream_request_id: str | None = None
    remixed_from: str | None = None
    fallback_from: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    created_at: datetime
    accepted_at: datetime | None = None
    started_at: datetime | None = None
    rendered_at: datetime | None = None
    saved_at: datetime | None = None
    finished_at: datetime | None = None
    request_latency: float | None = None
    queue_wait: float | None = None
    generation_time: float | None = None
    total_time: float | None = None
    bytes: int | None = None
    attempts: int = 0
    traceparent: str | None = None

    @property
    def ends(self) -> bool:
        """Whether this is the last event of its video, or of a request that became none."""
        return self.type in ("video.completed", "video.failed", "request.blocked")

    @property
    def failed(self) -> bool:
        return self.type in ("video.failed", "request.blocked", "request.rejected", "alert")

    @property
    def reason(self) -> str:
        """Why it failed, in one line."""
        return ": ".join(each for each in (self.error_code, self.error_message) if each)

    @property
    def asked(self) -> dict[str, Any]:
        """What the request asked for: what providers show as the input of a call."""
        asked = {"prompt": self.prompt, "seconds": self.seconds, "size": self.size, "parameters": self.parameters}
        return {name: value for name, value in asked.items() if value is not None}

    @property
    def outcome(self) -> dict[str, Any]:
        """The video's id, its status and its error: what providers show as the output of a call."""
        error = {"code": self.error_code, "message": self.error_message} if self.failed else None
        return {"video_id": self.video_id, "status": self.status, **({"error": error} if error else {})}

    @property
    def facts(self) -> dict[str, Any]:
        """All other fields that have a value, by name: what providers show as metadata."""
        told = msgspec.to_builtins(self)
        elsewhere = ("prompt", "parameters", "error_message", "tags", "traceparent")
        return {name: value for name, value in told.items() if value not in (None, []) and name not in elsewhere}


def record_of(happening: Happening, video: Video, *, prompts: bool) -> Record:
    """The record of a video's event. A start may be told late, when the video's row knows more: it
    has only the facts of the start all the same.
    """
    told = _TOLD[happening](video)
    return Record(
        id=f"{video.id}.{happening}",
        video_id=video.id,
        seconds=video.seconds,
        size=video.size,
        price=video.cost / MICROS,
        prompt=video.prompt if prompts else None,
        parameters=(video.asked or None) if prompts else None,
        error_message=video.error_message if prompts and happening == "ended" else None,
        user=video.user,
        key_id=video.owner,
        key_alias=video.key_alias,
        key_user=video.key_user,
        tags=json.loads(video.tags) if video.tags else [],
        guardrails=json.loads(video.guardrails) if video.guardrails else [],
        request_id=video.request_id,
        remixed_from=video.remixed_from,
        created_at=utc(video.created_at),
        request_latency=_between(video.created_at, video.admitted_at),
        traceparent=video.traceparent,
        **told,
    )


def blocked(video: Video, refusal: NotPassed, *, prompts: bool) -> Record:
    """The record of a request that guardrails blocked: that of `video`, which it asked for and
    which was never admitted, as if it had failed at once.
    """
    ended = msgspec.structs.replace(
        video, status="failed", finished_at=video.created_at, error_code=refusal.code, error_message=refusal.message
    )
    told = record_of("ended", ended, prompts=prompts)
    return msgspec.structs.replace(told, id=f"{video.id}.blocked", type="request.blocked", guardrails=list(refusal.said))


def rejected(request_id: str, key_id: str, refusal: GatewayError, now: datetime) -> Record:
    """The record of a queue message that starts no video."""
    return Record(
        id=f"{request_id}.rejected",
        type="request.rejected",
        time=utc(now),
        created_at=utc(now),
        status="failed",
        key_id=key_id,
        request_id=request_id,
        error_code=refusal.code,
        error_message=refusal.message,
    )


def _start(video: Video) -> dict[str, Any]:
    return {
        "type": "video.started",
        "time": utc(video.admitted_at or video.created_at),
        "status": "queued",
        "model": video.fallback_from or video.model,
    }


def _running(video: Video) -> dict[str, Any]:
    return {
        **_start(video),
        "type": "video.in_progress",
        "time": utc(video.started_at or video.created_at),
        "status": "in_progress",
        "model": video.model,
    }


def _end(video: Video) -> dict[str, Any]:
    finished = video.finished_at or video.created_at
    return {
        "type": "video.completed" if video.status == "completed" else "video.failed",
        "time": utc(finished),
        "status": video.status,
        "model": video.model,
        "cost": video.spent / MICROS,
        "deployment": video.deployment,
        "upstream_id": video.upstream_id,
        "upstream_request_id": video.upstream_request_id,
        "fallback_from": video.fallback_from,
        "error_code": video.error_code,
        **_times(video),
        "queue_wait": _between(video.created_at, video.accepted_at),
        "generation_time": _between(video.started_at or video.accepted_at, video.rendered_at),
        "total_time": _between(video.created_at, finished),
        "bytes": video.bytes,
        "attempts": video.attempts,
    }


_TOLD: Mapping[Happening, Callable[[Video], dict[str, Any]]] = {"started": _start, "running": _running, "ended": _end}


def _times(video: Video) -> dict[str, datetime | None]:
    names = ("accepted_at", "started_at", "rendered_at", "saved_at", "finished_at")
    moments = ((name, getattr(video, name)) for name in names)
    return {name: utc(moment) if moment else None for name, moment in moments}


def _between(first: datetime | None, last: datetime | None) -> float | None:
    """Seconds between two times, not below 0: the clocks of two instances may differ."""
    return None if first is None or last is None else max(round((utc(last) - utc(first)).total_seconds(), 3), 0.0)


def utc(moment: datetime) -> datetime:
    """The same time as a plain `datetime` in UTC: storage returns a subclass, which msgspec does
    not encode.
    """
    here = moment.astimezone(UTC)
    return datetime(here.year, here.month, here.day, here.hour, here.minute, here.second, here.microsecond, UTC)
