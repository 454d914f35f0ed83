"""Reads app settings and config.yaml into frozen objects.

Every error names the setting and what is expected.
"""

import os
from collections.abc import Mapping

import msgspec

from shared.config.catalog import MICROS, Catalog
from shared.config.deployments import read_fallbacks, read_models
from shared.config.entra import Entra
from shared.config.file import ConfigFile, GatewayKnobs, General, ModelEntry, Params, read_file
from shared.config.guardrail import Guardrail
from shared.config.guardrails import read_guardrails
from shared.config.sinks import QUEUE_NAME, SinkSettings, read_sinks
from shared.config.telemetry import TelemetrySettings, read_telemetry
from shared.errors import ConfigurationError, InvalidRequest
from shared.periods import check_length

_SHORTEST_MASTER_KEY = 16
_PLACES = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")  # where a system has its programs and libraries
_REQUESTS_QUEUE = "VIDEO_REQUESTS_QUEUE"

# Every app setting that the app reads by name, and its purpose. Settings that config.yaml refers to
# by `os.environ/NAME` come on top.
APP_SETTINGS: Mapping[str, str] = {
    "AzureWebJobsStorage": "a storage connection string: local only",
    "AzureWebJobsStorage__blobServiceUri": "the storage account's blob endpoint, reached with the app's identity",
    "AzureWebJobsStorage__tableServiceUri": "its table endpoint",
    "AzureWebJobsStorage__queueServiceUri": "its queue endpoint, for pipelines",
    "AzureWebJobsStorage__clientId": "which user-assigned identity reaches storage",
    "AZURE_CLIENT_ID": "the same for Azure OpenAI",
    "GATEWAY_MASTER_KEY": "the operator's key",
    "GATEWAY_CONFIG": "another configuration file than config.yaml",
    "AZURE_OPENAI_API_BASE": "the Azure OpenAI resource",
    "AZURE_OPENAI_ENDPOINT": "another name for it",
    "AZURE_API_BASE": "another name for it",
    "AZURE_OPENAI_API_KEY": "its key, where there is no identity",
    "AZURE_API_KEY": "another name for it",
    "AZURE_API_VERSION": "an api-version to send: none by default",
    "APPLICATIONINSIGHTS_CONNECTION_STRING": "Application Insights, for traces and metrics",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "a collector for them",
    "OTEL_EXPORTER_OTLP_HEADERS": "headers for it",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_SERVICE_NAME": "the name of the service in them",
    "OTEL_SDK_DISABLED": "true turns them off",
    "CONTENT_SAFETY_ENDPOINT": "the Content Safety resource, for guardrails that ask it",
    "AZURE_GUARDRAIL_API_BASE": "another name for it",
    "CONTENT_SAFETY_KEY": "its key, where there is no identity",
    "AZURE_GUARDRAIL_API_KEY": "another name for it",
    _REQUESTS_QUEUE: "the queue whose messages start videos: none by default",
}


class Storage(msgspec.Struct, frozen=True):
    """How storage is reached: by a connection string (local), or by the account's URLs and an
    identity (Azure).
    """

    connection_string: str | None = None
    blob_url: str | None = None
    table_url: str | None = None
    client_id: str | None = None
    queue_url: str | None = None

    def __repr__(self) -> str:
        return f"Storage({self.blob_url!r})"  # its `connection_string` is a secret


class Settings(msgspec.Struct, frozen=True):
    """The app's configuration. `master_key` is the operator's; `max_budget` limits all keys
    together, in micro-dollars. Messages of `requests_queue` start videos; "" for none. Callers may
    send tokens of `entra`.
    """

    storage: Storage
    master_key: str | None
    knobs: GatewayKnobs
    catalog: Catalog
    max_budget: int | None = None
    budget_duration: str | None = None
    guardrails: tuple[Guardrail, ...] = ()
    sinks: tuple[SinkSettings, ...] = ()
    telemetry: TelemetrySettings | None = None
    requests_queue: str = ""
    entra: Entra | None = None

    def __repr__(self) -> str:
        return f"Settings({self.catalog!r})"  # `master_key` and the keys of guardrails, sinks and telemetry are secrets


