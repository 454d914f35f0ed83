"""Several rows for one model: limits and turns hold across them, whatever is configured and whoever
wrote them.
"""

import asyncio
from collections import Counter
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.capacity.pool import Slot, Wait
from shared.capacity.shards import shard_of
from shared.capacity.slots import STEP
from shared.capacity.waiting_line import new_place, next_of, tag_of
from shared.storage.tables import Insert, Replace, Row
from tests.unit.capacity.test_pool import Yard, place_of

pytestmark = pytest.mark.anyio


def test_a_deployment_has_the_row_that_its_name_says() -> None:
    """These numbers are stored: another one would begin with an empty row while jobs run."""
    assert [shard_of(name) for name in ("sora-2", "d0", "d1")] == ["state_63", "state_48", "state_38"]


async def test_deployments_of_different_rows_are_changed_at_once() -> None:
    """Eight jobs that end at the same moment, each on another instance, conflict only where two
    names share a row.
    """
    yard = Yard([(1, 100)] * 40, instances=8)
    running = [await yard.arrive(owner) for owner in range(40)]
    ended = [msgspec.structs.replace(each, deployment=yard.holder(each)) for each in running]
    ended.sort(key=lambda each: int((each.deployment or "")[1:]))
    yard.table.operations.counts.clear()
    for first in range(0, 40, 8):
        await asyncio.gather(*(pool.ended(each) for pool, each in zip(yard.pools, ended[first:], strict=False)))
    shared = sum(8 - len({shard_of(f"d{number}") for number in range(first, first + 8)}) for first in range(0, 40, 8))
    assert yard.table.operations.of(kind="lost race") <= 3 * shared
    assert await yard.pool.holders(yard.model) == {}


async def test_a_deployment_that_is_taken_out_of_the_configuration_keeps_its_row() -> None:
    """An instance that does not know it neither uses it nor counts it wrong; one that still does
    keeps to its limit, and it is the same again when it comes back.
    """
    yard = Yard([(1, 100), (1, 100)])
    former, smaller = yard.model, replace(yard.model, deployments=yard.model.deployments[:1])
    new = yard.instance(smaller, 7)
    running = [await yard.arrive(1), await yard.arrive(2)]
    for video in running:
        await yard.pool.answered(former.name, yard.holder(video) or "", video.id)
    waiting = yard.video(3)
    assert isinstance(await new.acquire(smaller, waiting), Wait)
    assert set(await new.holders(smaller)) == {each.id for each in running}
    on = {yard.holder(each): each for each in running}
    await new.ended(msgspec.structs.replace(on["d1"], deployment="d1"))
    assert isinstance(await new.acquire(smaller, waiting), Wait)  # it may not run there any more
    assert await yard.ask(waiting) == Slot(former.deployments[1])


async def test_an_offer_of_a_deployment_that_is_not_configured_here_is_returned() -> None:
    """Its video is first for another one."""
    yard = Yard([(1, 100), (1, 100)])
    running, waiting = [await yard.arrive(1), await yard.arrive(2)], await yard.arrive(3)
    yard.ring()
    other = next(each for each in running if yard.holder(each) == "d0")
    await yard.freed(next(each for each in running if yard.holder(each) == "d1"))
    assert yard.holder(waiting) == "d1"
    smaller = replace(yard.model, deployments=yard.model.deployments[:1])
    new = yard.instance(smaller, 7)
    assert isinstance(await new.acquire(smaller, waiting), Wait)
    await yard.freed(other)
    assert yard.holder(waiting) == "d0"


