"""Admission and settlement on real tables: together, apart, cut off, and with answers that are
lost.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from shared.accounts.account import Account, recount
from shared.accounts.idempotency import RequestIdentity
from shared.accounts.ledger import Ledger
from shared.errors import BudgetExceeded, RequestError, StorageUnavailable, Unauthenticated
from shared.media.video import Video, new_id
from shared.storage.tables import Delete, Write, WriteConflict
from tests.fakes.table import key_of, values_of
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

HUGE = "🐈" * 32_000


def video(world: World, **changes: Any) -> Video:
    now = world.clock.now()
    made = Video(id=new_id(world.owner, now), model="m", created_at=now, prompt="A cat", seconds=4, size="1x1", cost=400_000)
    return msgspec.structs.replace(made, **changes)


async def videos(world: World) -> list[Video]:
    return [each async for each in world.gateway.videos.of(world.owner)]


async def audited(world: World) -> Account:
    """The account, which must say what its videos say."""
    account = await world.account()
    assert recount(account, await videos(world)) == account
    return account


async def attempt(ledger: Ledger, wanted: Video) -> bool:
    try:
        await ledger.admit(wanted)
    except BudgetExceeded:
        return False
    return True


async def test_callers_of_one_key_share_their_writes(world: World) -> None:
    """A hundred admissions at once take a handful of commits, not a hundred; all of them are
    counted.
    """
    world.faults.commits.clear()
    await asyncio.gather(*(world.gateway.ledger.admit(video(world)) for _ in range(100)))
    assert len(world.faults.commits) <= 6
    account = await audited(world)
    assert (account.running, account.reserved) == (100, 40_000_000)


@pytest.mark.world(limits={"max_budget": 10_000_000})
async def test_exactly_as_many_as_the_budget_holds_are_admitted(world: World) -> None:
    """Of a hundred at once, the refused ones do not disturb the others in the same write."""
    accepted = await asyncio.gather(*(attempt(world.gateway.ledger, video(world)) for _ in range(100)))
    assert sum(accepted) == 25
    assert (await audited(world)).reserved == 10_000_000


@pytest.mark.world(limits={"max_budget": 10_000_000})
async def test_two_instances_never_overspend_a_key_together(world: World) -> None:
    """Two hundred creates of $0.40 through two instances against $10.00: 25, and never more at any
    commit.
    """
    ledgers = (world.gateway.ledger, world.another().ledger)
    accepted = await asyncio.gather(*(attempt(ledgers[n % 2], video(world)) for n in range(200)))
    assert sum(accepted) == 25
    account = await audited(world)
    assert (account.reserved, account.running, len(await videos(world))) == (10_000_000, 25, 25)
    states = [values_of(write) for _, writes in world.faults.commits for write in writes if key_of(write) == "key"]
    assert all(state.get("reserved", 0) + state.get("spend", 0) <= 10_000_000 for state in states)
    assert max(state.get("reserved", 0) for state in states) == 10_000_000


async def test_admissions_and_settlements_of_two_instances_add_up(world: World) -> None:
    """While both create and both settle, also the same videos, each price is reserved once and
    settled once.
    """
    first, second = world.gateway.ledger, world.another().ledger
    old = [(await first.admit(video(world))).video for _ in range(20)]
    outcomes = ("completed", "failed")
    settlements = [
        ledger.settle(each.id, status=outcomes[n % 2], finished_at=world.clock.now())
        for ledger in (first, second)
        for n, each in enumerate(old)
    ]
    await asyncio.gather(*settlements, *(ledger.admit(video(world)) for ledger in (first, second) for _ in range(15)))
    account = await audited(world)
    assert (account.running, account.reserved, account.spend) == (30, 12_000_000, 4_000_000)


async def test_the_first_outcome_stands(world: World) -> None:
    """A video that has ended is not ended again, however often and differently that is
    asked for.
    """
    ledger = world.gateway.ledger
    made = (await ledger.admit(video(world))).video
    ends = await asyncio.gather(
        *(ledger.settle(made.id, status=status, finished_at=world.clock.now()) for status in ("failed", "completed") * 3)
    )
    assert [each.status for each in ends if each] == ["failed"] * 6
    account = await audited(world)
    assert (account.spend, account.reserved, account.running) == (0, 0, 0)
    assert await ledger.settle(new_id(world.owner, world.clock.now()), status="failed", finished_at=world.clock.now()) is None


async def test_money_moves_through_settlement_alone(world: World) -> None:
    """Neither the end nor the price of a video can be changed in passing, and what is changed stays
    with the counters.
    """
    ledger = world.gateway.ledger
    made = (await ledger.admit(video(world))).video
    entry = await world.gateway.videos.find(made.id)
    assert entry is not None
    for changes in ({"status": "completed"}, {"cost": 1}):
        with pytest.raises(ValueError, match="settle"):
            await world.gateway.videos.change(entry, **changes)
    await world.gateway.videos.change(entry, progress=50)
    with pytest.raises(WriteConflict):
        await world.gateway.videos.change(entry, progress=60)
    assert (await world.video(made.id)).progress == 50
    await audited(world)


async def test_a_caller_who_hangs_up_takes_nobody_along(world: World) -> None:
    """Half of the callers go, in the queue and during the write: the other half is answered, and
    the counters are right.
    """
    begun = asyncio.Event()
    world.faults.before = lambda _: begun.set()
    tasks = [asyncio.create_task(world.gateway.ledger.admit(video(world))) for _ in range(60)]
    await asyncio.sleep(0)
    for task in tasks[0:40:2]:
        task.cancel()
    await begun.wait()
    for task in tasks[40::2]:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(not isinstance(end, BaseException) for end in ends[1::2])
    assert all(isinstance(end, asyncio.CancelledError) for end in ends[0:40:2])
    account = await audited(world)
    assert 30 <= account.running <= 40, "of those who went while they were written, the video may stand"
    assert (await world.gateway.ledger.admit(video(world))).account.running == account.running + 1


@pytest.mark.parametrize("lost", [WriteConflict("lost"), StorageUnavailable("lost")], ids=["conflict", "unavailable"])
async def test_a_write_whose_answer_is_lost_is_recognised(world: World, lost: Exception) -> None:
    """The transport repeats it and meets its own work, or gives up: either way nothing is reserved
    or settled twice.
    """
    ledger = world.gateway.ledger
    answers = [lost]

    def lose(_: Sequence[Write]) -> None:
        if answers:
            raise answers.pop()

    world.faults.after = lose
    wanted = [video(world) for _ in range(5)]
    claims = [
        RequestIdentity(f"once_{each.id}", "f", True, 0, world.clock.now()) if n % 2 else None for n, each in enumerate(wanted)
    ]
    ends = await asyncio.gather(*map(ledger.admit, wanted, claims), return_exceptions=True)
    if isinstance(lost, WriteConflict):
        assert [isinstance(end, BaseException) or end.replayed for end in ends] == [False] * 5
    again = [await ledger.admit(each, claim) for each, claim in zip(wanted, claims, strict=True)]
    assert [each.video.id for each in again] == [each.id for each in wanted]
    assert (await audited(world)).running == 5

    answers.append(lost)
    for _ in range(2):
        with_answers = (ledger.settle(each.id, status="completed", finished_at=world.clock.now()) for each in wanted)
        await asyncio.gather(*with_answers, return_exceptions=True)
    account = await audited(world)
    assert (account.running, account.reserved, account.spend) == (0, 0, 2_000_000)


async def test_two_equal_requests_whose_shared_write_is_lost_are_still_one(world: World) -> None:
    """Both wait for one commit under one claim; its answer is lost; the one that was written
    answers both.
    """
    answers: list[Exception] = [WriteConflict("lost")]
    world.faults.after = lambda _: _raise(answers)
    now = world.clock.now()
    wanted = [video(world) for _ in range(4)]
    claims = [RequestIdentity("once_x", "f", False, int(retry), now) for retry in (True, False, True, False)]
    ends = await asyncio.gather(*map(world.gateway.ledger.admit, wanted, claims))
    assert len({each.video.id for each in ends}) == 1
    assert [each.replayed for each in ends] == [False, True, True, True]
    assert (await audited(world)).running == 1


async def test_storage_that_does_not_answer_is_an_error_for_all_who_wait(world: World) -> None:
    """Everybody in the batch is told, nothing is left behind, and the next request works."""
    failures: list[Exception] = [StorageUnavailable("down")]
    world.faults.before = lambda _: _raise(failures)
    ends = await asyncio.gather(*(world.gateway.ledger.admit(video(world)) for _ in range(10)), return_exceptions=True)
    assert {type(end) for end in ends} == {StorageUnavailable}
    assert (await audited(world)).running == 0
    await world.gateway.ledger.admit(video(world))


async def test_a_race_that_is_never_won_ends(world: World) -> None:
    """After some forty conflicts in a row the caller hears that storage is busy, and when to come
    back.
    """
    world.faults.before = lambda _: _raise([WriteConflict("busy")])
    with pytest.raises(StorageUnavailable) as busy:
        await world.gateway.ledger.admit(video(world))
    assert busy.value.retry_after == 1


# The transport warns of bodies over a megabyte, which only a burst of the longest prompts makes.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.world(limits={"tags": json.dumps(["🐈" * 61 + f"{n:03}" for n in range(32)])})
async def test_a_full_batch_of_the_largest_rows_fits_a_transaction(world: World) -> None:
    """Longest prompts, metadata, users and tags in the widest characters: never over 100 rows or 4
    MiB.
    """
    text = "🐈" * 512
    metadata = json.dumps({f"{n:02}" + "🐈" * 62: text for n in range(16)}, ensure_ascii=False)
    largest = {"prompt": HUGE, "metadata": metadata, "user": text}
    ledger = world.gateway.ledger
    now = world.clock.now()

    async def admitted(changes: dict[str, Any], count: int) -> list[Video]:
        claims = [RequestIdentity(f"once_{n}", "f", False, 0, now) for n in range(count)]
        ends = await asyncio.gather(*(ledger.admit(video(world, **changes), claim) for claim in claims))
        return [each.video for each in ends]

    await asyncio.gather(*(admitted(each, 40) for each in ({"metadata": metadata, "user": text}, {"prompt": "🐈" * 8_000})))
    made = await admitted(largest, 12)
    end = {"status": "failed", "error_message": "🐈" * 4_000, "finished_at": now}
    await asyncio.gather(*(ledger.settle(each.id, **end) for each in made))
    assert (await audited(world)).running == 80
    for _, writes in world.faults.commits:
        assert len(writes) <= 100
        assert sum(wire_size(write) for write in writes) <= 4 * 1024**2
    assert max(len(writes) for _, writes in world.faults.commits) > 50, "the batches were full"


def wire_size(write: Write) -> int:
    """Bytes of a row in the body of a transaction: JSON in ASCII, types, and about a kilobyte of
    headers.
    """
    values = {} if isinstance(write, Delete) else values_of(write)
    return len(json.dumps({name: str(value) for name, value in values.items()})) + 60 * len(values) + 1_000


async def test_the_operators_own_account_exists_without_being_issued(world: World) -> None:
    """Two videos at once may both be its first; a key that nobody made is unknown."""
    ledger, now = world.gateway.ledger, world.clock.now()
    before = await ledger.account("key_00000000")
    assert before is not None
    made = [video(world, id=new_id("key_00000000", now)) for _ in range(2)]
    await asyncio.gather(ledger.admit(made[0]), world.another().ledger.admit(made[1]))
    after = await ledger.account("key_00000000")
    assert after is not None
    assert after.running == before.running + 2
    with pytest.raises(Unauthenticated):
        await ledger.admit(video(world, id=new_id("key_ffffffff", now)))


@pytest.mark.world(limits={"models": '["m"]', "max_seconds_per_video": 8, "max_parallel_requests": 3})
async def test_a_refusal_of_one_leaves_the_others_of_its_write_alone(world: World) -> None:
    """In one batch: a model that is not allowed, a video too long, a key used up, and those who
    may.
    """
    wanted = [video(world), video(world, model="other"), video(world), video(world, seconds=99), video(world), video(world)]
    ends = await asyncio.gather(*map(world.gateway.ledger.admit, wanted), return_exceptions=True)
    codes = [end.code if isinstance(end, RequestError) else "" for end in ends]
    assert codes == ["", "model_not_allowed", "", "seconds_not_allowed", "", "too_many_running"]
    assert (await audited(world)).running == 3


def _raise(failures: list[Exception]) -> None:
    if failures:
        raise failures.pop()
