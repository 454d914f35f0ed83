"""A gateway whose region is gone, brought back from an export into empty tables."""

import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count, product
from random import Random

import pytest

from local.restoring import Restoration, RestoreError
from shared import gateway as composition
from shared.accounts.account import Account
from shared.config.exports import Exports
from shared.errors import Unauthenticated
from shared.media.video import GATEWAY_OWNER
from shared.storage.export_files import ExportFiles
from shared.storage.export_text import packed
from shared.storage.tables import Insert, Replace, Row, Write
from shared.storage.video_store import INDEXING, UPKEEP
from shared.upkeep.audit import Audit
from shared.upkeep.exporting import open_files
from shared.upkeep.sweep import Sweep
from tests.fakes.orchestrations import Engine
from tests.fakes.table import Faults, FaultyTables, MemoryTable
from tests.fakes.world import Links, World

pytestmark = pytest.mark.anyio

NAME = "gateway-20261129T031700Z.jsonl.gz"
PRICE = 400_000  # micro-dollars, of a video


class Cut(Exception):
    """The command was killed."""


@pytest.fixture
async def files(world: World) -> AsyncIterator[ExportFiles]:
    opened = open_files(world.gateway, Exports(container=f"exports-{secrets.token_hex(6)}"))
    yield opened
    await opened.close()


@asynccontextmanager
async def elsewhere(world: World) -> AsyncIterator[World]:
    """The same configuration and master key in another region: empty tables."""
    faults = Faults()
    tables = FaultyTables(world.gateway.settings.storage, faults, inner=(MemoryTable(), MemoryTable()))
    gateway = composition.build(world.gateway.settings, world.clock, Random(4), Links(world.upstream), tables)
    try:
        yield replace(world, gateway=gateway, faults=faults)
    finally:
        await gateway.close()


def killed_at(point: int | None, numbers: Iterator[int]) -> Callable[[Sequence[Write]], None]:
    """What kills a command at the commit of this number, from 0."""

    def commit(_: Sequence[Write]) -> None:
        if next(numbers) == point:
            raise Cut

    return commit


async def exported(world: World, files: ExportFiles) -> None:
    await files.save(NAME, packed(world.gateway.tables.gateway.everything()))


async def made(world: World) -> str:
    video = await world.start()
    await world.submitted(video.id)
    world.upstream.end()
    return (await world.live(video.id)).id


async def listed(world: World, secret: str) -> list[tuple[str, str]]:
    reply = await world.send("GET", "v1/videos", secret=secret)
    return [(video["id"], video["status"]) for video in reply.json["data"]]


async def rows(world: World) -> dict[tuple[str, str], dict[str, object]]:
    return {(partition, row.key): row.values async for partition, row in world.gateway.tables.gateway.everything()}


async def reserved_of_all(world: World) -> tuple[int, int]:
    """What is held of the whole gateway's budget, and for how many videos."""
    whole = await world.gateway.ledger.account(GATEWAY_OWNER)
    assert whole is not None
    return whole.reserved, whole.running


async def differences(world: World) -> list[object]:
    return [each async for each in Audit(world.gateway).differences()]


@pytest.mark.world(limits={"max_budget": 3 * PRICE}, budget=10 * PRICE)
async def test_keys_go_on_with_what_is_left_of_their_budgets(world: World, files: ExportFiles) -> None:
    """Lists and spend are as before, and the last video that the budget allows is the last one."""
    for _ in range(2):
        await made(world)
    deleted = await made(world)
    await world.gateway.lifecycle.delete(deleted)
    before = await listed(world, world.secret), await world.account()
    await exported(world, files)
    async with elsewhere(world) as new:
        assert (await new.send("GET", "v1/videos", secret=world.secret)).status == 401
        contents = await Restoration(new.gateway, files, NAME).run()
        assert (len(contents.keys), contents.unfinished) == (1, {})
        assert (await listed(new, world.secret), await new.account()) == before
        assert (await new.send("GET", f"v1/videos/{deleted}", secret=world.secret)).status == 404
        refused = await new.send("POST", "v1/videos", secret=world.secret, body={"prompt": "A cat"})
        assert refused.json["error"]["code"] == "budget_exceeded"
        assert await differences(new) == []


