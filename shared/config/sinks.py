"""Logging providers: which are configured, and the app settings that each one reads, under the
names that LiteLLM's users know.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

import msgspec

from shared.errors import ConfigurationError

REQUIRED = "required"

# The app settings of each provider, with their defaults.
SINKS: Mapping[str, Mapping[str, str]] = {
    "datadog": {
        "DD_API_KEY": REQUIRED,
        "DD_SITE": "datadoghq.com",
        "DD_BASE_URL": "",
        "DD_SOURCE": "azure-video-gateway",
        "DD_SERVICE": "azure-video-gateway",
        "DD_ENV": "unknown",
    },
    "datadog_llm_observability": {
        "DD_API_KEY": REQUIRED,
        "DD_SITE": "datadoghq.com",
        "DD_LLMOBS_BASE_URL": "",
        "DD_LLMOBS_ML_APP": "azure-video-gateway",
        "DD_ENV": "unknown",
    },
    "langsmith": {
        "LANGSMITH_API_KEY": REQUIRED,
        "LANGSMITH_PROJECT": "azure-video-gateway",
        "LANGSMITH_BASE_URL": "https://api.smith.langchain.com",
        "LANGSMITH_TENANT_ID": "",
        "LANGSMITH_DEFAULT_RUN_NAME": "video",
    },
    "helicone": {
        "HELICONE_API_KEY": REQUIRED,
        "HELICONE_API_BASE": "https://api.worker.helicone.ai",
    },
    "langfuse": {
        "LANGFUSE_PUBLIC_KEY": REQUIRED,
        "LANGFUSE_SECRET_KEY": REQUIRED,
        "LANGFUSE_HOST": "https://cloud.langfuse.com",
    },
    "otel": {
        "OTEL_EXPORTER_OTLP_ENDPOINT": REQUIRED,
        "OTEL_EXPORTER_OTLP_HEADERS": "",
        "OTEL_SERVICE_NAME": "azure-video-gateway",
    },
    "azure_queue": {
        "VIDEO_EVENTS_QUEUE": "video-events",
    },
    "event_grid": {
        "EVENT_GRID_TOPIC_ENDPOINT": REQUIRED,
    },
    "webhook": {
        "GENERIC_LOGGER_ENDPOINT": REQUIRED,
        "GENERIC_LOGGER_HEADERS": "",
        "GENERIC_LOGGER_SECRET": "",
    },
}
# Other names for the same setting.
_ALSO = {"DD_API_KEY": ("DATADOG_API_KEY",)}
# 3 to 56 characters: 63 with the ending of a poison queue.
QUEUE_NAME = re.compile(r"(?=.{3,56}$)[a-z0-9]+(-[a-z0-9]+)*")
_ADDRESSES = ("_URL", "_BASE", "_HOST", "_ENDPOINT")


class SinkSettings(msgspec.Struct, frozen=True):
    """One configured provider: which ends it is told of, and its app settings by name."""

    name: str
    on_success: bool = True
    on_failure: bool = True
    values: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"SinkSettings({self.name!r})"  # `values` hold keys


def read_sinks(success: Sequence[str], failure: Sequence[str], env: Mapping[str, str]) -> tuple[SinkSettings, ...]:
    """The providers that are named for either end, in that order. Raises ConfigurationError."""
    return tuple(
        SinkSettings(name, name in success, name in failure, _values(name, env)) for name in dict.fromkeys((*success, *failure))
    )


def _values(name: str, env: Mapping[str, str]) -> Mapping[str, str]:
    if name not in SINKS:
        raise ConfigurationError(f"The logging provider {name!r} is not served here: there are {', '.join(SINKS)}.")
    values = {setting: _value(name, setting, default, env) for setting, default in SINKS[name].items()}
    for setting, value in values.items():
        _check(setting, value)
    return values


def _value(name: str, setting: str, default: str, env: Mapping[str, str]) -> str:
    names: Iterable[str] = (setting, *_ALSO.get(setting, ()))
    found = next((env[each] for each in names if env.get(each)), default)
    if found == REQUIRED:
        raise ConfigurationError(f"The logging provider {name} needs the app setting {setting}, which is not set.")
    return found


def _check(setting: str, value: str) -> None:
    """Refuse what no request could be made with, without quoting it: it may be a key."""
    if not (value.isascii() and value.isprintable()):
        raise ConfigurationError(f"The app setting {setting} holds a character that no header takes.")
    if value and setting.endswith(_ADDRESSES) and not is_address(value):
        raise ConfigurationError(f"The app setting {setting} must be an address that begins with https://.")
    if setting == "VIDEO_EVENTS_QUEUE" and not QUEUE_NAME.fullmatch(value):
        raise ConfigurationError(f"The app setting {setting} must be the name of a queue.")
    if value and setting == "GENERIC_LOGGER_SECRET" and not _is_signing_secret(value):
        raise ConfigurationError(f"The app setting {setting} must be whsec_ and the base64 of 24 to 64 bytes.")


def _is_signing_secret(value: str) -> bool:
    """Whether a secret is as Standard Webhooks wants it: `whsec_`, and the base64 of 24 to 64
    bytes.
    """
    try:
        return value.startswith("whsec_") and 24 <= len(b64decode(value.removeprefix("whsec_"), validate=True)) <= 64
    except ValueError:
        return False


def is_address(value: str) -> bool:
    """Whether a text is an http:// or https:// URL with a host."""
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False
