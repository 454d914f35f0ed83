"""The spans of a video: one of its whole life, whose parent is the request that asked for it, and
below that one for each phase. Their ids are computed from the video's id, so a span that is sent
twice is one to the receiver.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from shared.events.record import Record
from shared.telemetry.finished_span import FinishedSpan
from shared.telemetry.trace_parent import TraceParent, span_of


def spans_of(record: Record) -> list[FinishedSpan]:
    """The spans of a video that has ended, or of a request that was blocked."""
    parent = TraceParent.read(record.traceparent)
    whole = FinishedSpan(
        span=span_of(record.video_id, parent),
        parent=parent.span_id if parent else None,
        name=f"generate_video {record.model}",
        kind="client",
        first=record.created_at,
        last=record.time,
        attributes=_attributes(record),
        error=record.reason if record.failed else None,
    )
    return [whole, *_phases(record, parent, whole.span.span_id)]


def _phases(record: Record, trace: TraceParent | None, parent: str) -> Iterator[FinishedSpan]:
    """The spans of the phases that were reached, below the span `parent`."""
    phases = (
        ("wait", record.created_at, record.accepted_at),
        ("generate", record.accepted_at, record.rendered_at),
        ("save", record.rendered_at, record.saved_at),
    )
    for name, first, last in phases:
        if first is not None and last is not None:
            span = span_of(record.video_id, trace, name)
            yield FinishedSpan(span=span, parent=parent, name=name, kind="internal", first=first, last=last)


def _attributes(record: Record) -> Mapping[str, Any]:
    """The attributes of OpenTelemetry's GenAI conventions
    (https://opentelemetry.io/docs/specs/semconv/gen-ai/), with our own values for what they do not
    define for videos, and the record's fields as `video.<name>`.
    """
    asked = [{"role": "user", "parts": [{"type": "text", "content": record.prompt}]}]
    return {
        "gen_ai.operation.name": "generate_video",
        "gen_ai.output.type": "video",
        "gen_ai.provider.name": "azure-video-gateway",
        "gen_ai.request.model": record.model,
        "gen_ai.response.id": record.video_id,
        "gen_ai.input.messages": msgspec.json.encode(asked).decode() if record.prompt is not None else None,
        "error.type": record.error_code if record.failed else None,
        **{f"video.{name}": _plain(value) for name, value in record.facts.items()},
    }


def _plain(value: Any) -> Any:
    """A value that an attribute may have; anything else as its JSON text."""
    return value if isinstance(value, str | int | float) else msgspec.json.encode(value).decode()
