"""A video as a trace of OpenTelemetry: a span of its life, and spans of what it waited for.

The ids follow from the video's id, so that a trace that is sent twice is one. The encoding is
OTLP's JSON (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding): ids in hex,
nanoseconds and whole numbers as texts.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

import msgspec

from shared.config.version import VERSION
from shared.events.record import Record

NANOS = 1_000_000_000
_INTERNAL, _CLIENT = 1, 3  # kinds of spans
_OK, _ERROR = 1, 2


def trace_id(record: Record) -> str:
    return sha256(record.video_id.encode()).hexdigest()[:32]


def span_id(record: Record, part: str = "video") -> str:
    return sha256(f"{record.video_id} {part}".encode()).hexdigest()[:16]


def exported(records: Sequence[Record], service: str, more: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The body of an export request. `more` are attributes beside the usual ones, by event."""
    spans = [span for record in records for span in _spans(record, more.get(record.id, {}))]
    scope = {"scope": {"name": "azure-video-gateway", "version": VERSION}, "spans": spans}
    resource = {"attributes": _attributes({"service.name": service, "service.version": VERSION})}
    return msgspec.json.encode({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]})


def _spans(record: Record, more: Mapping[str, Any]) -> list[dict[str, Any]]:
    whole = _span(record, "video", _CLIENT, record.created_at, record.time)
    whole["attributes"] = _attributes({**_usual(record), **more})
    whole["status"] = {"code": _ERROR, "message": record.reason} if record.failed else {"code": _OK}
    parts = (
        ("wait", record.created_at, record.accepted_at),
        ("generate", record.accepted_at, record.rendered_at),
        ("save", record.rendered_at, record.saved_at),
    )
    children = [
        {**_span(record, name, _INTERNAL, first, last), "parentSpanId": span_id(record)}
        for name, first, last in parts
        if first is not None and last is not None
    ]
    return [whole, *children]


def _span(record: Record, name: str, kind: int, first: datetime, last: datetime) -> dict[str, Any]:
    return {
        "traceId": trace_id(record),
        "spanId": span_id(record, name),
        "name": f"generate_video {record.model}" if name == "video" else name,
        "kind": kind,
        "startTimeUnixNano": _nanos(first),
        "endTimeUnixNano": _nanos(max(first, last)),
    }


def _usual(record: Record) -> dict[str, Any]:
    """The attributes of the GenAI conventions, with values of our own where they have none for
    videos, and the record's.
    """
    told = {f"video.{name}": value for name, value in record.facts.items()}
    error = {"error.type": record.error_code} if record.failed else {}
    return {
        "gen_ai.operation.name": "generate_video",
        "gen_ai.output.type": "video",
        "gen_ai.provider.name": "azure-video-gateway",
        "gen_ai.request.model": record.model,
        "gen_ai.response.id": record.video_id,
        **error,
        **told,
    }


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in values.items() if value is not None]


def _value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
        case list() if all(isinstance(each, str) for each in value):
            return {"arrayValue": {"values": [_value(each) for each in value]}}
        case _:
            return {"stringValue": msgspec.json.encode(value).decode()}


def _nanos(moment: datetime) -> str:
    return f"{round(moment.timestamp() * 1_000_000)}000"
