"""A receiver of telemetry on this machine: OTLP over HTTP, read by OpenTelemetry's own protocol
definitions, and Application Insights' own way.
"""

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from gzip import decompress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


@dataclass(frozen=True)
class Seen:
    """A span as it arrived; ids in hex, `parent` empty where it has none."""

    trace: str
    id: str
    parent: str
    name: str
    kind: int
    failed: bool
    attributes: dict[str, Any]


@dataclass
class Collector:
    """What has arrived. `headers` are those of the last request; it answers with `says`."""

    url: str = ""
    says: int = 200
    spans: list[Seen] = field(default_factory=list)
    envelopes: list[dict[str, Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)
    _points: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, list[dict[str, Any]]]:
        """The last points of each instance, which are sums since it began, by metric."""
        found: dict[str, list[dict[str, Any]]] = {}
        for (_, name), points in self._points.items():
            found.setdefault(name, []).extend(points)
        return found

    def take(self, path: str, headers: dict[str, str], body: bytes) -> bytes:
        """Note a request, and return the answer's body. Raises what is wrong with it."""
        self.headers = headers
        body = decompress(body) if headers.get("content-encoding") == "gzip" else body
        self.bodies.append(body)
        match path:
            case "/v1/traces":
                self.spans += _spans(ExportTraceServiceRequest.FromString(body))
            case "/v1/metrics":
                self._measured(ExportMetricsServiceRequest.FromString(body))
            case "/v2.1/track":
                found = json.loads(body)
                self.envelopes += found
                return json.dumps({"itemsReceived": len(found), "itemsAccepted": len(found), "errors": []}).encode()
        return b""

    def _measured(self, request: ExportMetricsServiceRequest) -> None:
        for resource in request.resource_metrics:
            instance = _read(resource.resource.attributes)["service.instance.id"]
            for metric in (each for scope in resource.scope_metrics for each in scope.metrics):
                data = getattr(metric, str(metric.WhichOneof("data")))
                points = [{**_read(point.attributes), "value": _value(point)} for point in data.data_points]
                self._points[instance, metric.name] = points


def read_json(body: str) -> list[Seen]:
    """The spans of an export request in JSON, read as the protocol's definitions say."""
    # The definitions have ids as bytes, in base64; OTLP's JSON has them in hex.
    told = json.loads(body)
    request = Parse(json.dumps(_in_base64(told)), ExportTraceServiceRequest())
    return _spans(request)


def _in_base64(told: Any) -> Any:
    if isinstance(told, list):
        return [_in_base64(each) for each in told]
    if not isinstance(told, dict):
        return told
    hexed = ("traceId", "spanId", "parentSpanId")
    return {
        name: b64encode(bytes.fromhex(value)).decode() if name in hexed else _in_base64(value) for name, value in told.items()
    }


def tree(spans: list[Seen]) -> dict[str, list[str]]:
    """Each span's name → the names of those right below it. Raises AssertionError where they are
    not one tree, whose root may have a parent elsewhere.
    """
    by_id = {each.id: each for each in spans}
    assert len({each.trace for each in spans}) == 1, "several traces"
    roots = [each for each in by_id.values() if each.parent not in by_id]
    assert len(roots) == 1, f"not one root: {[each.name for each in roots]}"
    below: dict[str, list[str]] = {}
    for each in by_id.values():
        below.setdefault(by_id[each.parent].name if each.parent in by_id else "", []).append(each.name)
    return below


def _spans(request: ExportTraceServiceRequest) -> list[Seen]:
    found = []
    for resource in request.resource_spans:
        assert "service.name" in _read(resource.resource.attributes)
        found += [_seen(span) for scope in resource.scope_spans for span in scope.spans]
    return found


def _seen(span: Span) -> Seen:
    assert len(span.trace_id) == 16 and len(span.span_id) == 8
    assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
    return Seen(
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        name=span.name,
        kind=span.kind,
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        attributes=_read(span.attributes),
    )


def _read(attributes: Any) -> dict[str, Any]:
    def read(each: KeyValue) -> Any:
        return getattr(each.value, str(each.value.WhichOneof("value")))

    return {each.key: read(each) for each in attributes}


def _value(point: Any) -> float:
    """Of a histogram its sum."""
    return float(point.sum if hasattr(point, "bucket_counts") else getattr(point, str(point.WhichOneof("value"))))


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector at an address of its own, on a thread of its own: exporters block theirs."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers["content-length"]))
            answer = collector.take(self.path, headers, body) if collector.says == 200 else b""
            self.send_response(collector.says)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *told: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
