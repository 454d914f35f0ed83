"""App settings and config.yaml, read once into frozen objects; every complaint names the setting and what it should be."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from shared.catalog import AZURE_OPENAI_SCOPE, KNOWN_MODELS, MICROS, RETIREMENT_DATES, Capability, Catalog, Deployment, Model
from shared.errors import ConfigurationError, InvalidRequest
from shared.windows import check_length

DEFAULT_FILE = Path(__file__).parent.parent / "config.yaml"
_BASE_NAMES = ("AZURE_OPENAI_API_BASE", "AZURE_OPENAI_ENDPOINT", "AZURE_API_BASE")
_KEY_NAMES = ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY")
_SHORTEST_MASTER_KEY = 16

# Every app setting that the app reads by name, with what it is for; whatever else config.yaml refers to comes on top.
APP_SETTINGS: Mapping[str, str] = {
    "AzureWebJobsStorage": "a storage connection string: local only",
    "AzureWebJobsStorage__blobServiceUri": "the storage account's blob endpoint, reached with the app's identity",
    "AzureWebJobsStorage__tableServiceUri": "its table endpoint",
    "AzureWebJobsStorage__clientId": "which user-assigned identity reaches storage",
    "AZURE_CLIENT_ID": "the same for Azure OpenAI",
    "GATEWAY_MASTER_KEY": "the operator's key",
    "GATEWAY_CONFIG": "another configuration file than config.yaml",
    "AZURE_OPENAI_API_BASE": "the Azure OpenAI resource; also AZURE_OPENAI_ENDPOINT or AZURE_API_BASE",
    "AZURE_OPENAI_API_KEY": "its key, where there is no identity; also AZURE_API_KEY",
    "AZURE_API_VERSION": "an api-version to send: none by default",
}


@dataclass(frozen=True)
class Storage:
    """Where state lives: a connection string (local), or the account's endpoints reached with an identity (Azure)."""

    connection_string: str | None = field(default=None, repr=False)
    blob_url: str | None = None
    table_url: str | None = None
    client_id: str | None = None


# Bounds that keep a slip of the pen from becoming a busy loop or a date that no calendar has.
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=30 * 86_400)]
_Days = Annotated[int, msgspec.Meta(ge=1, le=36_500)]
_UrlSeconds = Annotated[int, msgspec.Meta(ge=1, le=6 * 86_400)]  # what signs a URL lives seven days at most


class GatewayKnobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `gateway:` section of config.yaml.

    `poll_seconds`: between two looks at a running video. `deadline_seconds`: from the upstream's acceptance to giving up.
    `delivery`: `redirect` to a short-lived signed URL, or `proxy` the bytes through the app. `reconcile_seconds`: how long an
    unclear create is looked for in the upstream's list before it counts as never accepted. `queue_seconds`: how long a video
    may wait for capacity. `fallbacks`: the models that take a model's place, in order, when every deployment of it is closed.
    """

    poll_seconds: _Seconds = 5.0
    deadline_seconds: _Seconds = 1800.0
    delivery: Literal["redirect", "proxy"] = "redirect"
    retention_days: _Days | None = None
    log_prompts: bool = True
    url_seconds: _UrlSeconds = 900
    reconcile_seconds: _Seconds = 60.0
    queue_seconds: _Seconds = 86_400.0
    fallbacks: dict[str, list[str]] = {}


class _Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: str
    api_base: str | None = None
    api_key: str | None = None
    api_version: str | None = None
    token_scope: str = AZURE_OPENAI_SCOPE
    max_running: int = 2
    creates_per_minute: int = 2


class _ModelInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str | None = None
    base_model: str | None = None
    mode: str = "video_generation"
    sizes: list[str] | None = None
    seconds: list[int] | None = None
    remix: bool = True
    variants: list[str] | None = None
    output_cost_per_video_per_second: float | None = None
    output_cost_per_second: float | None = None


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model_name: str
    params: _Params
    model_info: _ModelInfo = _ModelInfo()


class _General(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    master_key: str | None = None
    max_budget: float | None = None
    budget_duration: str | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model_list: list[_Entry] = []
    general_settings: _General = _General()
    gateway: GatewayKnobs = GatewayKnobs()


@dataclass(frozen=True)
class Settings:
    """Everything the app was told. `master_key` is the operator's; `max_budget` is for all keys, in micro-dollars."""

    storage: Storage
    master_key: str | None = field(repr=False)
    knobs: GatewayKnobs
    catalog: Catalog
    max_budget: int | None = None
    budget_duration: str | None = None


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read app settings and the configuration file they name. Raises ConfigurationError."""
    env = os.environ if environment is None else environment
    file = _read_file(env)
    master_key = env.get("GATEWAY_MASTER_KEY") or file.general_settings.master_key
    # Only the platform sets this one: a key a person can guess is fine on a laptop and nowhere else.
    if master_key and len(master_key) < _SHORTEST_MASTER_KEY and "WEBSITE_INSTANCE_ID" in env:
        raise ConfigurationError(
            f"GATEWAY_MASTER_KEY is shorter than {_SHORTEST_MASTER_KEY} characters: choose a long random one."
        )
    entries = file.model_list or [_Entry("azure/sora-2", _Params("azure/sora-2"))]
    models = _read_models(entries, env)
    catalog = Catalog(models, _read_fallbacks(file.gateway, models))
    return Settings(load_storage(env), master_key, file.gateway, catalog, *_read_budget(file.general_settings))


def _read_fallbacks(knobs: GatewayKnobs, models: Iterable[Model]) -> dict[str, tuple[str, ...]]:
    names = {model.name for model in models}
    for name in {*knobs.fallbacks, *(other for others in knobs.fallbacks.values() for other in others)}:
        if name not in names:
            raise ConfigurationError(
                f"gateway.fallbacks names {name!r}, which is no model_name. There are: {', '.join(sorted(names))}."
            )
    return {name: tuple(others) for name, others in knobs.fallbacks.items()}


def _read_budget(general: _General) -> tuple[int | None, str | None]:
    """The budget of the whole gateway and the window it renews in."""
    if general.max_budget is not None and not 0 <= general.max_budget < MICROS:
        raise ConfigurationError("general_settings.max_budget must be 0 or more dollars.")
    try:
        duration = general.budget_duration and check_length(general.budget_duration, "budget_duration")
    except InvalidRequest as error:
        raise ConfigurationError(f"general_settings: {error.message}") from error
    return (None if general.max_budget is None else round(general.max_budget * MICROS)), duration


def _read_file(env: Mapping[str, str]) -> _File:
    named = env.get("GATEWAY_CONFIG")
    path = Path(named) if named else DEFAULT_FILE
    if not path.exists():
        if named:
            raise ConfigurationError(f"GATEWAY_CONFIG names {path.name!r}, which does not exist.")
        return _File()
    import yaml

    try:
        document = yaml.safe_load(path.read_text("utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path.name} cannot be read as a text file in UTF-8.") from error
    except yaml.YAMLError as error:
        # Not the error's own text: it quotes the line, and the line may hold a key. For the same reason it is not chained.
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it holds a character that YAML does not allow"
        raise ConfigurationError(f"{path.name}{place} is not valid YAML: {problem}.") from None
    return _convert(_renamed(_resolved(document, env)), _File, path.name)


def _resolved(value: Any, env: Mapping[str, str], where: str = "") -> Any:
    """Replace `os.environ/NAME` wherever it stands."""
    if isinstance(value, dict):
        return {key: _resolved(each, env, f"{where}.{key}") for key, each in value.items()}
    if isinstance(value, list):
        return [_resolved(each, env, f"{where}[{index}]") for index, each in enumerate(value)]
    if isinstance(value, str) and value.startswith("os.environ/"):
        name = value.removeprefix("os.environ/")
        # The two settings of the upstream have several accepted names, and a key may be absent: an identity is used then.
        for names in (_BASE_NAMES, _KEY_NAMES):
            if name in names:
                return _first(env, (name, *names))
        if name not in env:
            raise ConfigurationError(f"{where.lstrip('.')} refers to the app setting {name}, which is not set.")
        return env[name]
    return value


def _renamed(document: Any) -> Any:
    """Accept `litellm_params`, the name people's files already have, for `params`."""
    if isinstance(document, dict) and isinstance(document.get("model_list"), list):
        for entry in document["model_list"]:
            if isinstance(entry, dict) and "litellm_params" in entry and "params" not in entry:
                entry["params"] = entry.pop("litellm_params")
    return document


