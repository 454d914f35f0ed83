"""Whether the gateway can serve. Needs no key, so only the operator sees names of deployments."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from shared.capacity.slots import Load, last_outage
from shared.config.catalog import Deployment, Model
from shared.config.version import VERSION
from shared.errors import NotFound, RequestError, SignInUnavailable
from shared.routes.calls import Answer, Call


async def health(call: Call, probe: str = "") -> Answer:
    """`liveliness` only says that the app runs. `readiness` says that storage answers, which
    deployments cannot be used, and when models retire.

    The operator sees a deployment's name, others its number in the model's list; without a probe,
    the operator is also told what each deployment does and what waits to be delivered. Raises
    StorageUnavailable, and NotFound for another probe.
    """
    if probe in ("liveliness", "liveness"):
        return Answer("I'm alive!")
    if probe not in ("", "readiness"):
        raise NotFound("There is no such probe: use liveliness or readiness.", code="unknown_url")
    gateway = call.gateway
    await gateway.tables.ping()
    models, named = gateway.settings.catalog.models, await _is_operator(call)
    troubles = {model.name: _told(model, await gateway.pool.troubles(model), named=named) for model in models}
    closed = {name: reasons for name, reasons in troubles.items() if reasons}
    status = "degraded" if closed else "healthy"
    more = await _operators_part(call) if named and not probe else {}
    return Answer({"status": status, "version": VERSION, "closed": closed, "retirements": _retirements(call), **more})


async def _is_operator(call: Call) -> bool:
    """Whether the operator asks. A wrong key is not refused, since a health probe may send any."""
    try:
        return (await call.caller()).master
    except (RequestError, SignInUnavailable):
        return False


def _told(model: Model, troubles: Mapping[str, str], *, named: bool) -> dict[str, str]:
    shown = {each.name: each.name if named else str(number) for number, each in enumerate(model.deployments, 1)}
    return {shown[name]: reason for name, reason in troubles.items()}


async def _operators_part(call: Call) -> dict[str, Any]:
    """What only the operator sees."""
    gateway = call.gateway
    now, models = gateway.clock.now(), gateway.settings.catalog.models
    couriers = gateway.couriers
    backlogs = {name: await couriers.deliveries.backlog(name) for name in couriers.destinations}
    return {
        "deployments": {model.name: _shown(model, await gateway.pool.loads(model), now) for model in models},
        "waiting": {model.name: await gateway.pool.waiting(model) for model in models},
        "deliveries": {name: msgspec.structs.asdict(backlog) for name, backlog in backlogs.items()},
    }


def _shown(model: Model, loads: Mapping[str, Load], now: datetime) -> dict[str, dict[str, Any]]:
    return {each.name: _load(each, loads[each.name], now) for each in model.deployments}


def _load(deployment: Deployment, load: Load, now: datetime) -> dict[str, Any]:
    outage = last_outage(load, now.timestamp())
    return {
        "running": len(load.leases),
        "max_running": deployment.max_running,
        "failures_in_a_row": load.failures,
        "rests_until": _moment(load.rests_until),
        "outage": outage
        and {"reason": outage.reason, "since": _moment(outage.since), "until": _moment(outage.until), "lost": outage.lost},
    }


def _moment(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _retirements(call: Call) -> dict[str, dict[str, object]]:
    today = call.gateway.clock.now().date()
    return {
        model.name: {"retires": str(each.retires), "retired": each.retires <= today}
        for model in call.gateway.settings.catalog.models
        for each in model.deployments
        if each.retires is not None
    }
