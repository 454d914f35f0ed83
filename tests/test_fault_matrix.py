"""The fault matrix: every upstream fault in every operation that can meet it."""

import asyncio
from pathlib import Path

from local.fault_world import fault_world
from local.faults import EXCEPTIONS, FAULTS, NOWHERE, OPERATIONS, cells, matrix


def test_every_upstream_fault_ends_as_promised(azurite: str, tmp_path: Path) -> None:
    """Status and code are those of the table, at most one job is made, calls are bounded, and nothing is kept or leaked.

    Every fault once in every operation; `make faults` also runs those that never stop.
    """

    async def run() -> list[str]:
        async with fault_world(azurite, tmp_path) as world:
            shown, problems = await matrix(world, [cell for cell in cells() if not cell.always])
        assert shown.row_count > len(FAULTS)
        return problems

    assert asyncio.run(run()) == []


def test_the_tables_of_faults_name_each_other() -> None:
    """A slip in a name would silently test nothing."""
    assert NOWHERE.keys() <= FAULTS.keys()
    assert {fault for fault, _ in EXCEPTIONS} <= FAULTS.keys()
    assert {operation for _, operation in EXCEPTIONS} <= set(OPERATIONS)
    known = {(cell.fault, cell.operation) for cell in cells()}
    assert EXCEPTIONS.keys() <= known