_T = TypeVar("_T")


def _convert(document: Any, kind: type[_T], where: str) -> _T:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{where}: {error}.{_suggestion(str(error))}") from error


def _suggestion(complaint: str) -> str:
    """For an unknown key: the known key it looks like."""
    unknown = re.search(r"unknown field `([^`]+)`", complaint)
    if not unknown:
        return ""
    kinds = (_File, _Entry, _Params, _ModelInfo, _General, GatewayKnobs)
    known = [name for kind in kinds for name in kind.__struct_fields__]
    alike = difflib.get_close_matches(unknown[1], known, n=1)
    return f" Did you mean `{alike[0]}`?" if alike else ""


def load_storage(env: Mapping[str, str]) -> Storage:
    """Where state lives, for commands that need nothing else. Raises ConfigurationError."""
    connection = env.get("AzureWebJobsStorage")
    if connection:
        return Storage(connection_string=connection)
    blob, table = (env.get(f"AzureWebJobsStorage__{kind}ServiceUri") for kind in ("blob", "table"))
    if not blob or not table:
        raise ConfigurationError(
            "Storage is not configured: set AzureWebJobsStorage, or AzureWebJobsStorage__blobServiceUri and __tableServiceUri."
        )
    client_id = env.get("AzureWebJobsStorage__clientId") or env.get("AZURE_CLIENT_ID")
    return Storage(blob_url=blob, table_url=table, client_id=client_id)


def _read_models(entries: Iterable[_Entry], env: Mapping[str, str]) -> tuple[Model, ...]:
    """One Model per `model_name`; a name that is repeated is one model with several deployments."""
    by_name: dict[str, list[tuple[Deployment, Capability]]] = {}
    aliases: dict[str, list[str]] = {}
    names: set[str] = set()
    for entry in entries:
        deployment = _read_deployment(entry, env)
        if deployment.name in names:
            raise ConfigurationError(f"Two deployments are called {deployment.name!r}: give each its own model_info.id.")
        names.add(deployment.name)
        by_name.setdefault(entry.model_name, []).append((deployment, _read_capability(entry)))
        spellings = aliases.setdefault(entry.model_name, [])
        spellings += [entry.params.model, deployment.model, entry.model_name.rpartition("/")[2]]
    models = []
    for name, members in by_name.items():
        capabilities = [capability for _, capability in members]
        if any(capability != capabilities[0] for capability in capabilities):
            raise ConfigurationError(f"The deployments of {name!r} differ in sizes, seconds or price: use two model names.")
        deployments = tuple(deployment for deployment, _ in members)
        models.append(Model(name, capabilities[0], deployments, tuple(dict.fromkeys(aliases[name]))))
    return tuple(models)


