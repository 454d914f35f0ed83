"""What the audit finds: counters and spend lines that are not what the videos say."""

import pytest

from shared.accounts.commits import ACCOUNT
from shared.accounts.spend_lines import SPEND
from shared.storage.tables import Delete, Insert, Replace
from shared.storage.video_store import INDEXING, UPKEEP
from shared.upkeep.audit import Audit, Difference
from tests.fakes.world import World

# Tables of its own: the audit goes through the keys of everybody.
pytestmark = [pytest.mark.anyio, pytest.mark.world(budget=100_000_000)]


async def made(world: World) -> str:
    """A video that has been made and paid for, in a store that is indexed."""
    table = world.gateway.tables.gateway
    if await table.get(UPKEEP, INDEXING) is None:
        await table.commit(UPKEEP, Insert(INDEXING, {"since": world.clock.now(), "done": True}))
    video = await world.start()
    await world.gateway.submission.submit(video.id)
    world.upstream.end()
    return (await world.live(video.id)).id


async def found(world: World) -> list[tuple[str, int, int]]:
    differences: list[Difference] = [each async for each in Audit(world.gateway).differences()]
    assert {each.key_id for each in differences} <= {world.owner}
    return [(each.counter, each.stored, each.counted) for each in differences]


async def test_what_is_right_is_not_told(world: World) -> None:
    """Videos that have ended, were deleted, and run; each is read once."""
    await made(world)
    await world.gateway.lifecycle.delete(await made(world))
    await world.start()
    assert await found(world) == []
    audit = Audit(world.gateway)
    assert [each async for each in audit.differences()] == []
    assert audit.videos == 3


async def test_a_counter_that_is_wrong_is_told(world: World) -> None:
    await made(world)
    table = world.gateway.tables.gateway
    row = await table.get(world.owner, ACCOUNT)
    assert row is not None
    await table.commit(world.owner, Replace(row, {**row.values, "spend": 7}))
    assert await found(world) == [("spend", 7, 400_000)]


async def test_a_line_that_is_missing_or_tells_another_sum_is_told(world: World) -> None:
    """By how many there are, and by what they add up to."""
    lost, changed = await made(world), await made(world)
    table = world.gateway.tables.gateway
    rows = [await table.get(SPEND, f"done_{each}") for each in (lost, changed)]
    assert rows[0] is not None
    assert rows[1] is not None
    await table.commit(SPEND, Delete(rows[0]))
    assert await found(world) == [("lines", 1, 2), ("lines_spend", 400_000, 800_000)]
    await table.commit(SPEND, Replace(rows[1], {**rows[1].values, "cost": 1}))
    assert await found(world) == [("lines", 1, 2), ("lines_spend", 1, 800_000)]


async def test_a_video_that_ends_meanwhile_is_no_difference(world: World) -> None:
    """Its line may be written before or after the lines were read."""
    await made(world)
    audit = Audit(world.gateway)
    lines = await audit._lines()
    world.clock.skip(1)
    await made(world)
    assert await audit._compare(world.owner, lines) == []
