"""What a caller learns of the models, and of what serves them."""

from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from shared.errors import NotFound
from shared.routes import health as health_route
from shared.videos.step_result import DONE
from tests.fakes.asking import ask, request
from tests.fakes.upstream import error
from tests.fakes.world import World

pytestmark = pytest.mark.anyio


def with_two_models(world: World) -> World:
    other = replace(
        world.model,
        name="dearer",
        aliases=("azure/dear",),
        deployments=(replace(world.model.deployments[0], name="west/dear"),),
    )
    return world.with_model(world.model, other)


async def test_a_model_that_no_deployment_serves_fails_alone(world: World) -> None:
    """With its own reason; the others at the same resource go on."""
    two = with_two_models(world)
    gone = replace(two.gateway.settings.catalog.models[1].deployments[0], model="gone")
    served = two.with_model(world.model, replace(two.gateway.settings.catalog.models[1], deployments=(gone,)))
    refusal = error(410, "The model is retired.", code="model_retired")
    served.upstream.before(lambda request: refusal if b"\r\ngone\r\n" in request.read() else None)
    lost, made = await served.start(model="dearer"), await served.start()
    assert (await served.submitted(lost.id))["failed"]["code"] == "model_retired"
    assert await served.submitted(made.id) == DONE
    assert list(await health(served)) == ["dearer"]


async def test_a_caller_sees_what_each_model_can_make_and_costs(world: World) -> None:
    """So that a page can offer it; of the models that the key may use."""
    two = with_two_models(world)
    secret = await restricted(two, "dearer")
    (told,) = (await two.send("GET", "v1/videos/models", secret=secret)).json["data"]
    assert (told["id"], told["seconds"], told["remix"]) == ("dearer", ["4", "8", "12"], True)
    assert told["price_per_second"] == {"720x1280": 0.1, "1280x720": 0.1}
    assert (told["retires"], told["parameters"], told["any_size"]) == ("2026-10-15", {}, False)
    assert len((await two.send("GET", "videos/models")).json["data"]) == 2


async def test_operations_that_no_server_has_are_refused_by_name(world: World) -> None:
    """Not taken for a video that is called so; a stranger is told nothing."""
    for method, path in (
        ("POST", "v1/videos/edits"),
        ("POST", "videos/extensions"),
        ("POST", "openai/v1/videos/characters"),
        ("GET", "v1/videos/characters/char_1"),
    ):
        reply = await world.send(method, path, secret=world.secret, body={"prompt": "A dog"} if method == "POST" else None)
        assert (reply.status, reply.code) == (400, "not_supported")
        assert (await world.send(method, path, secret="sk-a-stranger-to-everybody")).status == 401


async def restricted(world: World, *models: str) -> str:
    """The secret of a key that may use these models."""
    reply = await world.send("POST", "key/generate", body={"models": list(models)})
    return str(reply.json["key"])


async def test_a_restricted_key_sees_the_models_on_its_list(world: World) -> None:
    """In the list, one by one, and with their prices; the operator sees all."""
    two = with_two_models(world)
    secret = await restricted(two, "dearer")
    for path, name in (("v1/models", "id"), ("model/info", "model_name")):
        listed = await two.send("GET", path, secret=secret)
        assert [each[name] for each in listed.json["data"]] == ["dearer"]
        assert len((await two.send("GET", path)).json["data"]) == 2
    assert (await two.send("GET", f"v1/models/{two.model.name}", secret=secret)).status == 404


@pytest.mark.parametrize("name", ["dearer", "azure/dear"])
async def test_one_model_is_told_by_any_of_its_names(world: World, name: str) -> None:
    """As the models API does it."""
    two = with_two_models(world)
    reply = await two.send("GET", f"v1/models/{name}", secret=world.secret)
    assert (reply.status, reply.json["id"], reply.json["object"]) == (200, "dearer", "model")


async def test_an_unknown_model_is_not_found(world: World) -> None:
    """With the ones that there are."""
    reply = await world.send("GET", "v1/models/nope", secret=world.secret)
    assert (reply.status, reply.code, reply.json["error"]["param"]) == (NotFound.status, "model_not_found", "model")
    assert world.model.name in reply.json["error"]["message"]


async def test_only_the_operator_learns_where_a_model_is_served(world: World) -> None:
    """The name of a deployment is made from that of the Azure resource."""
    shown = (await world.send("GET", "model/info", secret=world.secret)).json["data"][0]
    assert shown["model_info"]["id"] == f"{world.model.name}-1"
    assert "example" not in str(shown)
    whole = (await world.send("GET", "model/info")).json["data"][0]
    assert whole["model_info"]["id"] == world.model.deployments[0].name
    assert whole["params"]["api_base"].startswith("https://example.openai.azure.com")


async def test_health_tells_that_the_upstream_cannot_be_reached(world: World) -> None:
    """To anybody, without the name of the operator's resource; to the operator with it."""
    assert (await health(world)) == {}
    world.upstream.script("create", *[httpx.ConnectError("refused")] * 2)
    video = await world.start()
    await world.gateway.submission.submit(video.id)
    assert (await health(world)) == {world.model.name: {"1": "upstream_unavailable"}}
    assert (await health(world, "sk-1234")) == {world.model.name: {world.model.deployments[0].name: "upstream_unavailable"}}
    await world.submitted(video.id)
    assert (await health(world)) == {}


async def health(world: World, secret: str = "sk-not-a-key-of-anybody") -> dict[str, Any]:
    """What is closed, as somebody with this key is told; the status says the same."""
    told = (await ask(request(headers={"authorization": f"Bearer {secret}"}), health_route.health, world.gateway)).json
    assert told["status"] == ("degraded" if told["closed"] else "healthy")
    closed: dict[str, Any] = told["closed"]
    return closed