def _read_deployment(entry: _Entry, env: Mapping[str, str]) -> Deployment:
    provider, _, model = entry.params.model.rpartition("/")
    if provider not in ("azure", "openai") or not model:
        raise ConfigurationError(
            f"model_list: {entry.params.model!r} must be azure/<deployment> for Azure OpenAI, "
            "or openai/<model> for any other server of the /v1/videos dialect."
        )
    azure = provider == "azure"
    base = entry.params.api_base or (_first(env, _BASE_NAMES) if azure else None)
    if not base:
        wanted = f"set {_BASE_NAMES[0]}, or api_base" if azure else "set api_base"
        raise ConfigurationError(f"The model {entry.model_name!r} has no upstream address: {wanted}.")
    params = entry.params
    # Secrets that were pasted or piped end in a newline, which no header may hold.
    key = (params.api_key or (_first(env, _KEY_NAMES) if azure else None) or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(f"The model {entry.model_name!r}: its api_key holds characters that no HTTP header may.")
    if min(params.max_running, params.creates_per_minute) < 1:
        raise ConfigurationError(f"The model {entry.model_name!r}: max_running and creates_per_minute must be at least 1.")
    address = normalise_base(base, azure=azure)
    host = urlsplit(address).hostname or ""
    place = "local" if host in ("localhost", "127.0.0.1", "::1") else host.partition(".")[0]
    return Deployment(
        name=entry.model_info.id or f"{place}/{model}",
        azure=azure,
        model=model,
        base_url=address,
        api_key=key or None,
        api_version=_checked_version(params.api_version or (env.get("AZURE_API_VERSION") if azure else None)),
        token_scope=params.token_scope,
        max_running=params.max_running,
        creates_per_minute=params.creates_per_minute,
        retires=RETIREMENT_DATES.get(f"{provider}/{(entry.model_info.base_model or model).rpartition('/')[2]}"),
    )


def normalise_base(base: str, *, azure: bool) -> str:
    """The address under which `/videos` lies. Any accepted spelling of a base gives the same one. Raises ConfigurationError."""
    try:
        parts = urlsplit(base.strip())
        _ = parts.port  # read for its check alone
    except ValueError as error:
        raise ConfigurationError("An upstream address (api_base) must be an https:// URL.") from error
    loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme not in ("https", "http") or not parts.hostname or (parts.scheme == "http" and azure and not loopback):
        raise ConfigurationError("An upstream address (api_base) must be an https:// URL.")
    if parts.username or parts.password or parts.query:
        raise ConfigurationError("An upstream address (api_base) must not contain credentials or a query.")
    if "/api/projects" in parts.path.lower():
        raise ConfigurationError(
            "An upstream address (api_base) is that of a project (/api/projects/…); videos need the resource's own, "
            "https://<resource>.openai.azure.com."
        )
    path = re.sub(r"(/openai)?(/v1)?(/videos)?/*$", "", parts.path) if azure else re.sub(r"(/v1)?(/videos)?/*$", "", parts.path)
    return f"{parts.scheme}://{parts.netloc}{path.rstrip('/')}{'/openai/v1' if azure else '/v1'}"


def _checked_version(version: str | None) -> str | None:
    if version not in (None, "", "preview", "v1"):
        raise ConfigurationError(
            f"The api_version {version!r} does not exist on the v1 surface: leave it out, or use 'preview'."
        )
    return version or None


def _read_capability(entry: _Entry) -> Capability:
    """The built-in table for models known here, changed or completed by `model_info`."""
    info = entry.model_info
    base = (info.base_model or entry.params.model).rpartition("/")[2]
    known = KNOWN_MODELS.get(base)
    sizes = tuple(info.sizes) if info.sizes else known.sizes if known else ()
    seconds = tuple(info.seconds) if info.seconds else known.seconds if known else ()
    if not sizes or not seconds:
        raise ConfigurationError(
            f"The model {entry.model_name!r} is not a known one: say model_info.sizes and model_info.seconds."
        )
    if any(not re.fullmatch(r"[1-9]\d{1,4}x[1-9]\d{1,4}", size) for size in sizes):
        raise ConfigurationError(f"The model {entry.model_name!r}: model_info.sizes must look like 1280x720.")
    dollars = info.output_cost_per_video_per_second
    if dollars is None:
        dollars = info.output_cost_per_second
    if dollars is not None:
        if not 0 <= dollars < MICROS:
            raise ConfigurationError(f"The model {entry.model_name!r}: the cost per second must be 0 or more dollars.")
        prices = dict.fromkeys(sizes, round(dollars * MICROS))
    elif known and set(sizes) <= set(known.prices):
        prices = {size: known.prices[size] for size in sizes}
    else:
        raise ConfigurationError(
            f"The model {entry.model_name!r} has no price: say model_info.output_cost_per_video_per_second."
        )
    variants = tuple(info.variants) if info.variants else ("video", "thumbnail", "spritesheet")
    return Capability(sizes, seconds, prices, variants, info.remix)


def _first(env: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((env[name] for name in names if env.get(name)), None)
