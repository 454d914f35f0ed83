"""Spans of the calls to an upstream."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from shared.config.catalog import Deployment
from shared.telemetry.telemetry import SILENT, Span, Telemetry

# Names of the GenAI conventions; other servers go by LiteLLM's name of them.
_PROVIDERS = {"azure": "azure.ai.openai", "openai": "openai", "gemini": "gcp.gemini"}
_ID = r"^/videos/[^/]+"


class Trace(msgspec.Struct, frozen=True):
    """The spans of calls to one deployment. Only if `told`, which the operator decides, the
    upstream gets the id of the trace: it may be another company's.
    """

    deployment: Deployment
    telemetry: Telemetry = SILENT
    told: bool = False

    @contextmanager
    def call(self, method: str, path: str, *, creating: bool = False) -> Iterator[Span]:
        """A call's span. Its name has no id, so that there are few names."""
        route, dialect = re.sub(_ID, "/videos/{id}", path), self.deployment.dialect.name
        with self.telemetry.span(f"{method} {route}", "client") as span:
            span.set(
                {
                    "http.request.method": method,
                    "url.template": route,
                    "gen_ai.operation.name": "generate_video" if creating else None,
                    "gen_ai.provider.name": _PROVIDERS.get(dialect, dialect),
                    "gen_ai.request.model": self.deployment.model,
                    "video.deployment": self.deployment.name,
                }
            )
            yield span

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that tell the upstream its parent span."""
        here = self.telemetry.current if self.told else None
        return {"traceparent": str(here)} if here else {}


def told(span: Span, status: int) -> None:
    """Put the answer's status on its span. By OpenTelemetry's conventions for HTTP
    (https://opentelemetry.io/docs/specs/semconv/http/http-spans/#status), a 4xx fails a client's
    call.
    """
    span.set({"http.response.status_code": status})
    if status >= 400:
        span.fail(str(status))
