"""LangSmith: https://docs.langchain.com/langsmith/smith-api/run/ingest-runs-batch-json."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec

from shared.events.post import Letter
from shared.events.record import Record
from shared.events.sinks.sink import ENDS, Format


class LangSmith(Format, frozen=True):
    """One run for each video, at its end: a call of a model, with its cost."""

    takes = ENDS
    most = 100
    has_it = frozenset((409,))

    def letter(self, records: Sequence[Record]) -> Letter:
        values = self.values
        tenant = {"x-tenant-id": values["LANGSMITH_TENANT_ID"]} if values["LANGSMITH_TENANT_ID"] else {}
        headers = {"x-api-key": values["LANGSMITH_API_KEY"], **tenant, "content-type": "application/json"}
        body = msgspec.json.encode({"post": [self._run(record) for record in records], "patch": []})
        return Letter(f"{values['LANGSMITH_BASE_URL'].rstrip('/')}/runs/batch", headers, body)

    def _run(self, record: Record) -> dict[str, Any]:
        run_id = _run_id(record)
        usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "total_cost": record.cost}
        model = {"ls_provider": "azure-video-gateway", "ls_model_name": record.model, "ls_model_type": "llm"}
        run = {
            "id": run_id,
            "trace_id": run_id,  # a root's trace has the run's id; with another, the whole batch is refused
            "dotted_order": f"{record.created_at:%Y%m%dT%H%M%S%fZ}{run_id}",
            "name": self.values["LANGSMITH_DEFAULT_RUN_NAME"],
            "run_type": "llm",
            "session_name": self.values["LANGSMITH_PROJECT"],
            "inputs": record.asked,
            "outputs": {**record.outcome, "usage_metadata": usage},
            "start_time": _text(record.created_at),
            "end_time": _text(max(record.created_at, record.time)),
            "tags": record.tags,
            "extra": {"metadata": {**record.facts, **model}},
        }
        return {**run, "error": record.reason} if record.failed else run


def _run_id(record: Record) -> str:
    """A UUID of version 7: the video's time of creation, then digits of a hash of the event's id.
    So it is the same at every try.
    """
    digits = int(sha256(record.id.encode()).hexdigest()[:20], 16)
    time = round(record.created_at.timestamp() * 1000)
    return str(UUID(int=time << 80 | 7 << 76 | (digits >> 64 & 0xFFF) << 64 | 2 << 62 | digits & (1 << 62) - 1))


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"
