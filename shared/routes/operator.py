"""The operator's routes: keys, spend and models. All need the master key, except that a key may
read its own settings, and the models that it may use.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

from shared.accounts.keys import Caller, Issued, token_of
from shared.callers.key_settings import new_account, parse_settings, show
from shared.config.catalog import MICROS
from shared.errors import InvalidRequest, PermissionDenied
from shared.events.webhooks.signing import secret_of
from shared.media.requests import refuse_unknown, refuse_unknown_query
from shared.routes import spend
from shared.routes.calls import Answer, Call
from shared.routes.models import usable_models

_SHORTEST_SECRET, _LONGEST_SECRET = 16, 256
_MOST_AT_ONCE = 100


async def generate_key(call: Call) -> Answer:
    await call.operator()
    fields = await call.fields()
    changes = parse_settings(fields, call.gateway.settings.catalog, call.gateway.clock.now(), also=("key",))
    return _issued(call, await call.gateway.keys.issue(new_account(changes), _chosen_secret(fields, "key")))


async def update_key(call: Call) -> Answer:
    """Change the settings that the request names; null clears one. With `key`, `key_alias` is the
    new alias; without, it says which key.
    """
    await call.operator()
    fields = dict(await call.fields())
    key_id = await _named(call, fields)
    if fields.get("key") is None:
        fields.pop("key_alias", None)
    changes = parse_settings(fields, call.gateway.settings.catalog, call.gateway.clock.now(), also=("key",))
    account = await call.gateway.keys.update(key_id, changes)
    return Answer({"key": fields.get("key") or key_id, **show(key_id, account, call.gateway.clock.now())})


async def delete_keys(call: Call) -> Answer:
    await call.operator()
    fields = await call.fields()
    refuse_unknown(fields, ("keys", "key_aliases"))
    keys, aliases = (_names(fields, name) for name in ("keys", "key_aliases"))
    if not keys and not aliases:
        raise InvalidRequest("Missing required parameter: 'keys'.", code="missing_required_parameter", param="keys")
    # All are looked up before the first is deleted: bad input changes nothing.
    found = [await call.gateway.keys.find(name) for name in keys] + [
        await call.gateway.keys.find_alias(name) for name in aliases
    ]
    for key_id in found:
        await call.gateway.keys.get(key_id)
    for key_id in dict.fromkeys(found):
        await call.gateway.keys.delete(key_id)
    return Answer({"deleted_keys": [*keys, *aliases]})


async def block_key(call: Call) -> Answer:
    return await _set_blocked(call, blocked=True)


async def unblock_key(call: Call) -> Answer:
    return await _set_blocked(call, blocked=False)


async def regenerate_key(call: Call, key: str | None = None) -> Answer:
    """Give a key a new secret, and the settings that the request names. Creates with the old secret
    are refused from now on. The key may be named in the path.
    """
    await call.operator()
    fields = dict(await call.fields(optional=key is not None))
    key_id = await _named(call, {"key": unquote(key)} if key is not None else fields)
    changes = parse_settings(fields, call.gateway.settings.catalog, call.gateway.clock.now(), also=("key", "new_key"))
    return _issued(call, await call.gateway.keys.regenerate(key_id, _chosen_secret(fields, "new_key"), changes))


async def update_keys(call: Call) -> Answer:
    """Change several keys as `update_key` does: `{"keys": [{"key": …, …}, …]}`. All are checked
    before the first is changed.
    """
    await call.operator()
    fields = await call.fields()
    refuse_unknown(fields, ("keys",))
    asked = fields.get("keys")
    if not isinstance(asked, list) or not 0 < len(asked) <= _MOST_AT_ONCE or any(not isinstance(each, dict) for each in asked):
        raise InvalidRequest(f"`keys` must be a list of 1 to {_MOST_AT_ONCE} objects.", code="invalid_type", param="keys")
    now, keys = call.gateway.clock.now(), call.gateway.keys
    found = [await _named(call, {"key": each.get("key")}) for each in asked]
    changes = [parse_settings(each, call.gateway.settings.catalog, now, also=("key",)) for each in asked]
    for key_id in found:
        await keys.get(key_id)
    updated = [await keys.update(key_id, change) for key_id, change in zip(found, changes, strict=True)]
    shown = [
        {"key": each["key"], "key_info": show(key_id, account, now)}
        for each, key_id, account in zip(asked, found, updated, strict=True)
    ]
    return Answer({"total_requested": len(asked), "successful_updates": shown, "failed_updates": []})


async def key_health(call: Call) -> Answer:
    """Whether the caller's key works: it does, or Unauthenticated is raised."""
    await call.caller()
    return Answer({"key": "healthy", "logging_callbacks": None})


