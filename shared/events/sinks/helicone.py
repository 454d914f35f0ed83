"""Helicone's log of custom models: https://docs.helicone.ai/getting-started/integration-method/custom."""

from collections.abc import Sequence
from datetime import datetime
from uuid import NAMESPACE_URL, uuid5

import msgspec

from shared.events.post import Letter
from shared.events.record import Record
from shared.events.sinks.sink import ENDS, Format


class Helicone(Format, frozen=True):
    """One log for each video, at its end. Each takes a request of its own."""

    takes = ENDS
    most = 1

    def letter(self, records: Sequence[Record]) -> Letter:
        (record,) = records
        asked = {"_type": "data", "model": record.model, "name": "video", **record.asked}
        told = {"_type": "data", "name": "video", **record.outcome, "cost": record.cost, "metadata": record.facts}
        body = {
            "providerRequest": {"url": "custom-model-nopath", "json": asked, "meta": _meta(record)},
            "providerResponse": {"json": told, "status": 500 if record.failed else 200, "headers": {}},
            "timing": {"startTime": _moment(record.created_at), "endTime": _moment(max(record.created_at, record.time))},
        }
        key, base = self.values["HELICONE_API_KEY"], self.values["HELICONE_API_BASE"]
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        return Letter(f"{base.rstrip('/')}/custom/v1/log", headers, msgspec.json.encode(body))


def _meta(record: Record) -> dict[str, str]:
    """Helicone's headers: an id that is the same at every try, the user, and filters."""
    known = {
        "Helicone-Request-Id": str(uuid5(NAMESPACE_URL, record.id)),
        "Helicone-User-Id": record.user or record.key_user,
        "Helicone-Property-Video": record.video_id,
        "Helicone-Property-Key": record.key_alias or record.key_id,
    }
    return {name: value for name, value in known.items() if value}


def _moment(moment: datetime) -> dict[str, int]:
    return {"seconds": int(moment.timestamp()), "milliseconds": moment.microsecond // 1000}
