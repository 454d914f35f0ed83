"""Any receiver of traces in OTLP over HTTP, as JSON."""

from collections.abc import Sequence

from shared.config.telemetry import headers_of
from shared.events.post import Letter
from shared.events.record import Record
from shared.events.sinks.sink import ENDS, Format
from shared.events.sinks.spans import ANSWER, UNPACKED, exported, rejected_spans


class OpenTelemetry(Format, frozen=True):
    """The spans of each video, at its end, in the trace of the request that asked for it. The
    settings are those of OpenTelemetry's own exporters.
    """

    takes = ENDS
    most = 100

    def letter(self, records: Sequence[Record]) -> Letter:
        values = self.values
        headers = headers_of(values["OTEL_EXPORTER_OTLP_HEADERS"])
        body = exported(records, values["OTEL_SERVICE_NAME"])
        url = f"{values['OTEL_EXPORTER_OTLP_ENDPOINT'].rstrip('/')}/v1/traces"
        return Letter(url, {**headers, **UNPACKED, "content-type": "application/json"}, body, reads=ANSWER)

    def rejected(self, body: bytes) -> str:
        return rejected_spans(body)
