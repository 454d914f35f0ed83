"""The budget of the whole gateway: held before a key's admission, given back after its end, across
all keys.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from shared.accounts.account import Account
from shared.accounts.gateway_budget import GatewayBudget
from shared.errors import BudgetExceeded, StorageUnavailable
from shared.media.video import GATEWAY_OWNER, Video, new_id
from shared.storage.tables import Insert, Write, WriteConflict
from shared.upkeep.sweep import Sweep
from tests.fakes.table import key_of, values_of
from tests.fakes.world import World, world

LIMIT = 2_000_000  # five videos of four seconds


class Engine:
    """Every orchestration is dead; `started` are those that the sweep wants."""

    def __init__(self) -> None:
        self.started: list[str] = []

    async def start(self, video_id: str) -> None:
        self.started.append(video_id)

    async def alive(self, video_id: str) -> bool:
        return False


def run(storage: str, story: Callable[[World], Awaitable[None]], **options: Any) -> None:
    async def tell() -> None:
        async with world(storage, **{"budget": LIMIT, **options}) as w:
            await story(w)

    asyncio.run(tell())


async def whole(w: World) -> Account:
    """The gateway's account, whose reservations must be what its holds say."""
    account = await w.gateway.ledger.account(GATEWAY_OWNER)
    assert account is not None
    holds = [row.values["cost"] async for row in w.gateway.tables.gateway.scan(GATEWAY_OWNER, after="hold_", before="hold`")]
    assert (account.reserved, account.running) == (sum(holds), len(holds))
    return account


async def start(w: World, owner: str | None = None) -> Video | None:
    try:
        return (await w.gateway.lifecycle.start(w.request(), owner or w.owner)).video
    except BudgetExceeded:
        return None


def test_the_gateways_budget_holds_across_keys(azurite: str) -> None:
    """Keys without limits of their own share it: of twenty at once from two keys and two instances,
    five are admitted.
    """

    async def story(w: World) -> None:
        second, other = (await w.gateway.keys.issue(Account())).key_id, w.another()
        starts = [
            gateway.lifecycle.start(w.request(), owner)
            for gateway in (w.gateway, other)
            for owner in (w.owner, second)
            for _ in range(5)
        ]
        ends = await asyncio.gather(*starts, return_exceptions=True)
        refused = [end for end in ends if isinstance(end, BaseException)]
        assert len(ends) - len(refused) == 5
        assert {type(each) for each in refused} == {BudgetExceeded}
        assert (await whole(w)).reserved == LIMIT
        states = [values_of(write) for owner, writes in w.faults.commits if owner == GATEWAY_OWNER for write in writes]
        assert all(state.get("reserved", 0) + state.get("spend", 0) <= LIMIT for state in states)

    run(azurite, story)


def test_a_completed_video_is_spent_and_a_failed_one_given_back(azurite: str) -> None:
    """What failed makes room again; what was made does not."""

    async def story(w: World) -> None:
        first, second = await start(w), await start(w)
        assert first is not None
        assert second is not None
        finish = w.gateway.lifecycle.finish
        for _ in range(2):
            await finish(first.id, None)
            await finish(second.id, {"code": "x", "message": "y"})
        account = await whole(w)
        assert (account.reserved, account.spend, account.running) == (0, 400_000, 0)
        assert [await start(w) is not None for _ in range(5)] == [True] * 4 + [False]

    run(azurite, story)


def test_what_the_key_refuses_is_not_held(azurite: str) -> None:
    """A key at its own limit, a model it may not use, a repeated request: the gateway's budget is
    as before.
    """

    async def story(w: World) -> None:
        assert await start(w) is not None
        for _ in range(3):
            assert await start(w) is None
        account = await whole(w)
        assert (account.reserved, account.running) == (400_000, 1)

    run(azurite, story, limits={"max_budget": 400_000})


def test_the_refusal_says_what_is_left(azurite: str) -> None:
    """Limit, spent and reserved are named; the keys that have used it up are not."""

    async def story(w: World) -> None:
        for _ in range(5):
            await start(w)
        reply = await w.send("POST", "v1/videos", secret=w.secret, body={"prompt": "A cat"})
        assert (reply.status, reply.code) == (429, "budget_exceeded")
        assert reply.headers["x-should-retry"] == "false"
        assert "$2 " in reply.json["error"]["message"]
        assert "key_" not in reply.body.decode()

    run(azurite, story)