async def keys_info(call: Call) -> Answer:
    """Several keys at once: `{"keys": […]}`. The operator sees any key, a key only itself."""
    caller = await call.caller()
    fields = await call.fields()
    refuse_unknown(fields, ("keys",))
    names = _names(fields, "keys")
    if not names:
        raise InvalidRequest("Missing required parameter: 'keys'.", code="missing_required_parameter", param="keys")
    shown = [await _shown(call, caller, name) for name in names]
    return Answer({"key": names, "info": shown})


async def key_info(call: Call) -> Answer:
    """The operator sees any key, a key only itself."""
    caller = await call.caller()
    name = call.query.get("key")
    if name is None and caller.master:
        raise InvalidRequest("Say which: ?key=<key>.", code="missing_required_parameter", param="key")
    name = name or caller.owner
    return Answer({"key": name, "info": await _shown(call, caller, name)})


async def _shown(call: Call, caller: Caller, name: str) -> dict[str, Any]:
    """A key as the caller may see it. Raises NotFound or PermissionDenied."""
    key_id = await call.gateway.keys.find(name)
    if not caller.master and key_id != caller.owner:
        raise PermissionDenied("A key may only look at itself.", code="master_key_required")
    return show(key_id, await call.gateway.keys.get(key_id), call.gateway.clock.now())


# What the list of keys may be narrowed by: the parameter, and the field that has to be equal.
_KEY_FILTERS = {
    **{name: name for name in ("key_alias", "user_id", "team_id", "organization_id")},
    "key_hash": "token",
}
LIST_KEYS_PARAMETERS = (*_KEY_FILTERS, "status", "page", "size", "return_full_object")


