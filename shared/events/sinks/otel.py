"""Any receiver of traces by OTLP over HTTP, in JSON."""

from collections.abc import Mapping, Sequence
from urllib.parse import unquote

import msgspec

from shared.events.post import Letter
from shared.events.record import Record
from shared.events.sinks.headers import pairs
from shared.events.sinks.sink import ENDS
from shared.events.sinks.spans import exported


class OpenTelemetry(msgspec.Struct, frozen=True):
    """One trace for each video, at its end. The settings are those of OpenTelemetry's own
    exporters.
    """

    values: Mapping[str, str]
    takes = ENDS
    most = 100

    def letter(self, records: Sequence[Record]) -> Letter:
        values = self.values
        headers = {name: unquote(value) for name, value in pairs(values["OTEL_EXPORTER_OTLP_HEADERS"]).items()}
        prompts = {record.id: {"gen_ai.input.messages": record.prompt} for record in records}
        body = exported(records, values["OTEL_SERVICE_NAME"], prompts)
        url = f"{values['OTEL_EXPORTER_OTLP_ENDPOINT'].rstrip('/')}/v1/traces"
        return Letter(url, {**headers, "content-type": "application/json"}, body)
