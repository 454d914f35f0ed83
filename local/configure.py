"""The app settings of a local run, and a copy of the project's config.yaml that is adapted to the
simulator's speed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shared.config.file import BASE_NAMES, DEFAULT_FILE, read_yaml
from shared.errors import ConfigurationError

MASTER_KEY = "sk-1234"

_POLL_SECONDS = 5.0
_SHORTEST_POLL_SECONDS = 0.2
_CREATES_PER_MINUTE = 2
_PARAMS = ("params", "litellm_params")


@dataclass(frozen=True)
class Source:
    """The configuration file as written by the operator: its name and its content."""

    name: str
    document: Any

    def is_simulated(self, given: Mapping[str, str], model: str | None) -> bool:
        """Whether the simulator is needed: some deployment takes its address from the app settings,
        and they have none.
        """
        if any(given.get(name) for name in BASE_NAMES):
            return False
        listed = self.document.get("model_list") if isinstance(self.document, dict) else None
        if model is not None or not isinstance(listed, list) or not listed:
            return True
        return any(not has_address(entry) for entry in listed)


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
    params = next((entry[name] for name in _PARAMS if name in entry), None) if isinstance(entry, dict) else None
    base = params.get("api_base") if isinstance(params, dict) else None
    return base is not None and base not in [f"os.environ/{name}" for name in BASE_NAMES]


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
    return {
        "model_name": model.replace("/", "-"),
        "params": {
            "model": model,
            "api_base": "os.environ/AZURE_OPENAI_API_BASE",
            "api_key": "os.environ/AZURE_OPENAI_API_KEY",
        },
    }


def _hurried_entry(entry: Any, speed: float) -> Any:
    if not isinstance(entry, dict) or has_address(entry):
        return entry
    return {key: _hurried_params(value, speed) if key in _PARAMS else value for key, value in entry.items()}


def _hurried_params(params: Any, speed: float) -> Any:
    if not isinstance(params, dict):
        return params
    creates = params.get("creates_per_minute", _CREATES_PER_MINUTE)
    if not isinstance(creates, int):
        return params
    return params | {"creates_per_minute": max(1, round(creates * speed))}


def _hurried_gateway(gateway: dict[str, Any], speed: float) -> dict[str, Any]:
    poll = gateway.get("poll_seconds", _POLL_SECONDS)
    if not isinstance(poll, int | float):
        return gateway
    return gateway | {"poll_seconds": max(_SHORTEST_POLL_SECONDS, poll / speed)}