async def list_keys(call: Call) -> Answer:
    """Tokens of the keys, newest first, or all that is known of each with `return_full_object`."""
    await call.operator()
    refuse_unknown_query(call.query, LIST_KEYS_PARAMETERS)
    page, size = spend.parse_page(call.query, "size", rows=10)
    matching = await _matching(call)
    matching.sort(key=lambda each: (str(each["created_at"]), each["key_id"]), reverse=True)
    rows = matching[(page - 1) * size : page * size]
    full = call.query.get("return_full_object", "").lower() == "true"
    return Answer(
        {
            "keys": rows if full else [each["token"] for each in rows],
            "total_count": len(matching),
            "current_page": page,
            "total_pages": -(-len(matching) // size),
        }
    )


async def _matching(call: Call) -> list[dict[str, Any]]:
    """The keys that the query asks for, as they are shown; deleted ones where it says so."""
    now, status = call.gateway.clock.now(), call.query.get("status")
    if status not in (None, "active", "expired", "revoked", "deleted"):
        raise InvalidRequest("`status` must be active, expired, revoked or deleted.", param="status")
    wanted = {field: call.query[name] for name, field in _KEY_FILTERS.items() if name in call.query}
    found = []
    async for key_id, account in call.gateway.keys.all():
        shown = {"token": account.token, **show(key_id, account, now)}
        listed = shown["status"] == status if status else shown["status"] != "deleted"
        if listed and all(shown[name] == value for name, value in wanted.items()):
            found.append(shown)
    return found


def _dollars(micros: int | None) -> float | None:
    return None if micros is None else micros / MICROS


async def model_info(call: Call) -> Answer:
    """The prices and abilities of the models that the caller may use, one entry per deployment.
    Only the master key sees a deployment's name and address.
    """
    caller = await call.caller()
    data = []
    for model in usable_models(call, caller):
        able = model.capability
        for number, each in enumerate(model.deployments, 1):
            info: dict[str, Any] = {
                "id": each.name if caller.master else f"{model.name}-{number}",
                "mode": "video_generation",
                "sizes": "any" if able.any_size else able.sizes,
                "seconds": list(able.seconds),
                "remix": able.remix,
                "parameters": {name: str(parameter) for name, parameter in able.parameters.items()},
                "output_cost_per_video_per_second": {size: price / MICROS for size, price in able.prices.items()},
                "output_cost_per_video": _dollars(able.per_video),
                "output_cost_per_gpu_second": _dollars(able.per_gpu_second),
                "max_running": each.max_running,
                "creates_per_minute": each.creates_per_minute,
                "retires": each.retires.isoformat() if each.retires else None,
            }
            params = {"model": model.name}
            if caller.master:
                params = {"model": f"{each.dialect.name}/{each.model}", "api_base": each.base_url}
            data.append({"model_name": model.name, "params": params, "litellm_params": params, "model_info": info})
    return Answer({"data": data})


# `paths` makes a route `key/<name>` of each.
ACTIONS: tuple[tuple[str, str, Callable[[Call], Awaitable[Answer]]], ...] = (
    ("generate", "POST", generate_key),
    ("update", "POST", update_key),
    ("delete", "POST", delete_keys),
    ("block", "POST", block_key),
    ("unblock", "POST", unblock_key),
    ("regenerate", "POST", regenerate_key),
    ("{key}/regenerate", "POST", regenerate_key),
    ("bulk_update", "POST", update_keys),
    ("health", "POST", key_health),
    ("info", "GET", key_info),
    ("list", "GET", list_keys),
)


async def _set_blocked(call: Call, *, blocked: bool) -> Answer:
    await call.operator()
    fields = await call.fields()
    refuse_unknown(fields, ("key",))
    key_id = await _named(call, fields)
    account = await call.gateway.keys.update(key_id, {"blocked": blocked})
    return Answer(show(key_id, account, call.gateway.clock.now()))


async def _named(call: Call, fields: Mapping[str, Any]) -> str:
    """The id of the key that a request names by `key` or `key_alias`. Raises InvalidRequest or
    NotFound.
    """
    key, alias = fields.get("key"), fields.get("key_alias")
    if isinstance(key, str) and 0 < len(key) <= _LONGEST_SECRET:
        return await call.gateway.keys.find(key)
    if key is None and isinstance(alias, str):
        return await call.gateway.keys.find_alias(alias)
    raise InvalidRequest("`key` must be a key, its token or its id.", code="missing_required_parameter", param="key")


def _chosen_secret(fields: Mapping[str, Any], name: str) -> str | None:
    """The secret that the operator chose, such as one from another gateway; None to generate one.
    Raises InvalidRequest.
    """
    secret = fields.get(name)
    if secret is None:
        return None
    good = (
        isinstance(secret, str) and secret.startswith("sk-") and secret.isascii() and secret.isprintable() and " " not in secret
    )
    if not good or not _SHORTEST_SECRET <= len(secret) <= _LONGEST_SECRET:
        raise InvalidRequest(
            f"`{name}` must begin with sk- and have {_SHORTEST_SECRET} to {_LONGEST_SECRET} characters without spaces.",
            param=name,
        )
    return str(secret)


def _names(fields: Mapping[str, Any], name: str) -> list[str]:
    names = fields.get(name) or []
    if (
        not isinstance(names, list)
        or len(names) > _MOST_AT_ONCE
        or any(not isinstance(each, str) or not each for each in names)
    ):
        raise InvalidRequest(f"`{name}` must be a list of at most {_MOST_AT_ONCE} texts.", code="invalid_type", param=name)
    return names


def _issued(call: Call, issued: Issued) -> Answer:
    token = token_of(issued.secret)
    shown = show(issued.key_id, issued.account, call.gateway.clock.now())
    told = {"key": issued.secret, "token": token, "token_id": token, "webhook_secret": secret_of(token)}
    return Answer({**told, **shown})
