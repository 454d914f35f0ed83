"""Datadog's LLM Observability, by its HTTP API:
https://docs.datadoghq.com/llm_observability/instrumentation/api/.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from shared.events.post import Letter
from shared.events.record import Record
from shared.events.sinks.sink import ENDS, Format
from shared.telemetry.trace_parent import span_of

_NANOS = 1_000_000_000


class DatadogLlmObservability(Format, frozen=True):
    """One span for each video, at its end. Datadog rejects spans older than a day."""

    takes = ENDS
    most = 100
    reaches_back = timedelta(days=1)

    def letter(self, records: Sequence[Record]) -> Letter:
        values = self.values
        base = values["DD_LLMOBS_BASE_URL"] or f"https://api.{values['DD_SITE']}"
        spans = [_span(record) for record in records]
        attributes = {"ml_app": values["DD_LLMOBS_ML_APP"], "tags": [f"env:{values['DD_ENV']}"], "spans": spans}
        body = msgspec.json.encode({"data": {"type": "span", "attributes": attributes}})
        headers = {"dd-api-key": values["DD_API_KEY"], "content-type": "application/json"}
        return Letter(f"{base.rstrip('/')}/api/intake/llm-obs/v1/trace/spans", headers, body)


def _span(record: Record) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "kind": "llm",
        "input": {"value": msgspec.json.encode(record.asked).decode()},
        "output": {"value": msgspec.json.encode(record.outcome).decode()},
        "metadata": {"model_name": record.model, **record.facts},
    }
    span = span_of(record.video_id, None)
    if record.failed:
        meta["error"] = {"type": record.error_code, "message": record.error_message}
    return {
        "parent_id": "undefined",
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "name": "video",
        "meta": meta,
        "metrics": {"total_cost": record.cost, "output_cost": record.cost, "input_cost": 0.0},
        "status": "error" if record.failed else "ok",
        "tags": [f"request_tag:{tag}" for tag in record.tags],
        "start_ns": round(record.created_at.timestamp() * _NANOS),
        "duration": round((record.total_time or 0.0) * _NANOS),
    }
