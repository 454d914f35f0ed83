"""The account that is read before the change that needs it."""

import pytest

from shared.accounts.commits import ACCOUNT
from shared.errors import BudgetExceeded, StorageUnavailable
from shared.storage.tables import Replace, Row
from tests.fakes.world import World

pytestmark = pytest.mark.anyio


async def test_what_was_read_early_is_used_once(world: World) -> None:
    """A change that follows reads the account again: others may have changed it since."""
    commits = world.gateway.commits
    with commits.foreseen(world.owner):
        await world.start()
        await world.start()
    assert (await world.account()).running == 2


async def test_what_was_not_needed_is_forgotten(world: World) -> None:
    """A later change decides on the account as it is then."""
    commits, table = world.gateway.commits, world.gateway.tables.gateway
    await _set(world, max_budget=0)
    with commits.foreseen(world.owner):
        await table.get(world.owner, ACCOUNT)  # takes as long as the early one
    await _set(world, max_budget=10**9)
    await world.start()


async def test_an_account_that_another_instance_has_changed_meanwhile_is_read_again(world: World) -> None:
    """The early read shows in the commit, which then is no success."""
    commits, table = world.gateway.commits, world.gateway.tables.gateway
    with commits.foreseen(world.owner):
        await table.get(world.owner, ACCOUNT)  # takes as long as the early one
        await _set(world, max_budget=0)
        with pytest.raises(BudgetExceeded):
            await world.start()


async def test_a_failure_of_an_early_read_fails_who_needs_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody else."""

    async def broken(partition: str, key: str) -> Row | None:
        raise StorageUnavailable("No.")

    commits = world.gateway.commits
    monkeypatch.setattr(commits.table, "get", broken)
    with commits.foreseen(world.owner):
        monkeypatch.undo()
        with pytest.raises(StorageUnavailable):
            await world.start()
    with commits.foreseen(world.owner):
        pass
    await world.start()


async def _set(world: World, **settings: object) -> None:
    table = world.gateway.tables.gateway
    row = await table.get(world.owner, ACCOUNT)
    assert row is not None
    await table.commit(world.owner, Replace(row, {**row.values, **settings}))
