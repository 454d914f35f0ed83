"""Telemetry by OpenTelemetry's SDK. Its own threads export spans from bounded queues, and metrics
at intervals, so nothing here waits. A span that finds its queue full is lost.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from uuid import uuid4

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from shared.config.telemetry import SERVICE, TelemetrySettings
from shared.config.version import VERSION
from shared.errors import GatewayError
from shared.telemetry import telemetry as measured
from shared.telemetry.exporters import LateMetricExporter, LateSpanExporter, receivers_of
from shared.telemetry.finished_span import FinishedSpan
from shared.telemetry.telemetry import Attributes, Kind, Span
from shared.telemetry.trace_parent import TraceParent

_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_NANOS = 1_000
# The kind, unit and description of each instrument.
_INSTRUMENTS = {
    measured.OPERATION: ("histogram", "s", "From a video's request to its end"),
    measured.VIDEOS: ("counter", "{video}", "Videos that have ended, by status"),
    measured.QUEUE_WAIT: ("histogram", "s", "From a request to its acceptance upstream"),
    measured.GENERATION: ("histogram", "s", "From the start of a job to its end upstream"),
    measured.SPEND: ("counter", "USD", "What completed videos have cost"),
    measured.POLL_LAG: ("histogram", "s", "How much later than planned a job was looked at"),
    measured.SLOTS_USED: ("gauge", "{slot}", "Jobs that a model's deployments run"),
    measured.SLOTS: ("gauge", "{slot}", "Jobs that a model's deployments may run"),
    measured.UNFINISHED: ("gauge", "{video}", "Videos that wait or run"),
    measured.QUEUE_AGE: ("gauge", "s", "How long the video that has waited longest has waited"),
    measured.DELIVERIES: ("counter", "{event}", "Events sent, by destination and outcome"),
}
Take = Callable[[float, Attributes], None]
# These libraries log every failed export, with the receiver's address; `exporters` logs it once.
_LOUD = ("opentelemetry", "azure.monitor.opentelemetry")


class _Lasting:
    """A span that has not ended, as the app's `Span`."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def set(self, attributes: Attributes) -> None:
        for name, value in attributes.items():
            if value is not None:
                self._span.set_attribute(name, value)

    def fail(self, error: str) -> None:
        self._span.set_attribute("error.type", error)
        self._span.set_status(Status(StatusCode.ERROR))


class OpenTelemetry:
    """Telemetry for the receivers of the settings."""

    on = True

    def __init__(self, settings: TelemetrySettings) -> None:
        _hush()
        receivers = receivers_of(settings)
        self._resource = Resource.create(
            {"service.name": settings.service, "service.version": VERSION, "service.instance.id": str(uuid4())}
        )
        self._tracers = TracerProvider(resource=self._resource)
        self._meters = MeterProvider(
            [PeriodicExportingMetricReader(LateMetricExporter(each)) for each in receivers], self._resource
        )
        self._tellers: list[BatchSpanProcessor] = []
        for each in receivers:
            processor = BatchSpanProcessor(LateSpanExporter(each))
            self._tracers.add_span_processor(processor)
            self._tellers += [processor] if each.videos else []
        self._tracer = self._tracers.get_tracer(SERVICE, VERSION)
        meter = self._meters.get_meter(SERVICE, VERSION)
        self._take = {name: _take(meter, name, *told) for name, told in _INSTRUMENTS.items()}

    @contextmanager
    def span(
        self, name: str, kind: Kind = "internal", *, parent: TraceParent | None = None, root: bool = False
    ) -> Iterator[Span]:
        around = Context() if root else None
        if parent is not None:
            around = trace.set_span_in_context(NonRecordingSpan(_context(parent)), Context())
        with self._tracer.start_as_current_span(
            name, around, _KINDS[kind], record_exception=False, set_status_on_exception=False
        ) as span:
            lasting = _Lasting(span)
            try:
                yield lasting
            except BaseException as error:
                lasting.fail(error.code if isinstance(error, GatewayError) else type(error).__name__)
                raise

    @property
    def current(self) -> TraceParent | None:
        here = trace.get_current_span().get_span_context()
        if not here.is_valid:
            return None
        return TraceParent(f"{here.trace_id:032x}", f"{here.span_id:016x}", here.trace_flags.sampled)

    def tell(self, spans: Sequence[FinishedSpan]) -> None:
        for each in spans:
            if each.span.sampled:
                told = self._readable(each)
                for teller in self._tellers:
                    teller.on_end(told)

    def measure(self, name: str, value: float, attributes: Attributes) -> None:
        self._take[name](value, attributes)

    def close(self) -> None:
        self._tracers.shutdown()
        self._meters.shutdown()

    def _readable(self, told: FinishedSpan) -> ReadableSpan:
        parent = TraceParent(told.span.trace_id, told.parent) if told.parent else None
        return ReadableSpan(
            told.name,
            _context(told.span),
            _context(parent) if parent else None,
            self._resource,
            {name: value for name, value in told.attributes.items() if value is not None},
            kind=_KINDS[told.kind],
            status=Status(StatusCode.ERROR, told.error) if told.error is not None else Status(StatusCode.OK),
            start_time=_nanos(told.first),
            end_time=_nanos(max(told.first, told.last)),
            instrumentation_scope=InstrumentationScope(SERVICE, VERSION),
        )


def _take(meter: Meter, name: str, kind: str, unit: str, description: str) -> Take:
    """A new instrument's function that takes a value."""
    match kind:
        case "counter":
            return meter.create_counter(name, unit, description).add
        case "gauge":
            return meter.create_gauge(name, unit, description).set
        case _:
            return meter.create_histogram(name, unit, description).record


def _context(span: TraceParent) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if span.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(span.trace_id, 16), int(span.span_id, 16), is_remote=True, trace_flags=flags)


def _nanos(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * _NANOS


def _hush() -> None:
    """Silence the libraries' own logs."""
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
