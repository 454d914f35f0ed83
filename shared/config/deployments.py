"""Turns the entries of config.yaml into models and deployments. Every mistake is an error that
names the entry.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from shared.config.abilities import read_capability
from shared.config.catalog import RETIREMENT_DATES, Deployment, Model
from shared.config.file import LOOPBACK, GatewayKnobs, ModelEntry, Params, first, read_key
from shared.dialects.dialect import Dialect
from shared.dialects.known import DIALECTS
from shared.errors import ConfigurationError


def read_models(entries: Iterable[ModelEntry], env: Mapping[str, str], longest_job: float) -> tuple[Model, ...]:
    """One Model per `model_name`: entries with the same name are deployments of one model.
    `longest_job` is how many seconds a job may run. Raises ConfigurationError.
    """
    by_name: dict[str, list[ModelEntry]] = {}
    for entry in entries:
        if not re.fullmatch(r"[A-Za-z0-9._/-]{1,128}", entry.model_name):
            raise ConfigurationError(f"The model_name {entry.model_name!r} may only hold letters, digits and . _ / -")
        by_name.setdefault(entry.model_name, []).append(entry)
    models = tuple(_read_model(name, members, env, longest_job) for name, members in by_name.items())
    names = [each.name for model in models for each in model.deployments]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"Two deployments are called {name!r}: give each its own model_info.id.")
    return models


def _read_model(name: str, entries: Sequence[ModelEntry], env: Mapping[str, str], longest_job: float) -> Model:
    deployments = tuple(_read_deployment(entry, env) for entry in entries)
    spoken = [(entry, each.dialect) for entry, each in zip(entries, deployments, strict=True)]
    capability, *others = (read_capability(entry, dialect, longest_job) for entry, dialect in spoken)
    if any(other != capability for other in others):
        raise ConfigurationError(
            f"The deployments of {name!r} differ in sizes, seconds, parameters or price: use two "
            "model names, and gateway.fallbacks between them."
        )
    spellings = [*(entry.params.model for entry in entries), *(each.model for each in deployments), name.rpartition("/")[2]]
    return Model(name, capability, deployments, tuple(dict.fromkeys(spellings)))


def _read_dialect(params: Params) -> tuple[Dialect, str]:
    """The dialect of a deployment, and the server's name of the model: everything behind the first
    slash, since the name may hold slashes itself.
    """
    provider, _, rest = params.model.partition("/")
    model = rest if provider in DIALECTS else params.model
    dialect = DIALECTS.get(params.dialect or provider)
    if dialect is None or not model:
        kinds = ", ".join(f"{each.name}/<model> for {each.meaning}" for each in DIALECTS.values())
        raise ConfigurationError(f"model_list: {params.model!r} names no kind of server. There are: {kinds}.")
    return dialect, model


def _read_deployment(entry: ModelEntry, env: Mapping[str, str]) -> Deployment:
    params = entry.params
    dialect, model = _read_dialect(params)
    address = _read_address(entry, dialect, env)
    running, creates = _read_limits(entry, dialect)
    return Deployment(
        name=entry.model_info.id or f"{_place(address)}/{model}",
        dialect=dialect,
        model=model,
        base_url=address,
        api_key=read_key(params.api_key, env, dialect.key_names, f"The model {entry.model_name!r}"),
        api_version=_checked_version(params.api_version or first(env, dialect.version_names)),
        token_scope=params.token_scope,
        max_running=running,
        creates_per_minute=creates,
        base_model=entry.model_info.base_model,
        retires=RETIREMENT_DATES.get(f"{dialect.name}/{(entry.model_info.base_model or model).rpartition('/')[2]}"),
        delete_after_saving=dialect.keeps_copies if params.delete_after_saving is None else params.delete_after_saving,
        remakes_lost_jobs=dialect.forgets if params.on_lost_job is None else params.on_lost_job == "retry",
        upstream_queue_seconds=params.upstream_queue_seconds,
        content_hosts=tuple(each.strip().lower() for each in params.content_hosts),
        shared=dialect.shared if params.shared is None else params.shared,
    )


def _read_address(entry: ModelEntry, dialect: Dialect, env: Mapping[str, str]) -> str:
    base = entry.params.api_base or first(env, dialect.base_names) or dialect.default_base
    if not base:
        wanted = " or ".join([*dialect.base_names[:1], "api_base"])
        raise ConfigurationError(f"The model {entry.model_name!r} has no upstream address: set {wanted}.")
    return normalise_base(base, dialect)


def _read_limits(entry: ModelEntry, dialect: Dialect) -> tuple[int, int]:
    """`max_running` and `creates_per_minute`."""
    given = entry.params
    running = dialect.max_running if given.max_running is None else given.max_running
    creates = dialect.creates_per_minute if given.creates_per_minute is None else given.creates_per_minute
    if min(running, creates) < 1:
        raise ConfigurationError(f"The model {entry.model_name!r}: max_running and creates_per_minute must be at least 1.")
    return running, creates


def _place(address: str) -> str:
    """A short name of the server: the first part of its host."""
    host = urlsplit(address).hostname or ""
    return "local" if host in LOOPBACK else host.partition(".")[0]


def normalise_base(base: str, dialect: Dialect) -> str:
    """The address under which `/videos` lies, the same for every accepted spelling of a base.

    Raises ConfigurationError.
    """
    try:
        parts = urlsplit(base.strip())
        _ = parts.port  # read for its check alone
    except ValueError as error:
        raise ConfigurationError("An upstream address (api_base) must be an https:// URL.") from error
    schemes = ("https", "http") if parts.hostname in LOOPBACK or not dialect.needs_tls else ("https",)
    if parts.scheme not in schemes or not parts.hostname:
        raise ConfigurationError("An upstream address (api_base) must be an https:// URL.")
    if parts.username or parts.password or parts.query:
        raise ConfigurationError("An upstream address (api_base) must not contain credentials or a query.")
    if "/api/projects" in parts.path.lower():
        raise ConfigurationError(
            "An upstream address (api_base) is that of a project (/api/projects/…); videos need the resource's own, "
            "https://<resource>.openai.azure.com."
        )
    spelled = "".join(f"(/{each})?" for each in [*dialect.path.strip("/").split("/"), "videos"])
    path = re.sub(rf"{spelled}/*$", "", parts.path)
    return f"{parts.scheme}://{parts.netloc}{path.rstrip('/')}{dialect.path}"


def _checked_version(version: str | None) -> str | None:
    if version not in (None, "", "preview", "v1"):
        raise ConfigurationError(
            f"The api_version {version!r} does not exist on the v1 surface: leave it out, or use 'preview'."
        )
    return version or None


def read_fallbacks(knobs: GatewayKnobs, models: Iterable[Model]) -> dict[str, tuple[str, ...]]:
    """`gateway.fallbacks`, checked against the models. Raises ConfigurationError."""
    names = {model.name for model in models}
    for name in {*knobs.fallbacks, *(other for others in knobs.fallbacks.values() for other in others)}:
        if name not in names:
            raise ConfigurationError(
                f"gateway.fallbacks names {name!r}, which is no model_name. There are: {', '.join(sorted(names))}."
            )
    return {name: tuple(others) for name, others in knobs.fallbacks.items()}
