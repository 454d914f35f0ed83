"""Whether the gateway can serve. Anybody may ask, so only the operator is told what is where."""

from collections.abc import Mapping

from shared.accounts.keys import presented_secret
from shared.config.catalog import Model
from shared.config.version import VERSION
from shared.errors import NotFound, Unauthenticated
from shared.routes.calls import Answer, Call


async def health(call: Call, probe: str = "") -> Answer:
    """`liveliness` only says that the app runs; `readiness` also that storage answers, which
    deployments cannot be used, and until when the vendor serves.

    A deployment is told by its number in the model's list, to the operator by its name. Raises
    StorageUnavailable, and NotFound for another probe.
    """
    if probe in ("liveliness", "liveness"):
        return Answer("I'm alive!")
    if probe not in ("", "readiness"):
        raise NotFound("There is no such probe: use liveliness or readiness.", code="unknown_url")
    gateway = call.gateway
    await gateway.tables.ping()
    models, named = gateway.settings.catalog.models, _is_operator(call)
    troubles = {model.name: _told(model, await gateway.pool.troubles(model), named=named) for model in models}
    closed = {name: reasons for name, reasons in troubles.items() if reasons}
    status = "degraded" if closed else "healthy"
    return Answer({"status": status, "version": VERSION, "closed": closed, "retirements": _retirements(call)})


def _is_operator(call: Call) -> bool:
    """A wrong key is no reason to refuse: a prober may send any."""
    try:
        return call.gateway.keys.is_master(presented_secret(call.headers))
    except Unauthenticated:
        return False


def _told(model: Model, troubles: Mapping[str, str], *, named: bool) -> dict[str, str]:
    shown = {each.name: each.name if named else str(number) for number, each in enumerate(model.deployments, 1)}
    return {shown[name]: reason for name, reason in troubles.items()}


def _retirements(call: Call) -> dict[str, dict[str, object]]:
    today = call.gateway.clock.now().date()
    return {
        model.name: {"retires": str(each.retires), "retired": each.retires <= today}
        for model in call.gateway.settings.catalog.models
        for each in model.deployments
        if each.retires is not None
    }
