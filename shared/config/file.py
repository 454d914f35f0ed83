"""The shape of config.yaml, and how it is read: references to app settings, names of other
gateways, suggestions for typos.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from shared.config import guardrail
from shared.config.browsers import Cors, Waiting
from shared.config.catalog import AZURE_OPENAI_SCOPE
from shared.config.entra import Entra
from shared.config.exports import Exports
from shared.config.guardrail import BlockedPattern, BlockedWord, Guardrail, GuardrailParams
from shared.dialects.azure import Azure
from shared.dialects.parameters import Kind
from shared.errors import ConfigurationError

DEFAULT_FILE = Path(__file__).parents[2] / "config.yaml"
LOOPBACK = ("localhost", "127.0.0.1", "::1")  # hosts that are this machine
BASE_NAMES, KEY_NAMES = Azure.base_names, Azure.key_names
# An address and a key have several names each. A key may be absent: then the app's identity is
# used.
_SAME = (BASE_NAMES, KEY_NAMES, guardrail.ADDRESS_NAMES, guardrail.KEY_NAMES)

# Bounds, so that a typo becomes neither a busy loop nor a date out of range.
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=30 * 86_400)]
_Days = Annotated[int, msgspec.Meta(ge=1, le=36_500)]
_HostName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z][a-z0-9-]*$")]
_UrlSeconds = Annotated[int, msgspec.Meta(ge=1, le=6 * 86_400)]  # the key that signs a URL lives at most seven days


class GatewayKnobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `gateway:` section of config.yaml.

    `poll_seconds`: the time between two looks at a running video. `close_poll_seconds`: the least
    time between two looks, used when its end is near. `deadline_seconds`: how long a job may run
    before the video fails. `delivery`: `redirect` to a signed URL, which works for `url_seconds`,
    or `proxy` the bytes through the app. `retention_days`: how long a finished video's bytes are
    kept; None means forever. `log_prompts`: whether the log and the logging providers get prompts,
    parameters and error messages. `reconcile_seconds`: how long the job of an unclear create is
    looked for before it counts as never made. `on_unclear`: whether the create is then sent once
    more (`retry`), or the video fails (`fail`), so that it is never paid for twice.
    `queue_seconds`: how long a video may wait for capacity. `recreate_remixes`: whether a remix
    with another length, size or image is made anew, which no upstream's own remix can do.
    `reference_hosts`: the hosts that reference images may be fetched from. `fallbacks`: the models
    that replace a model, in order, while all its deployments are down. `webhook_networks`: networks
    that are not public and that webhooks may go to (`10.0.0.0/8`). `cors`: the web pages that may
    call. `waiting`: how many calls may wait for news of videos. `trace_upstreams`: whether
    upstreams are told which trace a call belongs to. `manifests`: whether each completed video gets
    a blob `<id>.json` that tells of it. `exports`: where the tables are exported to every day.
    """

    poll_seconds: _Seconds = 5.0
    close_poll_seconds: _Seconds = 0.4
    deadline_seconds: _Seconds = 1800.0
    delivery: Literal["redirect", "proxy"] = "redirect"
    retention_days: _Days | None = None
    log_prompts: bool = True
    url_seconds: _UrlSeconds = 900
    reconcile_seconds: _Seconds = 120.0
    on_unclear: Literal["fail", "retry"] = "retry"
    queue_seconds: _Seconds = 86_400.0
    recreate_remixes: bool = True
    reference_hosts: list[_HostName] = []
    fallbacks: dict[str, list[str]] = {}
    webhook_networks: list[str] = []
    cors: Cors = Cors()
    waiting: Waiting = Waiting()
    trace_upstreams: bool = False
    manifests: bool = False
    exports: Exports | None = None


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a deployment is, how it is reached, and what it allows."""

    model: str
    dialect: str | None = None
    api_base: str | None = None
    api_key: str | None = None
    api_version: str | None = None
    token_scope: str = AZURE_OPENAI_SCOPE
    max_running: int | None = None
    creates_per_minute: int | None = None
    delete_after_saving: bool | None = None
    on_lost_job: Literal["retry", "fail"] | None = None
    upstream_queue_seconds: _Seconds | None = None
    content_hosts: list[str] = []
    shared: bool | None = None


class Lengths(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every whole number of seconds from `min` to `max`."""

    min: int
    max: int


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a parameter differs from what the dialect says of it; a new one needs a `type`."""

    type: Kind | None = None
    min: float | None = None
    max: float | None = None
    choices: list[str] | None = None


class ModelInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model can do, and what it costs in dollars: required for a model that neither the
    gateway nor its dialect knows.
    """

    id: str | None = None
    base_model: str | None = None
    mode: Literal["video_generation"] = "video_generation"  # as LiteLLM's files have it
    sizes: list[str] | Literal["any"] | None = None
    seconds: list[int] | Lengths | None = None
    fps: Annotated[float, msgspec.Meta(gt=0, le=240)] | None = None
    resizes_references: bool | None = None
    parameters: dict[str, bool | Bounds] = {}
    remix: bool = True
    variants: list[Literal["video", "thumbnail", "spritesheet"]] | None = None
    output_cost_per_video_per_second: float | dict[str, float] | None = None
    output_cost_per_second: float | None = None
    output_cost_per_video: float | None = None
    output_cost_per_gpu_second: float | None = None
    max_gpu_seconds: _Seconds | None = None


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One deployment of one model, in LiteLLM's shape."""

    model_name: str
    params: Params
    model_info: ModelInfo = ModelInfo()


