"""The budget of the whole gateway: held before a key's admission, given back after its end, across
all keys.
"""

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from shared.accounts.account import Account
from shared.accounts.gateway_budget import GatewayBudget
from shared.errors import BudgetExceeded, StorageUnavailable
from shared.media.video import GATEWAY_OWNER, Video, new_id
from shared.storage.tables import Insert, Write, WriteConflict
from shared.upkeep.sweep import Sweep
from tests.fakes.orchestrations import Engine
from tests.fakes.table import key_of, values_of
from tests.fakes.world import World

LIMIT = 2_000_000  # five videos of four seconds

pytestmark = [pytest.mark.anyio, pytest.mark.world(budget=LIMIT)]


async def whole(world: World) -> Account:
    """The gateway's account, whose reservations must be what its holds say."""
    account = await world.gateway.ledger.account(GATEWAY_OWNER)
    assert account is not None
    rows = world.gateway.tables.gateway.scan(GATEWAY_OWNER, after="hold_", before="hold`")
    holds = [row.values["cost"] async for row in rows]
    assert (account.reserved, account.running) == (sum(holds), len(holds))
    return account


async def start(world: World, owner: str | None = None) -> Video | None:
    try:
        return (await world.gateway.lifecycle.start(world.request(), owner or world.owner)).video
    except BudgetExceeded:
        return None


async def test_the_gateways_budget_holds_across_keys(world: World) -> None:
    """Keys without limits of their own share it: of twenty at once from two keys and two instances,
    five are admitted.
    """
    second, other = (await world.gateway.keys.issue(Account())).key_id, world.another()
    starts = [
        gateway.lifecycle.start(world.request(), owner)
        for gateway in (world.gateway, other)
        for owner in (world.owner, second)
        for _ in range(5)
    ]
    ends = await asyncio.gather(*starts, return_exceptions=True)
    refused = [end for end in ends if isinstance(end, BaseException)]
    assert len(ends) - len(refused) == 5
    assert {type(each) for each in refused} == {BudgetExceeded}
    assert (await whole(world)).reserved == LIMIT
    states = [values_of(write) for owner, writes in world.faults.commits if owner == GATEWAY_OWNER for write in writes]
    assert all(state.get("reserved", 0) + state.get("spend", 0) <= LIMIT for state in states)


