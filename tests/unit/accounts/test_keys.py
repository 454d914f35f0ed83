"""Virtual keys: who gets in, what is stored of a secret, and what crashes and races leave
behind.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from shared.accounts.account import Account
from shared.accounts.keys import KEYS, TOKENS, presented_secret, token_of
from shared.errors import Conflict, NotFound, StorageUnavailable, Unauthenticated
from shared.gateway import Gateway
from shared.storage.tables import Table, Write, WriteConflict
from tests.fakes.table import key_of
from tests.fakes.world import MASTER, World, world

BUILT_IN = "sk-brought-along-by-a-customer"


def run(storage: str, story: Callable[[World], Awaitable[None]], **options: Any) -> None:
    async def tell() -> None:
        async with world(storage, **options) as w:
            await story(w)

    asyncio.run(tell())


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


def test_only_a_hash_of_a_secret_is_stored(azurite: str) -> None:
    """Neither the secret nor half of it is anywhere in the tables."""

    async def story(w: World) -> None:
        issued = await w.gateway.keys.issue(Account(alias=f"a-{w.owner}"))
        stored = await everything(w.gateway.tables.gateway, TOKENS, KEYS, issued.key_id)
        assert issued.secret not in stored
        assert issued.secret[3:20] not in stored
        assert hashlib.sha256(issued.secret.encode()).hexdigest() in stored
        assert len(issued.secret) > 40

    run(azurite, story)


def test_a_key_opens_its_own_account_and_the_master_key_the_operators(azurite: str) -> None:
    """Every secret leads to one owner; anything else leads nowhere."""

    async def story(w: World) -> None:
        assert await opens(w.gateway, w.secret) == w.owner
        assert await opens(w.gateway, MASTER) == "key_00000000"
        for wrong in (
            w.secret[:-1],
            w.secret + "x",
            token_of(w.secret),
            w.owner,
            "sk-12345",
            "ключ",
            "\udcff",
            "key",
            "alias_x",
        ):
            assert await opens(w.gateway, wrong) is None

    run(azurite, story)


@pytest.mark.parametrize(
    "end", [{"blocked": True}, {"expires": "now"}, {"deleted": True}], ids=["blocked", "expired", "deleted"]
)
def test_a_key_that_has_ended_does_not_open_anything(azurite: str, end: dict[str, Any]) -> None:
    """401 here at once and on another instance within five seconds; a create is refused there at
    once, too.
    """

    async def story(w: World) -> None:
        other = w.another()
        assert await opens(other, w.secret) == w.owner
        changes = {name: w.clock.now() if value == "now" else value for name, value in end.items()}
        await w.gateway.keys.update(w.owner, changes)
        assert await opens(w.gateway, w.secret) is None
        with pytest.raises(Unauthenticated):
            await other.lifecycle.start(w.request(), w.owner)
        w.clock.skip(5.1)
        assert await opens(other, w.secret) is None

    run(azurite, story)


def test_a_blocked_key_can_be_opened_again(azurite: str) -> None:
    """Its videos and counters are where they were."""

    async def story(w: World) -> None:
        await w.start()
        await w.gateway.keys.update(w.owner, {"blocked": True})
        await w.gateway.keys.update(w.owner, {"blocked": False})
        assert await opens(w.gateway, w.secret) == w.owner
        assert (await w.account()).running == 1

    run(azurite, story)


def test_a_regenerated_key_keeps_everything_but_its_secret(azurite: str) -> None:
    """The old secret is refused, the new one opens the same account with its limits and videos."""

    async def story(w: World) -> None:
        other = w.another()
        assert await opens(other, w.secret) == w.owner
        await w.start()
        issued = await w.gateway.keys.regenerate(w.owner, changes={"rpm_limit": 7})
        assert (issued.key_id, issued.account.max_budget, issued.account.rpm_limit) == (w.owner, 5_000_000, 7)
        assert await opens(w.gateway, w.secret) is None
        assert await opens(w.gateway, issued.secret) == w.owner
        w.clock.skip(5.1)
        assert await opens(other, w.secret) is None
        assert await opens(other, issued.secret) == w.owner
        assert (await w.account()).running == 1
        assert await w.gateway.tables.gateway.get(TOKENS, token_of(w.secret)) is None

    run(azurite, story, limits={"max_budget": 5_000_000})


def test_a_secret_of_the_operators_own_can_be_given_to_another_key_after_its_end(azurite: str) -> None:
    """Also where the old way is remembered: an instance that knew the first key finds the
    second.
    """

    async def story(w: World) -> None:
        secret, other = f"{BUILT_IN}-{w.owner}", w.another()
        keys = w.gateway.keys
        first = await keys.issue(Account(), secret)
        assert [await opens(each, secret) for each in (w.gateway, other)] == [first.key_id] * 2
        await keys.delete(first.key_id)
        second = await keys.issue(Account(), secret)
        w.clock.skip(5.1)
        assert [await opens(each, secret) for each in (w.gateway, other)] == [second.key_id] * 2
        await keys.regenerate(second.key_id)
        third = await keys.issue(Account(), secret)
        w.clock.skip(5.1)
        assert [await opens(each, secret) for each in (w.gateway, other)] == [third.key_id] * 2

    run(azurite, story)


def test_an_alias_or_secret_that_is_taken_leaves_nothing_behind(azurite: str) -> None:
    """409, and no trace of the key that was not made: not in the list, not in the way of the one
    that was.
    """

    async def story(w: World) -> None:
        keys, secret, alias = w.gateway.keys, f"{BUILT_IN}-{w.owner}", f"a-{w.owner}"
        first = await keys.issue(Account(alias=alias), secret)
        before = {row.key async for row in w.gateway.tables.gateway.scan(KEYS)}
        for account, chosen in ((Account(alias=alias), None), (Account(), secret), (Account(alias=alias), secret)):
            with pytest.raises(Conflict):
                await keys.issue(account, chosen)
        assert {row.key async for row in w.gateway.tables.gateway.scan(KEYS)} == before
        assert await keys.find_alias(alias) == await keys.find(secret) == first.key_id
        for changed in (keys.update(w.owner, {"alias": alias}), keys.regenerate(w.owner, secret, {"rpm_limit": 1})):
            with pytest.raises(Conflict):
                await changed
        account = await w.account()
        assert (account.alias, account.rpm_limit) == (None, None)
        assert await opens(w.gateway, w.secret) == w.owner

    run(azurite, story)


def test_an_alias_moves_with_its_key(azurite: str) -> None:
    """Renaming frees the old alias, clearing frees it too, and so does the end of the key."""

    async def story(w: World) -> None:
        keys, one, two = w.gateway.keys, f"one-{w.owner}", f"two-{w.owner}"
        await keys.update(w.owner, {"alias": one})
        await keys.update(w.owner, {"alias": two})
        assert await keys.find_alias(two) == w.owner
        other = await keys.issue(Account(alias=one))
        assert await keys.find_alias(one) == other.key_id
        await keys.update(w.owner, {"alias": None})
        await keys.update(other.key_id, {"alias": two})
        await keys.delete(other.key_id)
        await keys.issue(Account(alias=two))
        with pytest.raises(NotFound):
            await keys.find_alias(one)

    run(azurite, story)


def test_of_two_keys_that_want_one_alias_at_once_one_gets_it(azurite: str) -> None:
    """Through two instances: one is made, the others are refused, and the list has one."""

    async def story(w: World) -> None:
        alias, other = f"a-{w.owner}", w.another()
        ends = await asyncio.gather(
            *(gateway.keys.issue(Account(alias=alias)) for gateway in (w.gateway, other) for _ in range(5)),
            return_exceptions=True,
        )
        made = [end for end in ends if not isinstance(end, BaseException)]
        assert len(made) == 1
        assert {type(end) for end in ends if isinstance(end, BaseException)} == {Conflict}
        holders = [key_id async for key_id, account in w.gateway.keys.all() if account.alias == alias]
        assert holders == [made[0].key_id] == [await w.gateway.keys.find_alias(alias)]

    run(azurite, story)


def test_every_change_of_a_key_can_be_repeated_after_a_crash(azurite: str) -> None:
    """Whichever write is the last that works, the same request again completes it; other keys are
    not touched.
    """

    async def story(w: World) -> None:
        keys = w.gateway.keys
        neighbour = await keys.issue(Account(alias=f"n-{w.owner}"))
        for survived in range(4):
            issued = await keys.issue(Account(alias=f"{survived}-{w.owner}"))
            key_id, renamed, chosen = issued.key_id, f"r{survived}-{w.owner}", f"{BUILT_IN}-{key_id_of(issued)}"
            for change in (
                lambda key_id=key_id, renamed=renamed: keys.update(key_id, {"alias": renamed}),
                lambda key_id=key_id, chosen=chosen: keys.regenerate(key_id, chosen),
                lambda key_id=key_id: keys.delete(key_id),
            ):
                w.faults.before = fails_after(survived)
                try:
                    await change()
                    done = True
                except StorageUnavailable:
                    done = False
                w.faults.before = lambda _: None
                if not done:
                    try:
                        await change()
                    except (NotFound, Conflict):
                        assert survived, "the change was whole, only what is tidied afterwards was not"
            with pytest.raises(NotFound):
                await keys.get(key_id)
            with pytest.raises(NotFound):
                await keys.find_alias(renamed)
            assert await opens(w.gateway, chosen) is None
        assert await keys.find_alias(f"n-{w.owner}") == neighbour.key_id
        assert await opens(w.gateway, neighbour.secret) == neighbour.key_id

    run(azurite, story)


def test_a_key_whose_making_was_cut_off_cannot_be_used_and_can_be_deleted(azurite: str) -> None:
    """Its alias may meanwhile belong to another key, which keeps it."""

    async def story(w: World) -> None:
        keys, alias, secret = w.gateway.keys, f"a-{w.owner}", f"{BUILT_IN}-{w.owner}"
        before = {key_id async for key_id, _ in keys.all()}
        w.faults.before = fails_after(2)
        with pytest.raises(StorageUnavailable):
            await keys.issue(Account(alias=alias), secret)
        w.faults.before = lambda _: None
        assert await opens(w.gateway, secret) is None
        whole = await keys.issue(Account(alias=alias), secret)
        (stray,) = {key_id async for key_id, _ in keys.all()} - before - {whole.key_id}
        await keys.delete(stray)
        assert await opens(w.gateway, secret) == whole.key_id == await keys.find_alias(alias)

    run(azurite, story)


def test_a_signpost_whose_answer_is_lost_is_recognised(azurite: str) -> None:
    """The transport repeats the write and meets its own: the key is made, once."""

    async def story(w: World) -> None:
        answers = [WriteConflict("lost")]

        def lose(writes: Sequence[Write]) -> None:
            if answers and any(key_of(write).startswith("alias_") for write in writes):
                raise answers.pop()

        w.faults.after = lose
        issued = await w.gateway.keys.issue(Account(alias=f"a-{w.owner}"))
        assert not answers
        assert await opens(w.gateway, issued.secret) == issued.key_id

    run(azurite, story)


def test_settings_change_and_counters_stay(azurite: str) -> None:
    """While videos are admitted, a key is changed again and again: nothing that is counted
    is lost.
    """

    async def story(w: World) -> None:
        changes = [w.gateway.keys.update(w.owner, {"rpm_limit": 1000 + n}) for n in range(10)]
        others = [w.another().keys.update(w.owner, {"user_id": f"u{n}"}) for n in range(3)]
        await asyncio.gather(*changes, *others, *(w.start() for _ in range(20)))
        account = await w.account()
        assert (account.running, account.reserved) == (20, 8_000_000)
        assert account.rpm_limit is not None
        assert account.user_id is not None

    run(azurite, story)


def test_a_new_budget_duration_begins_a_window_now(azurite: str) -> None:
    """The first window starts with the change, not with the key's making."""

    async def story(w: World) -> None:
        w.clock.skip(3 * 86_400)
        begin = w.clock.now()
        await w.gateway.keys.update(w.owner, {"budget_duration": "1mo"})
        await w.start()
        account = await w.account()
        assert account.window_start is not None
        assert abs(account.window_start - begin) < timedelta(seconds=1)

    run(azurite, story)


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


def test_an_exchanged_secret_admits_nothing_anywhere(azurite: str) -> None:
    """Also not on an instance that let it in a moment ago: the transaction compares it with the
    key's own.
    """

    async def story(w: World) -> None:
        let_in_with = await w.account()
        await w.gateway.keys.regenerate(w.owner)
        with pytest.raises(Unauthenticated):
            await w.another().lifecycle.start(w.request(), w.owner, account=let_in_with)

    run(azurite, story)
