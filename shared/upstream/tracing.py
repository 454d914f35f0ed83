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
    """The spans of calls to one deployment. An upstream is another's house: it is `told` which
    trace a call belongs to only where the operator says so.
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
        """What tells the upstream."""
        here = self.telemetry.current if self.told else None
        return {"traceparent": str(here)} if here else {}


def told(span: Span, status: int) -> None:
    """Say what the upstream has answered. By the conventions every 4xx fails a client's call."""
    span.set({"http.response.status_code": status})
    if status >= 400:
        span.fail(str(status))
