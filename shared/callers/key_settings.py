"""A key's settings: checks those that the operator sets, and shows a key in an answer."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from shared.accounts.account import Account, resets_at, rolled
from shared.capacity.slots import HIGHEST_PRIORITY
from shared.config.catalog import MICROS, Catalog
from shared.errors import InvalidRequest
from shared.events.webhooks.addresses import Addresses
from shared.media.requests import refuse_unknown
from shared.periods import check_length, later

_MOST_DOLLARS = 1_000_000_000
_MOST_COUNT = 1_000_000_000
_HOST = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63}){1,8}")
_LONGEST_ALIAS, _LONGEST_USER, _LONGEST_TAG = 128, 256, 64
_MOST_TAGS, _MOST_MODELS = 32, 128
_LARGEST_METADATA, _DEEPEST_METADATA = 8_192, 32  # bytes of JSON, levels

Fields = Mapping[str, Any]


def parse_settings(fields: Fields, catalog: Catalog, now: datetime, *, also: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of an Account that a request sets. An absent field keeps its value, null clears
    it. `also` names fields of the request that are not settings.

    Raises InvalidRequest before anything is changed.
    """
    _refuse_unkept(fields)
    fields = {name: value for name, value in fields.items() if name not in _UNKEPT}
    refuse_unknown(fields, (*_PARSERS, "models", "duration", *also))
    changes: dict[str, Any] = {}
    for name, (target, parse) in _PARSERS.items():
        if name in fields:
            value = fields[name]
            changes[target] = _EMPTY.get(target) if value is None else parse(name, value)
    if "models" in fields:
        changes["models"] = "[]" if fields["models"] is None else _models(fields["models"], catalog)
    if "duration" in fields:
        length = fields["duration"]
        changes["expires"] = None if length is None else later(now, check_length(length, "duration"))
    if changes.get("blocked", ...) is None:
        raise InvalidRequest("`blocked` must be true or false.", code="invalid_type", param="blocked")
    return changes


def complete_settings(fields: Fields, catalog: Catalog, now: datetime) -> dict[str, Any]:
    """Every setting that a configuration decides, in the fields of an Account: those given, and the
    others as a new key has them. Raises InvalidRequest.
    """
    new = Account()
    others = {target: getattr(new, target) for target, _ in _PARSERS.values() if target not in _OPERATORS}
    return {**others, "models": new.models, **parse_settings(fields, catalog, now)}


# LiteLLM's fields that would promise what is not done here, and what to use instead.
_UNKEPT = {
    **dict.fromkeys(("model_max_budget", "budget_limits"), "one budget a key: `max_budget` and `budget_duration`"),
    **dict.fromkeys(("model_rpm_limit", "model_tpm_limit", "rpm_limit_type", "tpm_limit_type"), "one rate a key: `rpm_limit`"),
    **dict.fromkeys(("budget_id", "budget_fallbacks", "throttle_on_budget_exceeded"), "budgets are of keys: `max_budget`"),
    **dict.fromkeys(("allowed_routes", "key_type", "object_permission"), "a key may use every route of its own videos"),
    **dict.fromkeys(("auto_rotate", "rotation_interval"), "POST /key/regenerate"),
    **dict.fromkeys(("guardrails", "policies"), "none of a key's own"),
    **dict.fromkeys(("allowed_cache_controls", "config", "enforced_params", "router_settings"), "nothing"),
    **dict.fromkeys(("spend", "temp_budget_increase", "temp_budget_expiry", "grace_period"), "nothing"),
    **dict.fromkeys(("send_invite_email", "project_id", "agent_id"), "nothing"),
}


def _refuse_unkept(fields: Fields) -> None:
    """Raises InvalidRequest that names all of LiteLLM's fields that are not done here, at once. One
    that is null promises nothing.
    """
    unkept = [name for name in _UNKEPT if fields.get(name) is not None]
    if unkept:
        told = "; ".join(f"`{name}` (instead: {_UNKEPT[name]})" for name in unkept)
        raise InvalidRequest(f"Not done here, leave it out: {told}.", code="not_supported", param=unkept[0])


def show(key_id: str, account: Account, now: datetime) -> dict[str, Any]:
    """A key as an answer shows it: settings and counters, money in dollars, times in ISO 8601.
    Never the secret.
    """
    account = rolled(account, now)
    return {
        "key_id": key_id,
        "key_name": account.name,
        "key_alias": account.alias,
        "status": _status(account, now),
        "spend": _dollars(account.spend),
        "reserved": _dollars(account.reserved),
        "max_budget": _dollars(account.max_budget),
        "soft_budget": _dollars(account.soft_budget),
        "budget_duration": account.budget_duration,
        "budget_reset_at": _time(resets_at(account, now)),
        "models": json.loads(account.models),
        "rpm_limit": account.rpm_limit,
        "max_parallel_requests": account.max_parallel_requests,
        "running": account.running,
        "max_seconds_per_video": account.max_seconds_per_video,
        "seconds_limit": account.seconds_limit,
        "priority": account.priority,
        "seconds_used": account.seconds_used + account.seconds_reserved,
        "user_id": account.user_id,
        "team_id": account.team_id,
        "organization_id": account.organization_id,
        "tpm_limit": account.tpm_limit,
        "aliases": json.loads(account.aliases),
        "permissions": json.loads(account.permissions),
        "tags": json.loads(account.tags),
        "metadata": json.loads(account.metadata),
        "webhook_url": account.webhook_url,
        "callback_hosts": json.loads(account.callback_hosts),
        "blocked": account.blocked,
        "expires": _time(account.expires),
        "created_at": _time(account.created_at),
        "updated_at": _time(account.updated_at),
    }


