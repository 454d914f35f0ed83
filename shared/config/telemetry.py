"""Where telemetry goes, by the app settings that OpenTelemetry and Application Insights have for
it.
"""

from collections.abc import Mapping
from urllib.parse import unquote

import msgspec

from shared.config.sinks import is_address
from shared.errors import ConfigurationError

SERVICE = "azure-video-gateway"


class TelemetrySettings(msgspec.Struct, frozen=True):
    """An OTLP endpoint with its headers, or Application Insights, or both. `told` says that the
    logging provider `otel` sends the spans of videos to the endpoint, so that telemetry does not.
    """

    endpoint: str | None = None
    headers: Mapping[str, str] = {}
    insights: str | None = None
    service: str = SERVICE
    told: bool = False

    def __repr__(self) -> str:
        return "TelemetrySettings()"  # `headers` and `insights` hold keys


def read_telemetry(env: Mapping[str, str], *, told: bool = False) -> TelemetrySettings | None:
    """Where telemetry goes; None if there is no receiver. Raises ConfigurationError."""
    endpoint, insights = env.get("OTEL_EXPORTER_OTLP_ENDPOINT"), env.get("APPLICATIONINSIGHTS_CONNECTION_STRING")
    if env.get("OTEL_SDK_DISABLED", "").lower() == "true" or not (endpoint or insights):
        return None
    if endpoint and not is_address(endpoint):
        raise ConfigurationError("The app setting OTEL_EXPORTER_OTLP_ENDPOINT must be an address that begins with https://.")
    if endpoint and not env.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http").startswith("http"):
        raise ConfigurationError("The app setting OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf: there is no other here.")
    headers = headers_of(env.get("OTEL_EXPORTER_OTLP_HEADERS", ""))
    return TelemetrySettings(endpoint, headers, insights, env.get("OTEL_SERVICE_NAME") or SERVICE, told)


def headers_of(text: str) -> dict[str, str]:
    """Headers as OpenTelemetry's settings have them: `name=value,name=value`, values in percent
    encoding.
    """
    return {name: unquote(value) for name, value in pairs(text).items()}


def pairs(text: str) -> dict[str, str]:
    """`name=value,name=value`, split at the first `=`."""
    parts = (part.partition("=") for part in text.split(",") if part.strip())
    return {name.strip().lower(): value.strip() for name, _, value in parts}
