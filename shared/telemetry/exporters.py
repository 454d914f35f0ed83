"""Exporters that are made at their first export, by the thread that exports: their libraries take
tenths of a second to import, and no request shall wait for that.

Telemetry that cannot be sent is lost. The log says so once, and once when it can be sent again.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from opentelemetry.sdk.metrics import Counter, Histogram
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from shared.config.telemetry import TelemetrySettings

logger = logging.getLogger("gateway")

# Application Insights adds up what it gets, so it gets differences.
_DIFFERENCES: dict[type, AggregationTemporality] = dict.fromkeys((Counter, Histogram), AggregationTemporality.DELTA)


class Receiver(msgspec.Struct, frozen=True):
    """A receiver of telemetry. `spans` and `metrics` make the library's exporters for it; `videos`
    is whether it gets the spans of videos too.
    """

    name: str
    spans: Callable[[], SpanExporter]
    metrics: Callable[[], MetricExporter]
    temporality: dict[type, AggregationTemporality] = {}
    videos: bool = True


def receivers_of(settings: TelemetrySettings) -> list[Receiver]:
    """The configured receivers."""
    found = [_otlp(settings, settings.endpoint.rstrip("/"))] if settings.endpoint else []
    return [*found, _insights(settings.insights)] if settings.insights else found


def _otlp(settings: TelemetrySettings, endpoint: str) -> Receiver:
    headers = dict(settings.headers)

    def spans() -> SpanExporter:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(f"{endpoint}/v1/traces", headers=headers)

    def metrics() -> MetricExporter:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        return OTLPMetricExporter(f"{endpoint}/v1/metrics", headers=headers)

    return Receiver("the OTLP endpoint", spans, metrics, videos=not settings.told)


def _insights(connection: str) -> Receiver:
    """Application Insights, with the app's identity if APPLICATIONINSIGHTS_AUTHENTICATION_STRING
    says so: the library reads that itself. It stores nothing on disk to send later: the disk goes
    with the instance.
    """
    options: dict[str, Any] = {"connection_string": connection, "disable_offline_storage": True}

    def spans() -> SpanExporter:
        from azure.monitor.opentelemetry.exporter import AzureMonitorTraceExporter

        exporter: SpanExporter = AzureMonitorTraceExporter(**options)
        return exporter

    def metrics() -> MetricExporter:
        from azure.monitor.opentelemetry.exporter import AzureMonitorMetricExporter

        exporter: MetricExporter = AzureMonitorMetricExporter(**options)
        return exporter

    return Receiver("Application Insights", spans, metrics, _DIFFERENCES)


class _Health:
    """Logs each time that a receiver ceases to take telemetry, and that it takes it again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._taken = True

    def note(self, *, taken: bool, why: str = "it did not take it") -> None:
        if taken and not self._taken:
            logger.info("telemetry: %s takes it again", self._name)
        if not taken and self._taken:
            logger.warning("telemetry for %s is lost: %s", self._name, why)
        self._taken = taken


class LateSpanExporter(SpanExporter):
    """The receiver's own exporter of spans, made when it is needed."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._health = _Health(receiver.name)
        self._exporter: SpanExporter | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            self._exporter = self._exporter or self._receiver.spans()
            result = self._exporter.export(spans)
        except Exception as error:  # such as a library that cannot be imported, or a malformed URL
            self._health.note(taken=False, why=type(error).__name__)
            return SpanExportResult.FAILURE
        self._health.note(taken=result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        if self._exporter is not None:
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        del timeout_millis
        return True


class LateMetricExporter(MetricExporter):
    """The receiver's own exporter of metrics, made when it is needed."""

    def __init__(self, receiver: Receiver) -> None:
        super().__init__(receiver.temporality)
        self._receiver = receiver
        self._health = _Health(f"{receiver.name} (metrics)")
        self._exporter: MetricExporter | None = None

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        try:
            self._exporter = self._exporter or self._receiver.metrics()
            result = self._exporter.export(metrics_data, timeout_millis, **kwargs)
        except Exception as error:
            self._health.note(taken=False, why=type(error).__name__)
            return MetricExportResult.FAILURE
        self._health.note(taken=result is MetricExportResult.SUCCESS)
        return result

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        if self._exporter is not None:
            self._exporter.shutdown(timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        del timeout_millis
        return True
