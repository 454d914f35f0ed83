"""The routes of `client.webhooks`: a key's endpoints, and the events that they may get."""

import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from shared.accounts.account import callback_hosts
from shared.accounts.keys import Caller
from shared.errors import Conflict, InvalidRequest, NotFound, WebhookUnreachable
from shared.events.record import record_of
from shared.events.webhooks.endpoints import Endpoint
from shared.events.webhooks.payload import ENDS, EVENT_TYPES, body
from shared.events.webhooks.signing import new_secret
from shared.media.requests import refuse_unknown, refuse_unknown_query
from shared.routes.calls import Answer, Call
from shared.storage.event_marks import happening_of

_MOST_LISTED = 100
_LONGEST_NAME = 256


async def create_endpoint(call: Call) -> Answer:
    """A new endpoint. Its signing secret is in this answer, and in no other."""
    caller = await call.caller()
    fields = await call.fields()
    refuse_unknown(fields, ("name", "url", "event_types"))
    now, secret = call.gateway.clock.now(), new_secret()
    made = Endpoint(
        id=f"we_{secrets.token_hex(12)}",
        name=_name(fields.get("name")),
        url=_url(call, caller, fields.get("url")),
        event_types=_event_types(fields.get("event_types", list(ENDS))),
        secret=secret,
        created_at=now,
        updated_at=now,
    )
    await call.gateway.webhooks.endpoints.add(caller.owner, made)
    return _shown(made, signing_secret=secret)


async def list_endpoints(call: Call) -> Answer:
    """The key's endpoints, oldest first."""
    owner = (await call.caller()).owner
    refuse_unknown_query(call.query, ("after", "limit"))
    limit = _limit(call.query.get("limit", "20"))
    found = await call.gateway.webhooks.endpoints.of(owner)
    after = call.query.get("after")
    ids = [each.id for each in found]
    if after and after not in ids:
        raise InvalidRequest("`after` must be the id of a webhook endpoint.", param="after")
    left = found[ids.index(after) + 1 :] if after else found
    page = left[:limit]
    return Answer(
        {
            "object": "list",
            "data": [each.wire() for each in page],
            "first_id": page[0].id if page else None,
            "last_id": page[-1].id if page else None,
            "has_more": len(left) > len(page),
        }
    )


async def get_endpoint(call: Call, webhook_endpoint_id: str) -> Answer:
    """One endpoint, without its secret."""
    owner = (await call.caller()).owner
    return _shown(await call.gateway.webhooks.endpoints.find(owner, webhook_endpoint_id))


async def update_endpoint(call: Call, webhook_endpoint_id: str) -> Answer:
    """Change name, address or events of an endpoint. A change enables one that was disabled."""
    caller = await call.caller()
    fields = await call.fields()
    refuse_unknown(fields, ("name", "url", "event_types"))
    checks: dict[str, Callable[[object], object]] = {
        "name": _name,
        "url": lambda value: _url(call, caller, value),
        "event_types": _event_types,
    }
    changes: dict[str, Any] = {name: checks[name](value) for name, value in fields.items()}
    now = call.gateway.clock.now()

    def change(endpoint: Endpoint) -> Endpoint:
        changed = msgspec.structs.replace(endpoint, **changes, disabled=None)
        return endpoint if changed == endpoint else msgspec.structs.replace(changed, updated_at=now)

    return _shown(await call.gateway.webhooks.endpoints.change(caller.owner, webhook_endpoint_id, change))


async def delete_endpoint(call: Call, webhook_endpoint_id: str) -> Answer:
    """Delete an endpoint. What was on its way to it is dropped."""
    owner = (await call.caller()).owner
    endpoints = call.gateway.webhooks.endpoints
    await endpoints.find(owner, webhook_endpoint_id)
    await endpoints.remove(owner, webhook_endpoint_id)
    return Answer({"id": webhook_endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True})


