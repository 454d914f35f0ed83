"""What the app is told locally: its app settings, and the project's own config.yaml, hurried as
much as the simulator is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from shared.errors import ConfigurationError

MASTER_KEY = "sk-1234"

_CONFIG = Path(__file__).parent.parent / "config.yaml"
_POLL_SECONDS = 5.0
_SHORTEST_POLL_SECONDS = 0.2
_CREATES_PER_MINUTE = 2
_PARAMS = ("params", "litellm_params")


def app_settings(given: Mapping[str, str], target: Path, *, speed: float, model: str | None) -> dict[str, str]:
    """The app's settings: those given, the local defaults, and `target` as its configuration file,
    written from the given one.

    Raises ConfigurationError where that file cannot be read.
    """
    write(Path(given.get("GATEWAY_CONFIG") or _CONFIG), target, speed=speed, model=model)
    defaults = {"TASK_HUB": "VideoGateway", "GATEWAY_MASTER_KEY": MASTER_KEY, "AzureWebJobsDisableHomepage": "true"}
    return defaults | {name: value for name, value in given.items() if value} | {"GATEWAY_CONFIG": str(target)}


def write(source: Path, target: Path, *, speed: float, model: str | None) -> None:
    """Derive `target` from `source`. Raises ConfigurationError where `source` cannot be read as
    YAML.
    """
    try:
        config = yaml.safe_load(source.read_text("utf-8")) or {}
    except FileNotFoundError as error:
        raise ConfigurationError(f"The configuration file {str(source)!r} does not exist.") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{source.name} is not valid YAML: {error}") from error
    if not isinstance(config, dict):
        raise ConfigurationError(f"{source.name} must be a mapping with model_list in it.")
    target.write_text(
        f"# Written at every start from {source.name}; changes made here are lost.\n"
        + yaml.safe_dump(derive(config, speed=speed, model=model), sort_keys=False, allow_unicode=True),
        "utf-8",
    )


def derive(config: dict[str, Any], *, speed: float = 1.0, model: str | None = None) -> dict[str, Any]:
    """A configuration for an upstream that runs `speed` times faster than life.

    The gateway polls that much more often (down to every 0.2 s) and sends that many more creates a
    minute. With `model` (`azure/sora-2`), that one alone is served, under its own name with a dash
    (`azure-sora-2`). What makes no sense stays as it is: the app's own settings say what is wrong
    with it.
    """
    entries = config.get("model_list") if model is None else [_entry(model)]
    derived = dict(config)
    if isinstance(entries, list):
        derived["model_list"] = [_hurried_entry(entry, speed) for entry in entries]
    gateway = config.get("gateway") or {}
    if isinstance(gateway, dict):
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
    if not isinstance(entry, dict):
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