async def test_a_key_that_had_ended_stays_so(world: World, files: ExportFiles) -> None:
    """Deleted, and with an older secret."""
    other = await world.gateway.keys.issue(Account(alias="mine"))
    renewed = await world.gateway.keys.regenerate(other.key_id)
    await world.gateway.keys.delete(world.owner)
    await exported(world, files)
    async with elsewhere(world) as new:
        await Restoration(new.gateway, files, NAME).run()
        statuses = [
            (await new.send("GET", "v1/videos", secret=secret)).status
            for secret in (world.secret, other.secret, renewed.secret)
        ]
        assert statuses == [401, 401, 200]
        assert await new.gateway.keys.find_alias("mine") == other.key_id


@pytest.mark.world(budget=10 * PRICE)
async def test_what_was_under_way_fails_and_costs_nothing(world: World, files: ExportFiles) -> None:
    """Whether the upstream had its job or not. It may have made it since, so it is not asked
    again.
    """
    waiting, running, dropped = await world.start(), await world.start(), await world.start()
    await world.submitted(running.id)
    await world.submitted(dropped.id)
    await world.gateway.lifecycle.delete(dropped.id)
    creates = len(world.upstream.jobs)
    await exported(world, files)
    async with elsewhere(world) as new:
        contents = await Restoration(new.gateway, files, NAME).run()
        assert set(contents.unfinished) == {waiting.id, running.id, dropped.id}
        for video_id in (waiting.id, running.id):
            video = await new.video(video_id)
            assert (video.status, video.error_code) == ("failed", "gateway_restored")
        account = await new.account()
        assert (account.reserved, account.running, account.spend) == (0, 0, 0)
        assert await reserved_of_all(new) == (0, 0)
        assert [each async for each in new.gateway.lines.unfinished()] == []
        assert [each async for each in new.gateway.pool.unfinished(new.model)] == []
        assert len(world.upstream.jobs) == creates
        assert await differences(new) == []