def _status(account: Account, now: datetime) -> str:
    if account.deleted:
        return "deleted"
    if account.blocked:
        return "revoked"
    return "expired" if account.expires is not None and account.expires <= now else "active"


def _money(name: str, value: Any) -> int:
    """Dollars as micro-dollars."""
    if not _is_number(value) or not 0 <= value <= _MOST_DOLLARS:
        raise InvalidRequest(f"`{name}` must be a number of dollars from 0 to {_MOST_DOLLARS}.", param=name)
    micros = round(float(value) * MICROS)
    if micros == 0 and value > 0:
        raise InvalidRequest(f"`{name}` must be 0 or at least 0.000001 dollars.", param=name)
    return micros


def _count(name: str, value: Any) -> int:
    """A whole number."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_COUNT:
        raise InvalidRequest(f"`{name}` must be a whole number from 0 to {_MOST_COUNT}.", param=name)
    return value


def _priority(name: str, value: Any) -> int:
    """A weight: a key of priority 3 starts three waiting videos for each one of a key of priority
    1.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= HIGHEST_PRIORITY:
        raise InvalidRequest(f"`{name}` must be a whole number from 1 to {HIGHEST_PRIORITY}.", param=name)
    return value


def _text(longest: int) -> Callable[[str, Any], str]:
    def parse(name: str, value: Any) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= longest:
            raise InvalidRequest(f"`{name}` must be a text of 1 to {longest} characters.", param=name)
        return value

    return parse


def _tags(name: str, value: Any) -> str:
    good = isinstance(value, list) and len(value) <= _MOST_TAGS
    if not good or any(not isinstance(each, str) or not 0 < len(each) <= _LONGEST_TAG for each in value):
        raise InvalidRequest(
            f"`{name}` must be a list of at most {_MOST_TAGS} texts of 1 to {_LONGEST_TAG} characters.", param=name
        )
    return json.dumps(list(dict.fromkeys(value)))


def _metadata(name: str, value: Any) -> str:
    fits = isinstance(value, dict) and not _is_deeper(value, _DEEPEST_METADATA)
    # Bytes are the image of a long data URL, and as text too long as well.
    text = json.dumps(value, default=str) if fits else ""
    if not text or len(text) > _LARGEST_METADATA:
        raise InvalidRequest(
            f"`{name}` must be an object of at most {_LARGEST_METADATA} bytes of JSON and {_DEEPEST_METADATA} levels.",
            param=name,
        )
    return text


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether a value is nested deeper than `levels`. JSON nested too deep could be stored, but not
    parsed again.
    """
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_is_deeper(each, levels - 1) for each in inner)


def _url(name: str, value: Any) -> str:
    """The operator chooses it, so the key's own hosts do not bind it. Where it leads is checked at
    each delivery.
    """
    return Addresses().check(value, (), name)


def _hosts(name: str, value: Any) -> str:
    good = isinstance(value, list) and len(value) <= _MOST_TAGS
    if not good or any(not isinstance(each, str) or not _HOST.fullmatch(each) for each in value):
        raise InvalidRequest(f"`{name}` must be a list of at most {_MOST_TAGS} host names, in lower case.", param=name)
    return json.dumps(list(dict.fromkeys(value)))


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest(f"`{name}` must be true or false.", code="invalid_type", param=name)
    return value


def _length(name: str, value: Any) -> str:
    return check_length(value, name)


def _models(value: Any, catalog: Catalog) -> str:
    """The model names as JSON text, each as the catalog has it, because requests are compared under
    that name whatever alias they use.
    """
    if not isinstance(value, list) or len(value) > _MOST_MODELS or any(not isinstance(each, str) for each in value):
        raise InvalidRequest(f"`models` must be a list of at most {_MOST_MODELS} model names.", param="models")
    names = []
    for each in value:
        model = catalog.spelled(each)
        if model is None:
            known = ", ".join(model.name for model in catalog.models)
            raise InvalidRequest(f"`models` names a model that is not configured. Available models: {known}.", param="models")
        names.append(model.name)
    return json.dumps(list(dict.fromkeys(names)))


# Field of the request → field of the account, and the function that checks it.
_PARSERS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "key_alias": ("alias", _text(_LONGEST_ALIAS)),
    "user_id": ("user_id", _text(_LONGEST_USER)),
    "team_id": ("team_id", _text(_LONGEST_USER)),
    "organization_id": ("organization_id", _text(_LONGEST_USER)),
    "tpm_limit": ("tpm_limit", _count),
    "aliases": ("aliases", _metadata),
    "permissions": ("permissions", _metadata),
    "max_budget": ("max_budget", _money),
    "soft_budget": ("soft_budget", _money),
    "budget_duration": ("budget_duration", _length),
    "rpm_limit": ("rpm_limit", _count),
    "max_parallel_requests": ("max_parallel_requests", _count),
    "max_seconds_per_video": ("max_seconds_per_video", _count),
    "seconds_limit": ("seconds_limit", _count),
    "priority": ("priority", _priority),
    "tags": ("tags", _tags),
    "metadata": ("metadata", _metadata),
    "webhook_url": ("webhook_url", _url),
    "callback_hosts": ("callback_hosts", _hosts),
    "blocked": ("blocked", _flag),
}
# What the operator says of an account by a request, and a configuration leaves as it is.
_OPERATORS = ("alias", "user_id", "blocked")
_EMPTY = {"priority": 1, "tags": "[]", "callback_hosts": "[]", "metadata": "{}", "aliases": "{}", "permissions": "{}"}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _dollars(micros: int | None) -> float | None:
    return None if micros is None else micros / MICROS


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_account(changes: Mapping[str, Any]) -> Account:
    """An account with these settings and nothing spent."""
    return msgspec.structs.replace(Account(), **changes)
