"""Loads a Functions app the way the host indexes it: its functions, their bindings, its
host.json.
"""

import importlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import azure.functions as func

_TRIGGERS = {"httpTrigger", "timerTrigger", "queueTrigger", "activityTrigger", "orchestrationTrigger"}
_OTHERS = {"http", "durableClient", "queue", "blob"}
_BINDING_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*|\$return")
_SETTING = re.compile(r"%([^%]+)%")


class LoadError(ValueError):
    """The app or its host.json cannot be served; the message names the function, or the setting
    that is missing.
    """


@dataclass(frozen=True)
class Binding:
    """One line of a function's declaration: `kind` is its type (`httpTrigger`), `name` the argument
    it fills.
    """

    kind: str
    name: str
    properties: Mapping[str, Any]


@dataclass(frozen=True)
class Function:
    """`call` takes one keyword argument per binding, except for the one named `$return`."""

    name: str
    call: Callable[..., Any]
    trigger: Binding
    others: tuple[Binding, ...]


@dataclass(frozen=True)
class Functions:
    """An app: its functions in the host's order (by name, ignoring case), its app settings and its
    host.json.
    """

    members: tuple[Function, ...]
    settings: Mapping[str, str]
    host: Mapping[str, Any]

    def triggered_by(self, kind: str) -> list[Function]:
        return [function for function in self.members if function.trigger.kind == kind]

    def extension(self, name: str) -> Mapping[str, Any]:
        """A block of host.json's `extensions`, empty if it is not there."""
        block: Mapping[str, Any] = self.host.get("extensions", {}).get(name, {})
        return block

    def connection(self, name: str) -> str:
        """The connection string in the app setting that a binding calls `name`. Raises LoadError if
        there is none.
        """
        value = self.settings.get(name) or self.settings.get(f"AzureWebJobs{name}")
        if not value:
            raise LoadError(f"app setting {name} is missing: it holds a connection string")
        return value


def load(module: str = "function_app", settings: Mapping[str, str] | None = None) -> Functions:
    """Import `module` and read its one app, with the host.json beside it. Settings default to the
    environment.
    """
    folder, app = _imported(module)
    return _resolved(_indexed(app), folder, settings)


def read(app: func.FunctionRegister, folder: Path, settings: Mapping[str, str] | None = None) -> Functions:
    """As `load()`, for an app object at hand and the folder of its host.json."""
    return _resolved(_indexed(app), folder, settings)


def _imported(module: str) -> tuple[Path, func.FunctionRegister]:
    namespace = importlib.import_module(module)
    apps = [value for value in vars(namespace).values() if isinstance(value, func.FunctionRegister)]
    if len(apps) != 1:
        raise LoadError(f"{module} must hold exactly one app under one name, and holds {len(apps)}")
    if namespace.__file__ is None:
        raise LoadError(f"{module} is not a file, so it has no host.json beside it")
    return Path(namespace.__file__).parent, apps[0]


@cache  # get_functions() of one app can be called only once: it takes its own names for duplicates the second time
def _indexed(app: func.FunctionRegister) -> tuple[Function, ...]:
    functions = [_function(builder) for builder in app.get_functions()]
    # .NET's OrdinalIgnoreCase compares upper-case letters, which puts `_` after them.
    return tuple(sorted(functions, key=lambda function: function.name.upper()))


def _function(declared: Any) -> Function:
    name = declared.get_function_name()
    bindings = [_binding(name, json.loads(raw)) for raw in declared.get_raw_bindings()]
    triggers = [binding for binding in bindings if binding.kind in _TRIGGERS]
    if len(triggers) != 1:
        raise LoadError(f"function {name} must have exactly one trigger, and has {len(triggers)}")
    others = tuple(binding for binding in bindings if binding is not triggers[0])
    return Function(name, declared.get_user_function(), triggers[0], others)


def _binding(function: str, raw: dict[str, Any]) -> Binding:
    kind, name = raw["type"], raw["name"]
    if kind not in _TRIGGERS | _OTHERS:
        raise LoadError(f"function {function}: the local host has no {kind} binding")
    if not _BINDING_NAME.fullmatch(name):
        raise LoadError(f"function {function}: binding name {name!r} may have only letters and digits, a letter first")
    return Binding(kind, name, raw)


def _resolved(indexed: tuple[Function, ...], folder: Path, settings: Mapping[str, str] | None) -> Functions:
    known = dict(os.environ if settings is None else settings)
    file = folder / "host.json"
    host = json.loads(file.read_text()) if file.exists() else {}
    members = tuple(
        Function(
            function.name,
            function.call,
            _substituted_binding(function.trigger, known, f"function {function.name}"),
            tuple(_substituted_binding(binding, known, f"function {function.name}") for binding in function.others),
        )
        for function in indexed
    )
    return Functions(members, known, _substituted(host, known, "host.json"))


def _substituted_binding(binding: Binding, settings: Mapping[str, str], where: str) -> Binding:
    return Binding(binding.kind, binding.name, _substituted(binding.properties, settings, where))


def _substituted(value: Any, settings: Mapping[str, str], where: str) -> Any:
    """`value` with every `%NAME%` in its strings replaced by the app setting NAME."""
    if isinstance(value, Mapping):
        return {key: _substituted(item, settings, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_substituted(item, settings, where) for item in value]
    if not isinstance(value, str):
        return value

    def setting(reference: re.Match[str]) -> str:
        if (found := settings.get(reference[1])) is None:
            raise LoadError(f"app setting {reference[1]} is missing: {where} needs it for {value!r}")
        return found

    return _SETTING.sub(setting, value)