class General(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the gateway as a whole. `max_budget` is in dollars. `alerting` names logging
    providers, as `callbacks` of `litellm_settings` does. `entra`: whose tokens callers may send
    instead of a key.
    """

    master_key: str | None = None
    max_budget: float | None = None
    budget_duration: str | None = None
    alerting: list[str] = []
    datadog_api_key: str | None = None
    entra: Entra | None = None


class Litellm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The logging providers: those of `success_callback` are told of completed videos, those of
    `failure_callback` of failures, and those of `callbacks` of both.
    """

    callbacks: list[str] = []
    success_callback: list[str] = []
    failure_callback: list[str] = []


class ConfigFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file; every section may be absent."""

    model_list: list[ModelEntry] = []
    general_settings: General = General()
    litellm_settings: Litellm = Litellm()
    gateway: GatewayKnobs = GatewayKnobs()
    guardrails: list[Guardrail] = []


def read_file(env: Mapping[str, str]) -> ConfigFile:
    """The file that `GATEWAY_CONFIG` names, else config.yaml beside the app, else an empty one.
    Raises ConfigurationError.
    """
    named = env.get("GATEWAY_CONFIG")
    path = DEFAULT_FILE.parent / named if named else DEFAULT_FILE  # an absolute path stays what it is
    if not path.exists():
        if named:
            raise ConfigurationError(f"GATEWAY_CONFIG names {path.name!r}, which does not exist.")
        return ConfigFile()
    return _convert(_renamed(_resolved(read_yaml(path), env)), ConfigFile, path.name)


def read_yaml(path: Path) -> Any:
    """The document in a file, {} for an empty one. Raises ConfigurationError, which quotes nothing
    of the file, because any line may hold a key.
    """
    import yaml

    try:
        return yaml.safe_load(path.read_text("utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path.name} cannot be read as a text file in UTF-8.") from error
    except yaml.YAMLError as error:
        # The error's own text quotes the line, so it is not chained. Its `problem` may quote a
        # name.
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it holds a character that YAML does not allow"
        told = re.sub(r"'[^']{3,}'", "'…'", problem)
        raise ConfigurationError(f"{path.name}{place} is not valid YAML: {told}.") from None


def _resolved(value: Any, env: Mapping[str, str], where: str = "") -> Any:
    """Replace every `os.environ/NAME` by the app setting NAME. Raises ConfigurationError if that is
    not set.
    """
    if isinstance(value, dict):
        return {key: _resolved(each, env, f"{where}.{key}") for key, each in value.items()}
    if isinstance(value, list):
        return [_resolved(each, env, f"{where}[{index}]") for index, each in enumerate(value)]
    if isinstance(value, str) and value.startswith("os.environ/"):
        name = value.removeprefix("os.environ/")
        for names in _SAME:
            if name in names:
                return first(env, (name, *names))
        if name not in env:
            raise ConfigurationError(f"{where.lstrip('.')} refers to the app setting {name}, which is not set.")
        return env[name]
    return value


def _renamed(document: Any) -> Any:
    """Accept `litellm_params`, LiteLLM's name, for `params`."""
    for section in ("model_list", "guardrails"):
        entries = document.get(section) if isinstance(document, dict) else None
        for entry in entries if isinstance(entries, list) else ():
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
    """A suggestion for an unknown key: the known key that resembles it."""
    unknown = re.search(r"unknown field `([^`]+)`", complaint)
    if not unknown:
        return ""
    models = (ConfigFile, ModelEntry, Params, ModelInfo, Lengths, Bounds, General, Litellm, Entra)
    knobs = (GatewayKnobs, Cors, Waiting, Exports)
    guardrails = (Guardrail, GuardrailParams, BlockedWord, BlockedPattern)
    known = [name for kind in (*models, *knobs, *guardrails) for name in kind.__struct_encode_fields__]
    alike = difflib.get_close_matches(unknown[1], known, n=1)
    return f" Did you mean `{alike[0]}`?" if alike else ""


def read_key(given: str | None, env: Mapping[str, str], names: Iterable[str], whose: str) -> str | None:
    """The key in the file, or else in the first of these app settings that is set; None means the
    app's identity. `whose` begins the message. Raises ConfigurationError.
    """
    # A secret that was pasted or piped may end in a newline, which no header may contain.
    key = (given or first(env, names) or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(f"{whose}: its api_key holds characters that no HTTP header may.")
    return key or None


def first(env: Mapping[str, str], names: Iterable[str]) -> str | None:
    """The value of the first of these app settings that is set."""
    return next((env[name] for name in names if env.get(name)), None)