async def rotate_secret(call: Call, webhook_endpoint_id: str) -> Answer:
    """A new signing secret. With `keep_old_secret_active_for_24_hours` both sign for a day."""
    owner = (await call.caller()).owner
    fields = await call.fields(optional=True)
    refuse_unknown(fields, ("keep_old_secret_active_for_24_hours",))
    overlap = fields.get("keep_old_secret_active_for_24_hours", False)
    if not isinstance(overlap, bool):
        name = "keep_old_secret_active_for_24_hours"
        raise InvalidRequest(f"`{name}` must be true or false.", code="invalid_type", param=name)
    now, secret = call.gateway.clock.now(), new_secret()
    endpoints = call.gateway.webhooks.endpoints
    changed = await endpoints.change(owner, webhook_endpoint_id, lambda each: each.rotated(secret, now, overlap=overlap))
    return _shown(changed, signing_secret=secret)


async def test_endpoint(call: Call, webhook_endpoint_id: str) -> Answer:
    """Send a sample event, and tell what the endpoint answered. One at a time for each key."""
    owner = (await call.caller()).owner
    fields = await call.fields()
    refuse_unknown(fields, ("event_type",))
    (event_type,) = _event_types([fields.get("event_type")], "event_type")
    webhooks = call.gateway.webhooks
    endpoint = await webhooks.endpoints.find(owner, webhook_endpoint_id)
    event_id = f"evt_test_{secrets.token_hex(12)}"
    sample = body(event_id, event_type, int(call.gateway.clock.now().timestamp()), f"video_{'0' * 32}")
    answer = await webhooks.test(owner, endpoint, event_id, sample)
    if answer.status is None:
        raise WebhookUnreachable(f"The endpoint was not reached: {answer.reason}.", param="webhook_endpoint_id")
    return Answer(
        {
            "object": "webhook_endpoint.test",
            "webhook_endpoint_id": endpoint.id,
            "event_type": event_type,
            "status_code": answer.status,
            "success": True,
        }
    )


async def list_deliveries(call: Call, webhook_endpoint_id: str) -> Answer:
    """The endpoint's last deliveries, newest first, each with its last try."""
    owner = (await call.caller()).owner
    webhooks = call.gateway.webhooks
    await webhooks.endpoints.find(owner, webhook_endpoint_id)
    attempts = await webhooks.history.of(owner, webhook_endpoint_id)
    return Answer({"object": "list", "data": [each.wire() for each in attempts]})


async def repeat_delivery(call: Call, webhook_endpoint_id: str, event_id: str) -> Answer:
    """Send one of the last deliveries again, with the same id."""
    owner = (await call.caller()).owner
    webhooks, couriers = call.gateway.webhooks, call.gateway.couriers
    endpoint = await webhooks.endpoints.find(owner, webhook_endpoint_id)
    if endpoint.disabled:
        raise Conflict(f"The endpoint is disabled ({endpoint.disabled}): update it first.", code="webhook_endpoint_disabled")
    attempts = await webhooks.history.of(owner, webhook_endpoint_id)
    attempt = next((each for each in attempts if each.event_id == event_id), None)
    entry = await call.gateway.videos.find(attempt.video_id) if attempt else None
    if attempt is None or entry is None:
        raise NotFound("No such delivery.", code="webhook_delivery_not_found", param="event_id")
    record = record_of(happening_of(attempt.record_id), entry.video, prompts=False)
    await couriers.deliveries.add(webhooks.name, record, webhook_endpoint_id)
    await couriers.summon([webhooks.name])
    return Answer(attempt.wire())


async def list_event_types(call: Call) -> Answer:
    """The events that an endpoint may get."""
    await call.caller()
    return Answer({"object": "list", "data": list(EVENT_TYPES)})


def _shown(endpoint: Endpoint, **more: str) -> Answer:
    return Answer({**endpoint.wire(), **more})


def _name(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        raise InvalidRequest(f"`name` must be a text of 1 to {_LONGEST_NAME} characters.", param="name")
    return value


def _url(call: Call, caller: Caller, value: object) -> str:
    return call.gateway.webhooks.addresses.check(value, callback_hosts(caller.account), "url")


def _event_types(value: object, param: str = "event_types") -> list[str]:
    if not isinstance(value, list) or not value or any(each not in EVENT_TYPES for each in value):
        raise InvalidRequest(f"`{param}` must be of: {', '.join(EVENT_TYPES)}.", param=param)
    return list(dict.fromkeys(value))


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= _MOST_LISTED):
        raise InvalidRequest(f"`limit` must be a whole number from 1 to {_MOST_LISTED}.", param="limit")
    return int(text)
