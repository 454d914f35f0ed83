"""Virtual keys: who gets in, what is stored of a secret, and what crashes and races leave
behind.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from shared.accounts.account import Account
from shared.accounts.keys import KEYS, TOKENS, presented_secret, token_of
from shared.errors import Conflict, NotFound, StorageUnavailable, Unauthenticated
from shared.gateway import Gateway
from shared.storage.tables import Table, Write, WriteConflict
from tests.fakes.table import key_of
from tests.fakes.world import MASTER, World

pytestmark = pytest.mark.anyio

BUILT_IN = "sk-brought-along-by-a-customer"


async def everything(table: Table, *partitions: str) -> str:
    """All that is stored in these partitions, as text."""
    rows = [(row.key, str(row.values)) for partition in partitions async for row in table.scan(partition)]
    return json.dumps(rows)


async def opens(gateway: Gateway, secret: str) -> str | None:
    """The key that a secret opens; None if it is refused."""
    try:
        return (await gateway.keys.authenticate({"authorization": f"Bearer {secret}"})).owner
    except Unauthenticated:
        return None


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer sk-x"},
        {"authorization": "bearer  sk-x "},
        {"api-key": "sk-x"},
        {"authorization": "Basic dTpw", "api-key": "sk-x"},
        {"authorization": "Bearer ", "api-key": "sk-x"},
        {"authorization": "Bearer sk-x", "api-key": "sk-y"},
    ],
)
def test_both_headers_are_understood(headers: dict[str, str]) -> None:
    """What OpenAI's and what Azure's clients send; a bearer goes first."""
    assert presented_secret(headers) == "sk-x"


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": ""}, {"authorization": "Bearer"}, {"authorization": "sk-x"}, {"api-key": " "}]
)
def test_a_request_without_a_key_is_told_how_to_send_one(headers: dict[str, str]) -> None:
    """401 that names both headers."""
    with pytest.raises(Unauthenticated, match="api-key"):
        presented_secret(headers)


async def test_only_a_hash_of_a_secret_is_stored(world: World) -> None:
    """Neither the secret nor half of it is anywhere in the tables."""
    issued = await world.gateway.keys.issue(Account(alias=f"a-{world.owner}"))
    stored = await everything(world.gateway.tables.gateway, TOKENS, KEYS, issued.key_id)
    assert issued.secret not in stored
    assert issued.secret[3:20] not in stored
    assert hashlib.sha256(issued.secret.encode()).hexdigest() in stored
    assert len(issued.secret) > 40


async def test_a_key_opens_its_own_account_and_the_master_key_the_operators(world: World) -> None:
    """Every secret leads to one owner; anything else leads nowhere."""
    assert await opens(world.gateway, world.secret) == world.owner
    assert await opens(world.gateway, MASTER) == "key_00000000"
    for wrong in (
        world.secret[:-1],
        world.secret + "x",
        token_of(world.secret),
        world.owner,
        "sk-12345",
        "ключ",
        "\udcff",
        "key",
        "alias_x",
    ):
        assert await opens(world.gateway, wrong) is None


@pytest.mark.parametrize(
    "end", [{"blocked": True}, {"expires": "now"}, {"deleted": True}], ids=["blocked", "expired", "deleted"]
)
async def test_a_key_that_has_ended_does_not_open_anything(world: World, end: dict[str, Any]) -> None:
    """401 here at once and on another instance within five seconds; a create is refused there at
    once, too.
    """
    other = world.another()
    assert await opens(other, world.secret) == world.owner
    changes = {name: world.clock.now() if value == "now" else value for name, value in end.items()}
    await world.gateway.keys.update(world.owner, changes)
    assert await opens(world.gateway, world.secret) is None
    with pytest.raises(Unauthenticated):
        await other.lifecycle.start(world.request(), world.owner)
    world.clock.skip(5.1)
    assert await opens(other, world.secret) is None


async def test_a_blocked_key_can_be_opened_again(world: World) -> None:
    """Its videos and counters are where they were."""
    await world.start()
    await world.gateway.keys.update(world.owner, {"blocked": True})
    await world.gateway.keys.update(world.owner, {"blocked": False})
    assert await opens(world.gateway, world.secret) == world.owner
    assert (await world.account()).running == 1


@pytest.mark.world(limits={"max_budget": 5_000_000})
async def test_a_regenerated_key_keeps_everything_but_its_secret(world: World) -> None:
    """The old secret is refused, the new one opens the same account with its limits and videos."""
    other = world.another()
    assert await opens(other, world.secret) == world.owner
    await world.start()
    issued = await world.gateway.keys.regenerate(world.owner, changes={"rpm_limit": 7})
    assert (issued.key_id, issued.account.max_budget, issued.account.rpm_limit) == (world.owner, 5_000_000, 7)
    assert await opens(world.gateway, world.secret) is None
    assert await opens(world.gateway, issued.secret) == world.owner
    world.clock.skip(5.1)
    assert await opens(other, world.secret) is None
    assert await opens(other, issued.secret) == world.owner
    assert (await world.account()).running == 1
    assert await world.gateway.tables.gateway.get(TOKENS, token_of(world.secret)) is None


async def test_a_secret_of_the_operators_own_can_be_given_to_another_key_after_its_end(world: World) -> None:
    """Also where the old way is remembered: an instance that knew the first key finds the
    second.
    """
    secret, other = f"{BUILT_IN}-{world.owner}", world.another()
    keys = world.gateway.keys
    first = await keys.issue(Account(), secret)
    assert [await opens(each, secret) for each in (world.gateway, other)] == [first.key_id] * 2
    await keys.delete(first.key_id)
    second = await keys.issue(Account(), secret)
    world.clock.skip(5.1)
    assert [await opens(each, secret) for each in (world.gateway, other)] == [second.key_id] * 2
    await keys.regenerate(second.key_id)
    third = await keys.issue(Account(), secret)
    world.clock.skip(5.1)
    assert [await opens(each, secret) for each in (world.gateway, other)] == [third.key_id] * 2


async def test_an_alias_or_secret_that_is_taken_leaves_nothing_behind(world: World) -> None:
    """409, and no trace of the key that was not made: not in the list, not in the way of the one
    that was.
    """
    keys, secret, alias = world.gateway.keys, f"{BUILT_IN}-{world.owner}", f"a-{world.owner}"
    first = await keys.issue(Account(alias=alias), secret)
    before = {row.key async for row in world.gateway.tables.gateway.scan(KEYS)}
    for account, chosen in ((Account(alias=alias), None), (Account(), secret), (Account(alias=alias), secret)):
        with pytest.raises(Conflict):
            await keys.issue(account, chosen)
    assert {row.key async for row in world.gateway.tables.gateway.scan(KEYS)} == before
    assert await keys.find_alias(alias) == await keys.find(secret) == first.key_id
    for changed in (keys.update(world.owner, {"alias": alias}), keys.regenerate(world.owner, secret, {"rpm_limit": 1})):
        with pytest.raises(Conflict):
            await changed
    account = await world.account()
    assert (account.alias, account.rpm_limit) == (None, None)
    assert await opens(world.gateway, world.secret) == world.owner


async def test_an_alias_moves_with_its_key(world: World) -> None:
    """Renaming frees the old alias, clearing frees it too, and so does the end of the key."""
    keys, one, two = world.gateway.keys, f"one-{world.owner}", f"two-{world.owner}"
    await keys.update(world.owner, {"alias": one})
    await keys.update(world.owner, {"alias": two})
    assert await keys.find_alias(two) == world.owner
    other = await keys.issue(Account(alias=one))
    assert await keys.find_alias(one) == other.key_id
    await keys.update(world.owner, {"alias": None})
    await keys.update(other.key_id, {"alias": two})
    await keys.delete(other.key_id)
    await keys.issue(Account(alias=two))
    with pytest.raises(NotFound):
        await keys.find_alias(one)


async def test_of_two_keys_that_want_one_alias_at_once_one_gets_it(world: World) -> None:
    """Through two instances: one is made, the others are refused, and the list has one."""
    alias, other = f"a-{world.owner}", world.another()
    ends = await asyncio.gather(
        *(gateway.keys.issue(Account(alias=alias)) for gateway in (world.gateway, other) for _ in range(5)),
        return_exceptions=True,
    )
    made = [end for end in ends if not isinstance(end, BaseException)]
    assert len(made) == 1
    assert {type(end) for end in ends if isinstance(end, BaseException)} == {Conflict}
    holders = [key_id async for key_id, account in world.gateway.keys.all() if account.alias == alias]
    assert holders == [made[0].key_id] == [await world.gateway.keys.find_alias(alias)]


async def test_every_change_of_a_key_can_be_repeated_after_a_crash(world: World) -> None:
    """Whichever write is the last that works, the same request again completes it; other keys are
    not touched.
    """
    keys = world.gateway.keys
    neighbour = await keys.issue(Account(alias=f"n-{world.owner}"))
    for survived in range(4):
        issued = await keys.issue(Account(alias=f"{survived}-{world.owner}"))
        key_id, renamed, chosen = issued.key_id, f"r{survived}-{world.owner}", f"{BUILT_IN}-{key_id_of(issued)}"
        for change in (
            lambda key_id=key_id, renamed=renamed: keys.update(key_id, {"alias": renamed}),
            lambda key_id=key_id, chosen=chosen: keys.regenerate(key_id, chosen),
            lambda key_id=key_id: keys.delete(key_id),
        ):
            world.faults.before = fails_after(survived)
            try:
                await change()
                done = True
            except StorageUnavailable:
                done = False
            world.faults.before = lambda _: None
            if not done:
                try:
                    await change()
                except (NotFound, Conflict):
                    assert survived, "the change was whole, only what is tidied afterwards was not"
        with pytest.raises(NotFound):
            await keys.get(key_id)
        with pytest.raises(NotFound):
            await keys.find_alias(renamed)
        assert await opens(world.gateway, chosen) is None
    assert await keys.find_alias(f"n-{world.owner}") == neighbour.key_id
    assert await opens(world.gateway, neighbour.secret) == neighbour.key_id


async def test_a_key_whose_making_was_cut_off_cannot_be_used_and_can_be_deleted(world: World) -> None:
    """Its alias may meanwhile belong to another key, which keeps it."""
    keys, alias, secret = world.gateway.keys, f"a-{world.owner}", f"{BUILT_IN}-{world.owner}"
    before = {key_id async for key_id, _ in keys.all()}
    world.faults.before = fails_after(2)
    with pytest.raises(StorageUnavailable):
        await keys.issue(Account(alias=alias), secret)
    world.faults.before = lambda _: None
    assert await opens(world.gateway, secret) is None
    whole = await keys.issue(Account(alias=alias), secret)
    (stray,) = {key_id async for key_id, _ in keys.all()} - before - {whole.key_id}
    await keys.delete(stray)
    assert await opens(world.gateway, secret) == whole.key_id == await keys.find_alias(alias)


async def test_a_signpost_whose_answer_is_lost_is_recognised(world: World) -> None:
    """The transport repeats the write and meets its own: the key is made, once."""
    answers = [WriteConflict("lost")]

    def lose(writes: Sequence[Write]) -> None:
        if answers and any(key_of(write).startswith("alias_") for write in writes):
            raise answers.pop()

    world.faults.after = lose
    issued = await world.gateway.keys.issue(Account(alias=f"a-{world.owner}"))
    assert not answers
    assert await opens(world.gateway, issued.secret) == issued.key_id


async def test_settings_change_and_counters_stay(world: World) -> None:
    """While videos are admitted, a key is changed again and again: nothing that is counted
    is lost.
    """
    changes = [world.gateway.keys.update(world.owner, {"rpm_limit": 1000 + n}) for n in range(10)]
    others = [world.another().keys.update(world.owner, {"user_id": f"u{n}"}) for n in range(3)]
    await asyncio.gather(*changes, *others, *(world.start() for _ in range(20)))
    account = await world.account()
    assert (account.running, account.reserved) == (20, 8_000_000)
    assert account.rpm_limit is not None
    assert account.user_id is not None


async def test_a_new_budget_duration_begins_a_window_now(world: World) -> None:
    """The first window starts with the change, not with the key's making."""
    world.clock.skip(3 * 86_400)
    begin = world.clock.now()
    await world.gateway.keys.update(world.owner, {"budget_duration": "1mo"})
    await world.start()
    account = await world.account()
    assert account.window_start is not None
    assert abs(account.window_start - begin) < timedelta(seconds=1)


def key_id_of(issued: Any) -> str:
    return str(issued.key_id)


def fails_after(survived: int) -> Callable[[Sequence[Write]], None]:
    """Storage that answers so many more commits and then none."""
    left = [survived]

    def before(_: Sequence[Write]) -> None:
        if not left[0]:
            raise StorageUnavailable("down")
        left[0] -= 1

    return before


async def test_an_exchanged_secret_admits_nothing_anywhere(world: World) -> None:
    """Also not on an instance that let it in a moment ago: the transaction compares it with the
    key's own.
    """
    let_in_with = await world.account()
    await world.gateway.keys.regenerate(world.owner)
    with pytest.raises(Unauthenticated):
        await world.another().lifecycle.start(world.request(), world.owner, account=let_in_with)