def without_settings() -> dict[str, str]:
    """The environment of a process that is to know no setting, which may be a secret."""
    return {name: os.environ[name] for name in _PLACES if name in os.environ}


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read app settings and the configuration file they name. Raises ConfigurationError."""
    env = os.environ if environment is None else environment
    _refuse_unresolved(env)
    file = read_file(env)
    master_key = env.get("GATEWAY_MASTER_KEY") or file.general_settings.master_key
    storage = load_storage(env)
    # A short key can be guessed. It is only allowed on a laptop, where storage has a connection
    # string.
    if master_key and len(master_key) < _SHORTEST_MASTER_KEY and storage.connection_string is None:
        raise ConfigurationError(
            f"GATEWAY_MASTER_KEY is shorter than {_SHORTEST_MASTER_KEY} characters: choose a long random one."
        )
    entries = file.model_list or [ModelEntry("azure/sora-2", Params("azure/sora-2"))]
    models = read_models(entries, env, file.gateway.deadline_seconds)
    catalog = Catalog(models, read_fallbacks(file.gateway, models))
    budget, sinks = _read_budget(file.general_settings), _read_sinks(file, env)
    guardrails, queue = read_guardrails(file.guardrails, env), _read_queue(env)
    telemetry = read_telemetry(env, told=any(each.name == "otel" for each in sinks))
    return Settings(
        storage, master_key, file.gateway, catalog, *budget, guardrails, sinks, telemetry, queue, file.general_settings.entra
    )


def has_requests_queue() -> bool:
    """Whether messages start videos. Cheap: it is asked before anything is served."""
    return bool(os.environ.get(_REQUESTS_QUEUE))


def _read_queue(env: Mapping[str, str]) -> str:
    """The queue of requests. Raises ConfigurationError for what no queue is called."""
    name = env.get(_REQUESTS_QUEUE, "")
    if name and not QUEUE_NAME.fullmatch(name):
        raise ConfigurationError(f"{_REQUESTS_QUEUE} must be the name of a queue: 3 to 56 of a-z, 0-9 and single hyphens.")
    return name


def _read_sinks(file: ConfigFile, env: Mapping[str, str]) -> tuple[SinkSettings, ...]:
    """The logging providers, from either of LiteLLM's two places."""
    general, named = file.general_settings, file.litellm_settings
    both = (*named.callbacks, *general.alerting)
    told = {**env, "DD_API_KEY": general.datadog_api_key} if general.datadog_api_key else env
    return read_sinks((*both, *named.success_callback), (*both, *named.failure_callback), told)


def _refuse_unresolved(env: Mapping[str, str]) -> None:
    """Refuse unresolved Key Vault references: the setting then holds the reference's own text,
    which anybody can guess, and it would become the key.
    """
    for name, value in env.items():
        if value.startswith("@Microsoft.KeyVault("):
            raise ConfigurationError(
                f"The app setting {name} is a Key Vault reference that was not resolved: check the identity's role."
            )


def _read_budget(general: General) -> tuple[int | None, str | None]:
    """The budget of the whole gateway and the window it renews in."""
    if general.max_budget is not None and not 0 <= general.max_budget < MICROS:
        raise ConfigurationError("general_settings.max_budget must be 0 or more dollars.")
    if general.max_budget and not round(general.max_budget * MICROS):
        raise ConfigurationError("general_settings.max_budget must be 0 or at least 0.000001 dollars.")
    try:
        duration = general.budget_duration and check_length(general.budget_duration, "budget_duration")
    except InvalidRequest as error:
        raise ConfigurationError(f"general_settings: {error.message}") from error
    return (None if general.max_budget is None else round(general.max_budget * MICROS)), duration


def load_storage(env: Mapping[str, str]) -> Storage:
    """How storage is reached, for commands that need nothing else. Raises ConfigurationError."""
    connection = env.get("AzureWebJobsStorage")
    if connection:
        return Storage(connection_string=connection)
    blob, table = (env.get(f"AzureWebJobsStorage__{kind}ServiceUri") for kind in ("blob", "table"))
    if not blob or not table:
        raise ConfigurationError(
            "Storage is not configured: set AzureWebJobsStorage, or AzureWebJobsStorage__blobServiceUri and __tableServiceUri."
        )
    client_id = env.get("AzureWebJobsStorage__clientId") or env.get("AZURE_CLIENT_ID")
    queue = env.get("AzureWebJobsStorage__queueServiceUri")  # only pipelines need it
    return Storage(blob_url=blob, table_url=table, client_id=client_id, queue_url=queue)