def test_a_window_frees_what_was_spent(azurite: str) -> None:
    """The gateway's windows are the calendar's: on the next day spend begins at nothing, holds
    stay.
    """

    async def story(w: World) -> None:
        budget = replace(w.gateway.budget, duration="1d")
        made = [await w.start() for _ in range(2)]
        await w.gateway.lifecycle.finish(made[0].id, None)
        w.clock.skip(12 * 3600)
        extra = [new_id(w.owner, w.clock.now()) for _ in range(4)]
        for video_id in extra:
            await budget.hold(_priced(made[0], video_id))
        account = await whole(w)
        assert (account.spend, account.reserved) == (0, LIMIT)
        with pytest.raises(BudgetExceeded):
            await budget.hold(_priced(made[0], new_id(w.owner, w.clock.now())))

    run(azurite, story)


@pytest.mark.parametrize("lost", [WriteConflict("lost"), StorageUnavailable("lost")], ids=["conflict", "unavailable"])
def test_a_hold_or_release_whose_answer_is_lost_counts_once(azurite: str, lost: Exception) -> None:
    """Both may be repeated, by the transport and by whoever runs the step again."""

    async def story(w: World) -> None:
        video = await w.start()
        await w.gateway.ledger.settle(video.id, status="completed", finished_at=w.clock.now())
        answers = [lost]

        def lose(writes: Sequence[Write]) -> None:
            if answers and any(key_of(write).startswith("hold_") for write in writes):
                raise answers.pop()

        w.faults.after = lose
        for _ in range(3):
            try:
                await w.gateway.lifecycle.finish(video.id, None)
            except StorageUnavailable:
                continue
        account = await whole(w)
        assert (account.reserved, account.spend) == (0, 400_000)

        answers.append(lost)
        other = _priced(video, new_id(w.owner, w.clock.now()))
        try:
            await w.gateway.budget.hold(other)
        except StorageUnavailable:
            assert isinstance(lost, StorageUnavailable)
        account = await whole(w)
        assert (account.reserved, account.running) == (400_000, 1)

    run(azurite, story)


def test_the_sweep_gives_back_what_nobody_will(azurite: str) -> None:
    """A request that died between hold and admission, and a video whose end died before the
    release.
    """

    async def story(w: World) -> None:
        finished = await w.start()
        await w.gateway.ledger.settle(finished.id, status="completed", finished_at=w.clock.now())

        def die(writes: Sequence[Write]) -> None:
            if any(isinstance(write, Insert) and "prompt" in write.values for write in writes):
                raise StorageUnavailable("gone")

        w.faults.before = die
        with pytest.raises(StorageUnavailable):
            await w.start()
        assert (await whole(w)).running == 2
        w.clock.skip(11 * 60)
        engine = Engine()
        await Sweep(w.gateway, engine).run()
        assert engine.started == [finished.id]
        await w.live(finished.id)
        account = await whole(w)
        assert (account.reserved, account.spend, account.running) == (0, 400_000, 0)

    run(azurite, story)


def test_without_a_limit_nothing_is_held(azurite: str) -> None:
    """No budget, no writes for one."""

    async def story(w: World) -> None:
        w.faults.commits.clear()
        await w.gateway.lifecycle.finish((await w.start()).id, None)
        assert GATEWAY_OWNER not in {partition for partition, _ in w.faults.commits}
        assert isinstance(w.gateway.budget, GatewayBudget)

    run(azurite, story, budget=None)


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


def test_a_hold_follows_the_price_of_a_fallback(azurite: str) -> None:
    """A dearer model is held at its own price, or refused with the hold as it was."""

    async def story(w: World) -> None:
        video = await start(w)
        assert video is not None
        await w.gateway.budget.reprice(video.id, LIMIT)
        assert (await whole(w)).reserved == LIMIT
        with pytest.raises(BudgetExceeded):
            await w.gateway.budget.reprice(video.id, LIMIT + 1)
        assert (await whole(w)).reserved == LIMIT

    run(azurite, story)


def test_a_hold_ends_with_its_video_though_the_limit_was_switched_off(azurite: str) -> None:
    """Otherwise it would still be counted when there is a limit again."""

    async def story(w: World) -> None:
        video = await start(w)
        assert video is not None
        await replace(w.gateway.budget, limit=None).release(video.id, video.cost)
        account = await whole(w)
        assert (account.reserved, account.spend) == (0, video.cost)

    run(azurite, story)
