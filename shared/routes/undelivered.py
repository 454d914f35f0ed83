"""For the operator: events that could not be delivered, to look at them and to send them again, and
the last deliveries to webhook endpoints.
"""

from typing import Any

from shared.errors import InvalidRequest
from shared.events.deliveries import Undelivered
from shared.media.requests import refuse_unknown, refuse_unknown_query
from shared.media.video import MASTER_OWNER
from shared.routes.calls import Answer, Call

_MOST = 500  # events in one request


async def list_undelivered(call: Call) -> Answer:
    """Events that no try could deliver, of one destination or of all, without what they tell."""
    await call.operator()
    refuse_unknown_query(call.query, ("destination",))
    found = await _given_up(call, call.query.get("destination"))
    return Answer({"object": "list", "data": [_shown(each) for each in found[:_MOST]], "has_more": len(found) > _MOST})


async def list_deliveries(call: Call) -> Answer:
    """The last deliveries to the webhook endpoints of all keys, newest first. It reads every key:
    do not ask for it every second.
    """
    await call.operator()
    refuse_unknown_query(call.query, ())
    owners = {MASTER_OWNER: None} | {key_id: each.alias async for key_id, each in call.gateway.keys.all() if each.hooked}
    history = call.gateway.webhooks.history
    found = [
        {**attempt.wire(), "webhook_endpoint_id": endpoint, "key_id": owner, "key_alias": alias}
        for owner, alias in owners.items()
        for endpoint, attempt in await history.of_all(owner)
    ]
    found.sort(key=lambda each: (each["tried_at"], each["id"]), reverse=True)
    return Answer({"object": "list", "data": found[:_MOST], "has_more": len(found) > _MOST})


async def replay(call: Call) -> Answer:
    """Have them delivered again, of one destination or of all. With `has_more`, there are others:
    repeat it.
    """
    await call.operator()
    fields = await call.fields(optional=True)
    refuse_unknown(fields, ("destination",))
    destination = fields.get("destination")
    if destination is not None and not isinstance(destination, str):
        raise InvalidRequest("`destination` must be a text.", code="invalid_type", param="destination")
    found = await _given_up(call, destination)
    couriers = call.gateway.couriers
    for each in found[:_MOST]:
        await couriers.deliveries.replay(each)
    await couriers.summon(dict.fromkeys(each.destination for each in found))
    return Answer({"replayed": len(found[:_MOST]), "has_more": len(found) > _MOST})


async def _given_up(call: Call, destination: str | None) -> list[Undelivered]:
    """The first events that were given up, one more than a request handles."""
    found: list[Undelivered] = []
    async for each in call.gateway.couriers.deliveries.undelivered(destination):
        found.append(each)
        if len(found) > _MOST:
            break
    return found


def _shown(given_up: Undelivered) -> dict[str, Any]:
    record = given_up.record
    return {
        "id": record.id,
        "type": record.type,
        "video_id": record.video_id,
        "destination": given_up.destination,
        "to": given_up.to,
        "reason": given_up.reason,
        "tries": given_up.tries,
        "given_up_at": given_up.given_up_at,
    }