async def test_the_row_of_an_earlier_version_is_taken_over() -> None:
    """Its slots, creates, outages and turns; and an instance of that version that runs on for a
    while finds every deployment resting.
    """
    yard = Yard([(1, 100), (2, 1)])
    now = yard.clock.now().timestamp()
    running, waiting = yard.video(1), yard.video(2)
    lease = {"since": now - 50, "ask": "", "tag": 5 * STEP, "answered": now - 40}
    loads = {"d0": {"leases": {running.id: lease}, "free_since": 1.0}, "d1": {"creates": [now - 30.0]}}
    state = {"loads": loads, "waiting": 1, "round": 5 * STEP, "rounds": {waiting.owner: 9 * STEP}}
    await yard.table.commit("a:model", Insert("state", {"state": msgspec.json.encode(state).decode()}))
    for video in (running, waiting):
        await yard.table.commit("a:model", Insert(video.id, {"entered": video.created_at, "tag": 9 * STEP}))
    await yard.table.commit("a:model", Insert(f"wait_{9 * STEP:015d}_{place_of(waiting)}", {}))
    late = yard.video(2)
    await asyncio.gather(*(pool.acquire(yard.model, late) for pool in yard.pools))
    leases = yard.load("d1").leases  # offered, for when the create before is a minute old
    assert [(leases[each.id].tag, leases[each.id].since) for each in (waiting, late)] == [
        (9 * STEP, now - 30 + 61),
        (10 * STEP, now - 30 + 122),
    ]
    assert list(yard.load("d0").leases) == [running.id]
    left = msgspec.json.decode((yard.table.peek("a:model", "state") or Row("", {}, "")).values["state"])
    assert [load["rests_until"] >= now + 600 for load in left["loads"].values()] == [True, True]
    await yard.freed(running)
    assert yard.load("d0").leases == {}


async def test_slots_that_an_earlier_version_gives_out_afterwards_are_counted() -> None:
    """Should it outlive its rest: its row no longer says that it was moved."""
    yard = Yard([(2, 100)])
    first, second = await yard.arrive(1), yard.video(2)
    lease = {"since": yard.clock.now().timestamp(), "ask": "", "tag": 0}
    state = {"loads": {"d0": {"leases": {second.id: lease}}}}
    await yard.table.commit("a:model", Insert("state", {"state": msgspec.json.encode(state).decode()}))
    assert isinstance(await yard.pool.acquire(yard.model, yard.video(3)), Wait)
    assert set(yard.load("d0").leases) == {first.id, second.id}
    (row,) = [row async for row in yard.table.scan("a:model", after="stat", before="state_")]
    assert row.values["moved"] == shard_of("d0")
    await yard.table.commit("a:model", Replace(row, {"state": row.values["state"]}))
    assert set(await yard.pool.holders(yard.model)) == {first.id, second.id}


@given(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from([1, 3])), min_size=2, max_size=120),
    st.sampled_from([1, 31, 32, 100, 500]),
    st.integers(0, 1000),
)
def test_turns_are_fair_to_within_a_bound(arrivals: list[tuple[int, int]], deployments: int, seed: int) -> None:
    """No video is offered a slot while another waits whose tag is more than 1 + deployments / 32
    steps lower, and none that is not one of so many first. Below 32 deployments the order is
    strict.
    """
    last: Counter[int] = Counter()
    tags: list[int] = []
    for owner, priority in arrivals:
        tags.append(last[owner])
        last[owner] += STEP // priority
    rows = [Row(new_place(tag, f"video_{number:032x}", "", None).key, {}, "") for number, tag in enumerate(tags)]
    line, random, spread = sorted(rows, key=lambda row: row.key), Random(seed), 1 + deployments // 32
    while line:
        (place,) = next_of(line, 1, deployments, random)
        assert line.index(place) < spread
        assert tag_of(place) - tag_of(line[0]) <= spread * STEP
        line.remove(place)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_keys_share_many_deployments_as_they_share_one(seed: int) -> None:
    """On 64 deployments, two keys that always wait have had the same number of starts at any time,
    give or take what the bound of three steps allows.
    """
    line = [
        Row(new_place(step * STEP, f"video_{step:031x}{owner}", "", None).key, {}, "") for step in range(200) for owner in "ab"
    ]
    line.sort(key=lambda row: row.key)
    random, begun = Random(seed), Counter[str]()
    for _ in range(380):
        (place,) = next_of(line, 1, 64, random)
        line.remove(place)
        begun[place.key[-1]] += 1
        assert abs(begun.total() - 2 * max(begun.values())) <= 2 * (1 + 2 * 3)
