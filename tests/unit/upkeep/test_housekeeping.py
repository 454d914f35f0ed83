"""What the sweep does once an hour for all keys: on tables and blobs of their own."""

from collections.abc import Awaitable, Sequence
from datetime import timedelta

import pytest

from shared.accounts.idempotency import KEY_LIFETIME, PREFIX
from shared.storage.tables import Delete, Write
from shared.upkeep.housekeeping import Housekeeping
from tests.fakes.orchestrations import Engine
from tests.fakes.world import World

# A budget gives the test tables of its own, as what is noted holds for all keys together.
pytestmark = [pytest.mark.anyio, pytest.mark.world(budget=10**12)]


async def clean_up(world: World) -> int:
    """One run. Returns how many parts of it failed."""
    failures = 0

    async def attempt(part: Awaitable[None]) -> bool:
        nonlocal failures
        try:
            await part
        except OSError:
            failures += 1
            return False
        return True

    await Housekeeping(world.gateway, Engine(), (), attempt, world.clock.now()).run()
    return failures


async def identities(world: World) -> int:
    """How many idempotency records the key has."""
    return len([row async for row in world.gateway.tables.gateway.beginning_with(world.owner, PREFIX)])


async def test_idempotency_records_that_could_not_be_dropped_are_dropped_by_a_later_run(world: World) -> None:
    """The time up to which they are gone is noted once those of every key are: a key that makes no
    more videos is not looked at otherwise.
    """
    await clean_up(world)  # indexes what there is, and notes a first time
    sent = {"idempotency-key": "mine"}
    created = await world.send("POST", "v1/videos", secret=world.secret, body={"prompt": "A cat"}, headers=sent)
    assert (created.status, await identities(world)) == (200, 1)

    def refuses(writes: Sequence[Write]) -> None:
        if any(isinstance(each, Delete) for each in writes):
            raise OSError("storage does not answer")

    world.clock.skip((KEY_LIFETIME + timedelta(hours=3)).total_seconds())
    world.faults.before = refuses
    assert (await clean_up(world), await identities(world)) == (1, 1)
    world.faults.before = lambda writes: None
    world.clock.skip(timedelta(days=2).total_seconds())
    assert (await clean_up(world), await identities(world)) == (0, 0)
