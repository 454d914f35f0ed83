"""Spans in OTLP's JSON (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding): ids are
in hex, integers and times in nanoseconds are strings.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from shared.config.version import VERSION
from shared.events.record import Record
from shared.events.video_spans import spans_of
from shared.telemetry.finished_span import FinishedSpan

_KINDS = {"internal": 1, "server": 2, "client": 3}
_OK, _ERROR = 1, 2
ANSWER = 4096  # bytes of an answer that are read
UNPACKED = {"accept-encoding": "identity"}


class _PartialSuccess(msgspec.Struct, frozen=True, rename="camel"):
    rejected_spans: int = 0


class _Exported(msgspec.Struct, frozen=True, rename="camel"):
    partial_success: _PartialSuccess = _PartialSuccess()


def exported(records: Sequence[Record], service: str, more: Mapping[str, Mapping[str, Any]] | None = None) -> bytes:
    """The body of an export request. `more` are additional attributes, by the record's id."""
    spans = [span for record in records for span in _spans(record, (more or {}).get(record.id, {}))]
    scope = {"scope": {"name": "azure-video-gateway", "version": VERSION}, "spans": spans}
    resource = {"attributes": _attributes({"service.name": service, "service.version": VERSION})}
    return msgspec.json.encode({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]})


def rejected_spans(body: bytes) -> str:
    """How many spans an answer to an export request rejects, in words; "" if none. Rejected spans
    must not be sent again (https://opentelemetry.io/docs/specs/otlp/#partial-success-1).
    """
    try:
        count = msgspec.json.decode(body, type=_Exported, strict=False).partial_success.rejected_spans
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return f"spans of its batch that it rejected: {count}" if count > 0 else ""


def _spans(record: Record, more: Mapping[str, Any]) -> list[dict[str, Any]]:
    whole, *parts = spans_of(record)
    whole = msgspec.structs.replace(whole, attributes={**whole.attributes, **more})
    return [_span(whole), *map(_span, parts)]


def _span(told: FinishedSpan) -> dict[str, Any]:
    failed = {"code": _ERROR, "message": told.error}
    return {
        "traceId": told.span.trace_id,
        "spanId": told.span.span_id,
        **({"parentSpanId": told.parent} if told.parent else {}),
        "name": told.name,
        "kind": _KINDS[told.kind],
        "startTimeUnixNano": _nanos(told.first),
        "endTimeUnixNano": _nanos(max(told.first, told.last)),
        "attributes": _attributes(told.attributes),
        "status": failed if told.error is not None else {"code": _OK},
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
