"""`python -m local from-litellm FILE`: what a LiteLLM configuration becomes here.

Prints the config.yaml that serves the same video models, and, line by line, what happened to
everything else. Nothing is sent, and no value of the file is printed but model names: it may hold
keys, which are to become `os.environ/…` references.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from shared.config.deployments import read_models
from shared.config.file import GatewayKnobs, General, Litellm, ModelEntry, ModelInfo, Params, read_yaml
from shared.config.sinks import SINKS
from shared.errors import ConfigurationError

_HERE = {  # LiteLLM's name → what does the same here
    "rpm": "creates_per_minute, of the upstream's own limit; rpm_limit of a key",
    "max_parallel_requests": "max_running",
    "timeout": "deadline_seconds, under gateway:",
    "tpm": "nothing: videos have no tokens",
    "input_cost_per_token": "nothing: videos have no tokens",
    "output_cost_per_token": "nothing: videos have no tokens",
    "max_budget": "general_settings.max_budget, or max_budget of a key",
    "database_url": "nothing: Table Storage keeps keys, budgets and videos",
    "store_model_in_db": "nothing: models are in config.yaml",
    "num_retries": "nothing: what proves that no job was made is tried again by itself",
    "fallbacks": "fallbacks, under gateway:",
    "default_fallbacks": "fallbacks, under gateway:",
    "drop_params": "nothing: an unknown parameter is refused",
    "routing_strategy": "nothing: a free deployment is taken, waiting is fair between keys",
}
_NAMES_SINKS = ("alerting", *Litellm.__struct_fields__)  # lists of logging providers
_SECTIONS = ("router_settings", "environment_variables", "guardrails", "credential_list")


@dataclass
class Move:
    """A configuration for here, and what is to be said about how it was made."""

    document: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def left_out(self, place: str, name: str) -> None:
        self.remarks.append(f"{place}{name}: left out. Here: {_HERE.get(name, 'nothing')}.")


def move(document: Any) -> Move:
    """What a LiteLLM configuration becomes. Raises ConfigurationError for what is none."""
    if not isinstance(document, dict) or not isinstance(document.get("model_list"), list):
        raise ConfigurationError("This is no LiteLLM configuration: it has no list model_list.")
    moved = Move()
    entries = [entry for given in document["model_list"] if (entry := _entry(given, moved)) is not None]
    if entries:
        moved.document["model_list"] = entries
    for section, known in (("general_settings", General), ("litellm_settings", Litellm)):
        kept = _kept(document.get(section) or {}, known.__struct_fields__, f"{section}.", moved)
        kept = {
            name: _served(value, f"{section}.{name}", moved) if name in _NAMES_SINKS else value for name, value in kept.items()
        }
        if kept:
            moved.document[section] = kept
    for section in _SECTIONS:
        for name in document.get(section) or {}:
            moved.left_out(f"{section}.", str(name))
    return moved


def _entry(given: Any, moved: Move) -> dict[str, Any] | None:
    """A deployment as it is written here; None for one that cannot be served."""
    name = str(given.get("model_name")) if isinstance(given, dict) else "an entry"
    params = given.get("litellm_params") or given.get("params") if isinstance(given, dict) else None
    if not isinstance(params, dict) or not isinstance(params.get("model"), str):
        moved.remarks.append(f"{name}: left out, it has no litellm_params.model.")
        return None
    entry = {
        "model_name": name,
        "params": _kept(params, Params.__struct_fields__, f"{name}: litellm_params.", moved),
        "model_info": _kept(given.get("model_info") or {}, ModelInfo.__struct_fields__, f"{name}: model_info.", moved),
    }
    trouble = _trouble(entry)
    moved.remarks.append(f"{name}: {'served' if trouble is None else f'left out. {trouble}'}")
    return entry if trouble is None else None


def _trouble(entry: dict[str, Any]) -> str | None:
    """Why the app would refuse an entry, by its own check. References stand for themselves."""
    params = {name: _example(name, value) for name, value in entry["params"].items()}
    try:
        model = ModelEntry(entry["model_name"], Params(**params), ModelInfo(**entry["model_info"]))
        read_models([model], {}, GatewayKnobs().deadline_seconds)
    except (ConfigurationError, TypeError, AttributeError) as error:
        return error.message if isinstance(error, ConfigurationError) else "A value has another type than here."
    return None


def _example(name: str, value: Any) -> Any:
    """A value in the place of a reference: nothing is read from the environment here."""
    if isinstance(value, str) and value.startswith("os.environ/"):
        return "https://example.com" if name == "api_base" else None
    return value


def _served(names: Any, place: str, moved: Move) -> list[str]:
    """The logging providers of a list that are served here too."""
    given = [str(name) for name in names] if isinstance(names, list) else []
    moved.remarks += [f"{place}: {name} left out. Here: {', '.join(SINKS)}." for name in given if name not in SINKS]
    return [name for name in given if name in SINKS]


def _kept(given: Any, known: tuple[str, ...], place: str, moved: Move) -> dict[str, Any]:
    kept = {}
    for name, value in given.items() if isinstance(given, dict) else ():
        if name in known:
            kept[name] = value
        else:
            moved.left_out(place, str(name))
    return kept


def lines(file: Path) -> Iterator[str]:
    """What is printed: the configuration, and every remark as a comment before it. Raises
    ConfigurationError.
    """
    moved = move(read_yaml(file))
    yield f"# Made from {file.name}."
    for remark in moved.remarks:
        yield f"# {remark}"
    yield yaml.safe_dump(_without_secrets(moved.document), sort_keys=False, allow_unicode=True)


def _without_secrets(document: dict[str, Any]) -> dict[str, Any]:
    """Keys that stand in the file become references to app settings."""
    for entry in document.get("model_list", []):
        key = entry["params"].get("api_key")
        if isinstance(key, str) and not key.startswith("os.environ/"):
            entry["params"]["api_key"] = "os.environ/AZURE_OPENAI_API_KEY"
    general = document.get("general_settings", {})
    for name, setting in (("master_key", "GATEWAY_MASTER_KEY"), ("datadog_api_key", "DATADOG_API_KEY")):
        if general.get(name):
            general[name] = f"os.environ/{setting}"
    return document