@pytest.mark.world(budget=10 * PRICE)
async def test_an_export_that_was_written_to_meanwhile_is_put_right(
    world: World, files: ExportFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Holds are read before a key's row, that before its videos, and those before their lines: a
    video that ends between them is counted once.
    """
    monkeypatch.setattr("tests.fakes.table._PAGE", 1)
    ended, later = await world.start(), await world.start()
    for video in (ended, later):
        await world.submitted(video.id)
    world.upstream.end()

    async def torn() -> AsyncIterator[tuple[str, Row]]:
        async for partition, row in world.gateway.tables.gateway.everything():
            yield partition, row
            if (partition, row.key) == (world.owner, "key"):
                await world.live(ended.id)
            if partition == "keys":
                await world.live(later.id)

    await files.save(NAME, packed(torn()))
    async with elsewhere(world) as new:
        await Restoration(new.gateway, files, NAME).run()
        assert ((await new.video(ended.id)).status, (await new.video(later.id)).status) == ("completed", "failed")
        account = await new.account()
        assert (account.spend, account.reserved, account.running) == (PRICE, 0, 0)
        assert await reserved_of_all(new) == (0, 0)
        assert sorted([line.spent async for _, line in new.gateway.lines.between() if line]) == [0, PRICE]
        assert await differences(new) == []


@pytest.mark.world(budget=10 * PRICE)
async def test_a_restoration_that_is_killed_anywhere_is_gone_on_with(world: World, files: ExportFiles) -> None:
    """Before and after every write; it ends the same."""
    await made(world)
    await world.start()
    await exported(world, files)
    async with elsewhere(world) as whole:
        tried, passed = count(), count()
        whole.faults.before, whole.faults.after = killed_at(None, tried), killed_at(None, passed)
        await Restoration(whole.gateway, files, NAME).run()
        wanted = await rows(whole)
    ways = [*product(["before"], range(next(tried))), *product(["after"], range(next(passed)))]
    assert len(ways) > 16
    for when, point in ways:
        async with elsewhere(world) as new:
            setattr(new.faults, when, killed_at(point, count()))
            with pytest.raises(Cut):
                await Restoration(new.gateway, files, NAME).run()
            new.faults.before = new.faults.after = lambda writes: None
            if (when, point) != ways[-1]:  # that one was done
                await Restoration(new.gateway, files, NAME).run()
            assert await rows(new) == wanted, (when, point)


async def cut_at(world: World, files: ExportFiles, is_it: Callable[[Write], bool]) -> None:
    """A restoration that is killed before such a write."""

    def dies(writes: Sequence[Write]) -> None:
        if any(map(is_it, writes)):
            raise Cut

    world.faults.before = dies
    with pytest.raises(Cut):
        await Restoration(world.gateway, files, NAME).run()
    world.faults.before = lambda writes: None


async def test_nobody_gets_in_before_everything_else_is_done(world: World, files: ExportFiles) -> None:
    video = await world.start()
    await exported(world, files)
    async with elsewhere(world) as new:
        await cut_at(new, files, lambda write: isinstance(write, Insert) and "key" in write.values)
        assert (await new.send("GET", "v1/videos", secret=world.secret)).status == 401
        assert (await new.video(video.id)).status == "failed"


async def test_an_identity_from_outside_does_not_begin_anew_meanwhile(world: World, files: ExportFiles) -> None:
    """Its account is made at its first use, wherever that is."""
    settings = {"configured": "1", "max_budget": PRICE}
    owner, _ = await world.gateway.keys.account_of("somebody", settings)
    await exported(world, files)
    async with elsewhere(world) as new:
        await cut_at(new, files, lambda write: isinstance(write, Insert) and write.key == "key")
        with pytest.raises(Unauthenticated):
            await new.gateway.keys.account_of("somebody", settings)
        await Restoration(new.gateway, files, NAME).run()
        assert (await new.gateway.keys.account_of("somebody", settings))[0] == owner


async def test_no_sweep_starts_what_has_not_failed_yet(world: World, files: ExportFiles) -> None:
    """Its job may have been made: by the open lines of its spend a sweep would find it."""
    video = await world.start()
    await exported(world, files)
    async with elsewhere(world) as new:
        await cut_at(new, files, lambda write: isinstance(write, Replace) and write.row.key == video.id)
        assert (await new.video(video.id)).status == "queued"
        engine = Engine()
        for _ in range(2):  # the first would note it, and the second start it
            world.clock.skip(3600)
            await Sweep(new.gateway, engine).run()
        assert engine.started == []


async def test_tables_that_are_in_use_are_left_alone(world: World, files: ExportFiles) -> None:
    """Those of another gateway, of the same one, and of one that was restored."""
    await exported(world, files)
    before = await rows(world)
    with pytest.raises(RestoreError, match="in use"):
        await Restoration(world.gateway, files, NAME).run()
    assert await rows(world) == before
    async with elsewhere(world) as new:
        await Restoration(new.gateway, files, NAME).run()
        with pytest.raises(RestoreError, match="restored into these tables before"):
            await Restoration(new.gateway, files, NAME).run()


async def test_beside_others_only_what_is_missing_is_added(world: World, files: ExportFiles) -> None:
    """Of a gateway that was not lost nothing changes, not even what it is making."""
    await made(world)
    running = await world.start()
    await exported(world, files)
    before = await rows(world)
    await Restoration(world.gateway, files, NAME).run(beside_others=True)
    changed = await rows(world)
    assert changed.pop((UPKEEP, "restored")) == {"file": NAME, "done": True}
    assert changed == before
    assert (await world.video(running.id)).status == "queued"
    async with elsewhere(world) as new:
        own = await new.gateway.keys.issue(Account())
        await Restoration(new.gateway, files, NAME).run(beside_others=True)
        assert [(await new.send("GET", "v1/videos", secret=each)).status for each in (own.secret, world.secret)] == [200, 200]


async def test_a_damaged_file_writes_nothing(world: World, files: ExportFiles) -> None:
    async def cut_off() -> AsyncIterator[bytes]:
        whole = b"".join([chunk async for chunk in packed(world.gateway.tables.gateway.everything())])
        yield whole[:-5]

    await files.save(NAME, cut_off())
    async with elsewhere(world) as new:
        with pytest.raises(RestoreError, match="cut off"):
            await Restoration(new.gateway, files, NAME).run()
        assert await rows(new) == {}


async def test_videos_of_earlier_versions_are_looked_for_again(world: World, files: ExportFiles) -> None:
    """The new tables may have been found to have none, when they were empty."""
    await exported(world, files)
    async with elsewhere(world) as new:
        await new.gateway.tables.gateway.commit(UPKEEP, Insert(INDEXING, {"since": world.clock.now(), "done": True}))
        await Restoration(new.gateway, files, NAME).run()
        assert await new.gateway.tables.gateway.get(UPKEEP, INDEXING) is None
