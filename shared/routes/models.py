"""The models that a caller may use."""

import json
from typing import Any

from shared.accounts.keys import Caller
from shared.config.catalog import MICROS, Model
from shared.errors import NotFound
from shared.routes.calls import Answer, Call

_BUILT = 1_760_000_000  # `created` of every model: the models API requires a time


async def list_models(call: Call) -> Answer:
    return Answer({"object": "list", "data": [_wire(each) for each in usable_models(call, await call.caller())]})


async def get_model(call: Call, name: str) -> Answer:
    """One model, by any name that a create accepts. Raises NotFound, also for a model that the key
    may not use.
    """
    usable = usable_models(call, await call.caller())
    model = call.gateway.settings.catalog.spelled(name)
    if model is None or model not in usable:
        known = ", ".join(each.name for each in usable)
        raise NotFound(f"No such model. Available models: {known}.", code="model_not_found", param="model")
    return Answer(_wire(model))


async def list_video_models(call: Call) -> Answer:
    """What each model that the caller may use can make, what it costs and when it retires."""
    return Answer({"object": "list", "data": [_abilities(each) for each in usable_models(call, await call.caller())]})


def usable_models(call: Call, caller: Caller) -> list[Model]:
    """The configured models, or those of them on the key's list."""
    allowed = json.loads(caller.account.models) if caller.account else []
    return [each for each in call.gateway.settings.catalog.models if not allowed or each.name in allowed]


def _abilities(model: Model) -> dict[str, Any]:
    """What a model can make: lengths in seconds, prices in dollars a second by size. It retires
    when its last deployment does.
    """
    able = model.capability
    retirements = [each.retires for each in model.deployments]
    known = [day for day in retirements if day is not None]
    return {
        **_wire(model),
        "sizes": able.sizes,
        "any_size": able.any_size,
        "seconds": [str(each) for each in able.seconds],
        "price_per_second": {size: price / MICROS for size, price in able.prices.items()},
        "price_per_video": None if able.per_video is None else able.per_video / MICROS,
        "price_per_gpu_second": None if able.per_gpu_second is None else able.per_gpu_second / MICROS,
        "parameters": {name: str(parameter) for name, parameter in able.parameters.items()},
        "resizes_reference": able.resizes,
        "variants": able.variants,
        "remix": able.remix,
        "retires": max(known).isoformat() if len(known) == len(retirements) else None,
    }


def _wire(model: Model) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": _BUILT, "owned_by": "gateway", "mode": "video_generation"}
