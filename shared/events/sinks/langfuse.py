"""Langfuse, by OTLP: https://langfuse.com/integrations/native/opentelemetry."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import msgspec

from shared.events.post import Letter
from shared.events.record import Record
from shared.events.sinks.sink import ENDS, Format
from shared.events.sinks.spans import ANSWER, UNPACKED, exported, rejected_spans


class Langfuse(Format, frozen=True):
    """One trace for each video, at its end, whose span is a generation with its cost."""

    takes = ENDS
    most = 100

    def letter(self, records: Sequence[Record]) -> Letter:
        values = self.values
        pair = f"{values['LANGFUSE_PUBLIC_KEY']}:{values['LANGFUSE_SECRET_KEY']}"
        headers = {
            "authorization": f"Basic {b64encode(pair.encode()).decode()}",
            "x-langfuse-ingestion-version": "4",
            "content-type": "application/json",
        }
        # Each video gets a trace of its own. In the request's trace its parent would be missing,
        # since only telemetry has the request's span, and Langfuse shows a trace by its root.
        apart = [msgspec.structs.replace(record, traceparent=None) for record in records]
        body = exported(apart, "azure-video-gateway", {record.id: _told(record) for record in records})
        return Letter(
            f"{values['LANGFUSE_HOST'].rstrip('/')}/api/public/otel/v1/traces", {**headers, **UNPACKED}, body, reads=ANSWER
        )

    def rejected(self, body: bytes) -> str:
        return rejected_spans(body)


def _told(record: Record) -> dict[str, Any]:
    """The attributes that Langfuse reads."""
    return {
        "langfuse.trace.name": "video",
        "langfuse.trace.tags": record.tags or None,
        "langfuse.user.id": record.user or record.key_user,
        "langfuse.observation.type": "generation",
        "langfuse.observation.model.name": record.model,
        "langfuse.observation.input": msgspec.json.encode(record.asked).decode(),
        "langfuse.observation.output": msgspec.json.encode(record.outcome).decode(),
        "langfuse.observation.cost_details": msgspec.json.encode({"total": record.cost}).decode(),
        "langfuse.observation.level": "ERROR" if record.failed else "DEFAULT",
        "langfuse.observation.status_message": record.error_message,
    }
