"""A job that has failed, at every kind of server."""

from typing import Any

import pytest

from tests.fakes.servers import GeminiServer, SGLangServer, SilentServer, VllmServer
from tests.fakes.upstream import ScriptedUpstream
from tests.fakes.world import World

pytestmark = pytest.mark.anyio


def at(server: type[ScriptedUpstream], error: Any, code: str) -> Any:
    return pytest.param(error, code, marks=pytest.mark.world(server=server), id=server.__name__)


SERVERS = [
    at(ScriptedUpstream, {"code": "internal_error", "message": "It broke."}, "internal_error"),
    at(SilentServer, {"code": "internal_error", "message": "It broke."}, "internal_error"),
    at(VllmServer, {"code": 500, "message": "It broke."}, "generation_failed"),
    at(SGLangServer, {"message": "It broke."}, "generation_failed"),
    at(GeminiServer, {"code": 13, "message": "It broke."}, "generation_failed"),
]


@pytest.mark.parametrize(("error", "code"), SERVERS)
async def test_the_slot_of_a_failed_job_is_free_within_two_looks(world: World, error: Any, code: str) -> None:
    """One that was seen to run as well as one that was not: the next look sees the failure, the
    video tells the server's message, and nothing stays reserved.
    """
    for seen_running in (False, True):
        video = await world.start(prompt=f"A cat that is {'seen' if seen_running else 'not seen'}")
        await world.submitted(video.id)
        if seen_running:
            world.upstream.end("in_progress")
            await world.gateway.steps.check(video.id)
        world.upstream.end("failed", error)
        looks = world.upstream.asked.count("get")
        outcome = await world.gateway.steps.check(video.id)
        assert world.upstream.asked.count("get") - looks <= 2
        await world.gateway.steps.finish({"video": video.id, "failure": outcome.get("failed")})
        ended = await world.video(video.id)
        assert (ended.error_code, ended.error_message) == (code, "It broke.")
        assert list(await world.gateway.pool.holders(world.model)) == []
        assert (await world.account()).reserved == 0
        world.clock.skip(120)
