"""What strangers and the operator are told of the gateway's state."""

from typing import Any

import pytest

from shared.routes import health as health_route
from tests.fakes.asking import ask, request
from tests.fakes.world import MASTER, World

pytestmark = [pytest.mark.anyio, pytest.mark.world(sinks=("datadog",))]


async def health(world: World, secret: str, probe: str = "") -> Any:
    asked = request(headers={"authorization": f"Bearer {secret}"}, probe=probe)
    return await ask(asked, health_route.health, world.gateway)


async def test_strangers_learn_what_is_closed_and_why_and_nothing_of_the_operators(world: World) -> None:
    """Neither do keys, and the probe is the same for everybody but for names."""
    deployment = world.model.deployments[0]
    await world.gateway.pool.take_down(world.model, deployment, "upstream_auth", 60)
    for secret in ("sk-of-nobody", world.secret):
        for probe in ("", "readiness"):
            told = await health(world, secret, probe)
            assert told.json["closed"] == {world.model.name: {"1": "upstream_auth"}}
            assert set(told.json) == {"status", "version", "closed", "retirements"}
            assert deployment.name not in told.body.decode()
    assert "deployments" not in (await health(world, MASTER, "readiness")).json


async def test_the_operator_is_told_everything(world: World) -> None:
    """What each deployment does, and what waits for each provider and for webhooks."""
    deployment = world.model.deployments[0]
    await world.submitted((await world.start()).id)
    world.receivers.says["datadog"] = 400
    await world.delivered()
    del world.receivers.says["datadog"]
    await world.start(prompt="Another")
    await world.gateway.pool.take_down(world.model, deployment, "upstream_auth", 60)
    told = (await health(world, MASTER)).json
    shown = told["deployments"][world.model.name][deployment.name]
    assert (shown["running"], shown["max_running"], shown["outage"]["reason"]) == (1, deployment.max_running, "upstream_auth")
    assert told["waiting"] == {world.model.name: 0}
    assert told["deliveries"]["datadog"] == {"waiting": 1, "wait": 0.0, "given_up": 1}
    assert told["deliveries"]["webhooks"] == {"waiting": 0, "wait": None, "given_up": 0}