async def test_a_completed_video_is_spent_and_a_failed_one_given_back(world: World) -> None:
    """What failed makes room again; what was made does not."""
    first, second = await start(world), await start(world)
    assert first is not None
    assert second is not None
    finish = world.gateway.lifecycle.finish
    for _ in range(2):
        await finish(first.id, None)
        await finish(second.id, {"code": "x", "message": "y", "request_id": None})
    account = await whole(world)
    assert (account.reserved, account.spend, account.running) == (0, 400_000, 0)
    assert [await start(world) is not None for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.world(limits={"max_budget": 400_000})
async def test_what_the_key_refuses_is_not_held(world: World) -> None:
    """A key at its own limit, a model it may not use, a repeated request: the gateway's budget is
    as before.
    """
    assert await start(world) is not None
    for _ in range(3):
        assert await start(world) is None
    account = await whole(world)
    assert (account.reserved, account.running) == (400_000, 1)


async def test_the_refusal_tells_no_sums(world: World) -> None:
    """A caller hears that the gateway's budget is used up; what others have spent it does not."""
    for _ in range(5):
        await start(world)
    reply = await world.send("POST", "v1/videos", secret=world.secret, body={"prompt": "A cat"})
    assert (reply.status, reply.code) == (429, "budget_exceeded")
    assert reply.headers["x-should-retry"] == "false"
    assert "$2" not in reply.json["error"]["message"]
    assert "$0.4" in reply.json["error"]["message"], "the price of its own video"
    assert "key_" not in reply.body.decode()


async def test_a_window_frees_what_was_spent(world: World) -> None:
    """The gateway's windows are the calendar's: on the next day spend begins at nothing, holds
    stay.
    """
    budget = replace(world.gateway.budget, duration="1d")
    made = [await world.start() for _ in range(2)]
    await world.gateway.lifecycle.finish(made[0].id, None)
    world.clock.skip(12 * 3600)
    extra = [new_id(world.owner, world.clock.now()) for _ in range(4)]
    for video_id in extra:
        await budget.hold(_priced(made[0], video_id))
    account = await whole(world)
    assert (account.spend, account.reserved) == (0, LIMIT)
    with pytest.raises(BudgetExceeded):
        await budget.hold(_priced(made[0], new_id(world.owner, world.clock.now())))


@pytest.mark.parametrize("lost", [WriteConflict("lost"), StorageUnavailable("lost")], ids=["conflict", "unavailable"])
async def test_a_hold_or_release_whose_answer_is_lost_counts_once(world: World, lost: Exception) -> None:
    """Both may be repeated, by the transport and by whoever runs the step again."""
    video = await world.start()
    await world.gateway.ledger.settle(video.id, status="completed", finished_at=world.clock.now())
    answers = [lost]

    def lose(writes: Sequence[Write]) -> None:
        if answers and any(key_of(write).startswith("hold_") for write in writes):
            raise answers.pop()

    world.faults.after = lose
    for _ in range(3):
        try:
            await world.gateway.lifecycle.finish(video.id, None)
        except StorageUnavailable:
            continue
    account = await whole(world)
    assert (account.reserved, account.spend) == (0, 400_000)

    answers.append(lost)
    other = _priced(video, new_id(world.owner, world.clock.now()))
    try:
        await world.gateway.budget.hold(other)
    except StorageUnavailable:
        assert isinstance(lost, StorageUnavailable)
    account = await whole(world)
    assert (account.reserved, account.running) == (400_000, 1)


async def test_the_sweep_gives_back_what_nobody_will(world: World) -> None:
    """A request that died between hold and admission, and a video whose end died before the
    release.
    """
    finished = await world.start()
    await world.gateway.ledger.settle(finished.id, status="completed", finished_at=world.clock.now())

    def die(writes: Sequence[Write]) -> None:
        if any(isinstance(write, Insert) and "prompt" in write.values for write in writes):
            raise StorageUnavailable("gone")

    world.faults.before = die
    with pytest.raises(StorageUnavailable):
        await world.start()
    assert (await whole(world)).running == 2
    world.clock.skip(11 * 60)
    engine = Engine()
    await Sweep(world.gateway, engine).run()
    assert engine.started == [finished.id]
    await world.live(finished.id)
    account = await whole(world)
    assert (account.reserved, account.spend, account.running) == (0, 400_000, 0)


@pytest.mark.world(budget=None)
async def test_without_a_limit_nothing_is_held(world: World) -> None:
    """No budget, no writes for one."""
    world.faults.commits.clear()
    await world.gateway.lifecycle.finish((await world.start()).id, None)
    assert GATEWAY_OWNER not in {partition for partition, _ in world.faults.commits}
    assert isinstance(world.gateway.budget, GatewayBudget)


def _priced(video: Video, video_id: str) -> Video:
    return Video(
        id=video_id,
        model=video.model,
        created_at=video.created_at,
        prompt="A cat",
        seconds=video.seconds,
        size=video.size,
        cost=video.cost,
    )


async def test_a_hold_follows_the_price_of_a_fallback(world: World) -> None:
    """A dearer model is held at its own price, or refused with the hold as it was."""
    video = await start(world)
    assert video is not None
    await world.gateway.budget.reprice(video.id, LIMIT)
    assert (await whole(world)).reserved == LIMIT
    with pytest.raises(BudgetExceeded):
        await world.gateway.budget.reprice(video.id, LIMIT + 1)
    assert (await whole(world)).reserved == LIMIT


async def test_a_hold_ends_with_its_video_though_the_limit_was_switched_off(world: World) -> None:
    """Otherwise it would still be counted when there is a limit again."""
    video = await start(world)
    assert video is not None
    await replace(world.gateway.budget, limit=None).release(video.id, video.cost)
    account = await whole(world)
    assert (account.reserved, account.spend) == (0, video.cost)
