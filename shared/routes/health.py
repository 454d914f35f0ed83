"""Whether the gateway can serve. Needs no key, so only the operator sees names of deployments."""

from collections.abc import Mapping

from shared.accounts.keys import presented_secret
from shared.config.catalog import Model
from shared.config.version import VERSION
from shared.errors import NotFound, Unauthenticated
from shared.routes.calls import Answer, Call


async def health(call: Call, probe: str = "") -> Answer:
    """`liveliness` only says that the app runs. `readiness` says that storage answers, which
    deployments cannot be used, and when models retire.

    The operator sees a deployment's name, others its number in the model's list. Raises
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
    """Whether the caller sent the master key. A wrong key is not refused: a prober may send any."""
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
