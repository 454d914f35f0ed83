"""The lines of what videos have cost, in the order of time."""

import pytest

from shared.accounts.spend_lines import SPEND
from shared.storage.tables import Insert
from tests.fakes.world import World

# Lines are of all keys together, so the test has tables of its own: worlds with a budget do.
pytestmark = [pytest.mark.anyio, pytest.mark.world(budget=10**12)]


async def test_a_video_that_ends_while_the_lines_are_read_is_counted_once(world: World) -> None:
    """Its row moves from the open ones to the ended ones, and a reader may meet both."""
    ids: list[str] = []
    for _ in range(2):
        video = await world.start()
        await world.gateway.lifecycle.finish(video.id, None)
        ids.insert(0, video.id)
        world.clock.skip(1)
    await world.gateway.tables.gateway.commit(SPEND, Insert(f"open_{ids[0]}", {}))
    assert [video_id async for video_id, _ in world.gateway.lines.between()] == ids
