"""Datadog's log intake: https://docs.datadoghq.com/api/latest/logs/#send-logs."""

import re
from collections.abc import Sequence

import msgspec

from shared.events.post import Letter
from shared.events.record import Record
from shared.events.sinks.sink import EVERY, Format

_NOT_IN_TAGS = re.compile(r"[^a-z0-9_\-:./]")


class Datadog(Format, frozen=True):
    """One log for each event. Its `message` is the whole event as JSON text."""

    takes = EVERY
    most = 1000

    def letter(self, records: Sequence[Record]) -> Letter:
        values = self.values
        base = values["DD_BASE_URL"] or f"https://http-intake.logs.{values['DD_SITE']}"
        headers = {"dd-api-key": values["DD_API_KEY"], "content-type": "application/json"}
        body = msgspec.json.encode([self._log(record) for record in records])
        return Letter(f"{base.rstrip('/')}/api/v2/logs", headers, body)

    def _log(self, record: Record) -> dict[str, str]:
        tags = [f"env:{self.values['DD_ENV']}", *(f"request_tag:{_NOT_IN_TAGS.sub('_', tag.lower())}" for tag in record.tags)]
        return {
            "ddsource": self.values["DD_SOURCE"],
            "service": self.values["DD_SERVICE"],
            "hostname": "",
            "ddtags": ",".join(tags),
            "status": "error" if record.failed else "info",
            "message": msgspec.json.encode(record).decode(),
        }
