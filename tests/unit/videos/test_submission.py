"""How long a video waits to be submitted, and for whom, when its deployment refuses or rests."""

import httpx
import pytest
from msgspec.structs import replace

from tests.fakes.upstream import error
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

NO_DEPLOYMENT = error(404, "The API deployment 'sora-2' for this resource does not exist.")
DENIED = error(401, "Access denied due to invalid subscription key.")
MENDABLE = [(DENIED, "upstream_auth_error"), (NO_DEPLOYMENT, "model_retired"), (error(431, ""), "upstream_misconfigured")]


async def seconds_until_the_end(world: World, video_id: str) -> float:
    begin = world.clock.now()
    await world.live(video_id, rounds=1000)
    return (world.clock.now() - begin).total_seconds()


@pytest.mark.world(max_running=1)
async def test_a_video_that_waits_gives_up_on_time(world: World) -> None:
    """Its sleep ends with the time that it may wait, however far back it stands."""
    running = await world.start()
    assert await world.gateway.submission.submit(running.id) == {"done": True}
    waiting = await world.start(prompt="Another cat")
    world.clock.skip(world.gateway.settings.knobs.queue_seconds - 3)
    outcome = await world.gateway.submission.submit(waiting.id)
    assert outcome["again"] <= 3
    world.clock.skip(3)
    assert (await world.gateway.submission.submit(waiting.id))["failed"]["code"] == "queue_timeout"


@pytest.mark.parametrize("reply", [NO_DEPLOYMENT, error(410, "Gone")], ids=["missing after the last day", "gone"])
async def test_a_retired_deployment_is_closed_for_hours(world: World, reply: httpx.Response) -> None:
    """A model that has been switched off is not asked for by every video that comes."""
    for prompt in ("A cat", "A dog"):
        video = await world.start(prompt=prompt)
        world.upstream.script("create", reply)
        assert (await world.live(video.id)).error_code == "model_retired"
    assert world.upstream.asked == ["create"]
    world.clock.skip(6 * 3600 - 10)
    assert await world.gateway.pool.is_lost(world.model)
    world.clock.skip(20)
    assert not await world.gateway.pool.is_down(world.model)


@pytest.mark.parametrize(("reply", "code"), MENDABLE, ids=[code for _, code in MENDABLE])
@pytest.mark.world(retires=None)
async def test_what_an_operator_may_mend_is_waited_for(world: World, reply: httpx.Response, code: str) -> None:
    """A key that is exchanged, a role or a deployment that is a minute old: videos wait, health
    tells, and nothing fails.
    """
    video = await world.start()
    world.upstream.script("create", *[reply] * 3)
    assert "again" in await world.gateway.submission.submit(video.id)
    assert await world.gateway.pool.troubles(world.model) == {world.model.deployments[0].name: code}
    world.clock.skip(70)  # it may be asked again, and that nothing has worked since is still to be told
    assert await world.gateway.pool.troubles(world.model) == {world.model.deployments[0].name: code}
    world.upstream.end()
    begin = world.clock.now()
    assert await world.submitted(video.id) == {"done": True}
    assert world.upstream.asked == ["create"] * 4
    assert await world.gateway.pool.troubles(world.model) == {}
    assert (world.clock.now() - begin).total_seconds() < 300


@pytest.mark.parametrize(("reply", "code"), MENDABLE, ids=[code for _, code in MENDABLE])
@pytest.mark.world(retires=None)
async def test_what_nobody_mends_for_ten_minutes_fails_what_waits(world: World, reply: httpx.Response, code: str) -> None:
    """With the reason, and with what the vendor knows the refusal by; also the video that was not
    asked for itself.
    """
    first, second = await world.start(), await world.start(prompt="Another cat")
    named = httpx.Response(reply.status_code, content=reply.content, headers={"apim-request-id": "apim-7"})
    world.upstream.script("create", *[named] * 100)
    assert 600 <= await seconds_until_the_end(world, first.id) < 800
    assert await seconds_until_the_end(world, second.id) < 10
    for video in (await world.video(first.id), await world.video(second.id)):
        assert (video.error_code, video.upstream_request_id, video.spent) == (code, "apim-7", 0)
    assert world.upstream.asked.count("create") < 15


async def test_a_deployment_rests_for_an_hour_at_most(world: World) -> None:
    """One strange Retry-After does not cost a day."""
    video = await world.start()
    world.upstream.script("create", error(429, "slow down", headers={"retry-after": "80000"}))
    world.upstream.end()
    begin = world.clock.now()
    assert await world.submitted(video.id) == {"done": True}
    assert 3600 <= (world.clock.now() - begin).total_seconds() < 2 * 3600


async def test_a_server_that_refuses_connections_is_closed(world: World) -> None:
    """The fallback takes over within a minute, and /health says which deployment it is; a server
    that refuses once may only have been started again.
    """
    (only,) = world.model.deployments
    spare = replace(world.model, name=f"spare-{world.model.name}", deployments=(replace(only, name="spare", model="spare"),))
    world = world.with_model(world.model, spare, fallbacks={world.model.name: (spare.name,)})

    def refuse(request: httpx.Request) -> httpx.Response | None:
        if request.method == "GET" or b"spare" not in request.read():
            raise httpx.ConnectError("refused")
        return None

    world.upstream.before(refuse)
    video, begin = await world.start(), world.clock.now()
    assert await world.submitted(video.id) == {"done": True}
    assert 10 < (world.clock.now() - begin).total_seconds() < 90
    made = await world.video(video.id)
    assert (made.model, made.fallback_from) == (spare.name, world.model.name)
    health = await world.send("GET", "health")
    assert health.json["closed"] == {world.model.name: {only.name: "upstream_unavailable"}}
