"""Exports once a day, of a gateway that has something to lose."""

import secrets
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from shared.config.exports import Exports
from shared.storage.export_text import unpacked
from shared.storage.tables import Delete, unread
from shared.upkeep.exporting import keep_exported, names_of, open_files
from tests.fakes.world import World

pytestmark = pytest.mark.anyio


async def kept(world: World, exports: Exports) -> list[str]:
    """The files there are after the gateway was asked to export."""
    await keep_exported(world.gateway, exports, world.clock.now())
    files = open_files(world.gateway, exports)
    try:
        return await names_of(files)
    finally:
        await files.close()


async def note() -> AsyncIterator[bytes]:
    yield b"of the operator"


def of_its_own(kept: int = 14) -> Exports:
    return Exports("own", f"exports-{secrets.token_hex(6)}", kept)


async def test_there_is_one_a_day_and_the_newest_stay(world: World) -> None:
    """Asked once an hour."""
    exports, seen = of_its_own(kept=3), set[str]()
    for _ in range(5 * 24 + 1):
        names = await kept(world, exports)
        seen |= set(names)
        world.clock.skip(3600)
    assert len(seen) == 6
    assert names == sorted(seen)[-3:]


async def test_a_day_that_was_missed_is_made_up_for(world: World) -> None:
    exports = of_its_own()
    await kept(world, exports)
    world.clock.skip(timedelta(days=3).total_seconds())
    assert len(await kept(world, exports)) == 2


async def test_a_gateway_without_keys_exports_nothing(world: World) -> None:
    """It may be the one that the exports are to be restored into, with the old one's files."""
    exports = of_its_own()
    await world.gateway.tables.gateway.commit("keys", Delete(unread(world.owner)))
    assert await kept(world, exports) == []


async def test_other_files_of_the_container_stay(world: World) -> None:
    exports = of_its_own(kept=1)
    files = open_files(world.gateway, exports)
    await files.save("gateway-notes.txt", note())
    await kept(world, exports)
    world.clock.skip(timedelta(days=1).total_seconds())
    assert len(await kept(world, exports)) == 1
    assert len(await files.names("")) == 2
    await files.close()


async def test_an_export_holds_every_row_of_the_table(world: World) -> None:
    video, exports = await world.start(), of_its_own()
    (name,) = await kept(world, exports)
    files = open_files(world.gateway, exports)
    rows = {(row.partition, row.key): row.values async for row in unpacked(files.read(name))}
    await files.close()
    assert set(rows) == {(partition, row.key) async for partition, row in world.gateway.tables.gateway.everything()}
    assert rows[world.owner, video.id]["prompt"] == "A cat"
    assert world.secret not in str(rows)
