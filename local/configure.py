"""The app settings of a local run, and a copy of the project's config.yaml that is adapted to the
simulator's speed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from local.simulator.dialects.hosted_vllm import HostedVllm
from local.simulator.dialects.sglang import SGLang
from shared.config.catalog import KNOWN_MODELS
from shared.config.file import DEFAULT_FILE, read_yaml
from shared.dialects.dialect import Dialect
from shared.dialects.known import AZURE, DIALECTS
from shared.errors import ConfigurationError

MASTER_KEY = "sk-1234"

_POLL_SECONDS = 5.0
_SHORTEST_POLL_SECONDS = 0.2
_PARAMS = ("params", "litellm_params")

USUAL = {  # the model that a simulated server is asked for, unless another one is named
    "azure": "azure/sora-2",
    "openai": "openai/sora-2",
    "hosted_vllm": f"hosted_vllm/{HostedVllm.served}",
    "sglang": f"sglang/{SGLang.served}",
    "gemini": "gemini/veo-3.1-generate-preview",
}
# What models make that the gateway does not know, and their price in dollars a second.
_WAN = {
    "sizes": ["832x480", "480x832", "1280x720", "720x1280"],
    "seconds": [4, 5, 8],
    "output_cost_per_video_per_second": 0.01,
}
_VEO = {
    "sizes": ["1280x720", "720x1280", "1920x1080", "1080x1920"],
    "seconds": [4, 6, 8],
    "output_cost_per_video_per_second": 0.40,
}


@dataclass(frozen=True)
class Source:
    """The configuration file as written by the operator: its name and its content."""

    name: str
    document: Any

    def simulated(self, given: Mapping[str, str], model: str | None) -> dict[str, list[str]]:
        """The dialects that need a simulator, each with the names of its models: those of the
        deployments that take their address from app settings which are not there.
        """
        listed = self.document.get("model_list") if isinstance(self.document, dict) else None
        entries = listed if model is None and isinstance(listed, list) and listed else [_entry(model or USUAL["azure"])]
        found: dict[str, list[str]] = {}
        for entry in entries:
            dialect, name = _named(entry)
            if not has_address(entry) and not any(given.get(each) for each in base_names(dialect)):
                found.setdefault(dialect.name, []).append(name)
        return found


def read(given: Mapping[str, str]) -> Source:
    """The file that `GATEWAY_CONFIG` names, else the project's own. Raises ConfigurationError."""
    file = Path(given.get("GATEWAY_CONFIG") or DEFAULT_FILE)
    if not file.exists():
        raise ConfigurationError(f"The configuration file {str(file)!r} does not exist.")
    document = read_yaml(file)
    if not isinstance(document, dict):
        raise ConfigurationError(f"{file.name} must be a mapping with model_list in it.")
    return Source(file.name, document)


def has_address(entry: Any) -> bool:
    """Whether an entry of model_list has an address of its own."""
    dialect, _ = _named(entry)
    base = _params(entry).get("api_base", dialect.default_base)
    return base is not None and base not in [f"os.environ/{name}" for name in base_names(dialect)]


def base_names(dialect: Dialect) -> tuple[str, ...]:
    """The app settings that may hold a server's address."""
    return dialect.base_names or AZURE.base_names


def key_names(dialect: Dialect) -> tuple[str, ...]:
    """The app settings that may hold its key."""
    return dialect.key_names or AZURE.key_names


def _params(entry: Any) -> dict[str, Any]:
    """What an entry says of its deployment; nothing where it makes no sense."""
    found = next((entry[name] for name in _PARAMS if name in entry), None) if isinstance(entry, dict) else None
    return found if isinstance(found, dict) else {}


def _named(entry: Any) -> tuple[Dialect, str]:
    """The dialect of an entry, Azure's where it names none, and the server's name of the model."""
    params = _params(entry)
    provider, _, name = str(params.get("model", "")).partition("/")
    return DIALECTS.get(str(params.get("dialect", provider)), AZURE), name


def app_settings(given: Mapping[str, str], source: Source, folder: Path, *, speed: float, model: str | None) -> dict[str, str]:
    """The app's settings: those given, local defaults, and a configuration file that is derived
    from `source`. It is written to `folder` under the same name, which error messages then show.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / source.name
    target.write_text(
        f"# Written at every start from {source.name}; changes made here are lost.\n"
        + yaml.safe_dump(derive(source.document, speed=speed, model=model), sort_keys=False, allow_unicode=True),
        "utf-8",
    )
    defaults = {"TASK_HUB": "VideoGateway", "GATEWAY_MASTER_KEY": MASTER_KEY, "AzureWebJobsDisableHomepage": "true"}
    return defaults | {name: value for name, value in given.items() if value} | {"GATEWAY_CONFIG": str(target)}


def derive(config: dict[str, Any], *, speed: float = 1.0, model: str | None = None) -> dict[str, Any]:
    """A configuration for an upstream that runs `speed` times faster than Azure.

    The gateway polls that much more often (at most every 0.2 s) and sends that many more creates a
    minute. A deployment with an address of its own keeps its pace, and where there is one, so does
    the polling. With `model` (`azure/sora-2`), only that model is served, under its name with a
    dash (`azure-sora-2`). A wrong value is copied, so that the app itself reports it.
    """
    entries = config.get("model_list") if model is None else [_entry(model)]
    derived = dict(config)
    if isinstance(entries, list):
        derived["model_list"] = [_hurried_entry(entry, speed) for entry in entries]
    gateway = config.get("gateway") or {}
    own_pace = isinstance(entries, list) and any(has_address(entry) for entry in entries)
    if isinstance(gateway, dict) and not own_pace:
        derived["gateway"] = _hurried_gateway(gateway, speed)
    return derived


def _entry(model: str) -> dict[str, Any]:
    provider, _, name = model.partition("/")
    params = {"model": model}
    if not DIALECTS[provider].base_names:  # the app looks for the others by itself
        params |= {"api_base": f"os.environ/{AZURE.base_names[0]}", "api_key": f"os.environ/{AZURE.key_names[0]}"}
    entry = {"model_name": model.replace("/", "-"), "params": params}
    return entry if name in KNOWN_MODELS else {**entry, "model_info": _VEO if provider == "gemini" else _WAN}


def _hurried_entry(entry: Any, speed: float) -> Any:
    if not isinstance(entry, dict) or has_address(entry):
        return entry
    return {key: _hurried_params(value, speed) if key in _PARAMS else value for key, value in entry.items()}


def _hurried_params(params: Any, speed: float) -> Any:
    if not isinstance(params, dict):
        return params
    creates = params.get("creates_per_minute", _named({"params": params})[0].creates_per_minute)
    if not isinstance(creates, int):
        return params
    return params | {"creates_per_minute": max(1, round(creates * speed))}


def _hurried_gateway(gateway: dict[str, Any], speed: float) -> dict[str, Any]:
    poll = gateway.get("poll_seconds", _POLL_SECONDS)
    if not isinstance(poll, int | float):
        return gateway
    return gateway | {"poll_seconds": max(_SHORTEST_POLL_SECONDS, poll / speed)}
