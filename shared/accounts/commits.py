"""The shared transaction: callers that change one account at the same moment share one write.

A key and its videos share a partition of the table `gateway`: the row `key` is the account, rows
`video_…` are its videos, and rows `once_…` remember requests that must not start twice. One task
reads the account, lets every waiting change decide in turn, and commits them together.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from shared.accounts.account import Account
from shared.clock import Clock
from shared.errors import RequestError, Unauthenticated
from shared.media.video import GATEWAY_OWNER, MASTER_OWNER
from shared.storage.tables import Insert, Replace, Row, Table, Write, key_of, retry_conflicts

ACCOUNT = "key"

# A transaction holds 100 rows and 4 MiB. A change writes at most five rows besides the account, and
# a character may take twelve bytes on the wire. The remaining space is for the key's tags, which
# every video repeats.
_MOST_CHANGES = 19
_MOST_CHARACTERS = 250_000

T = TypeVar("T")


class Decision(msgspec.Struct, Generic[T], frozen=True):
    """The result of a change: the account afterwards, the answer for its caller, and the rows to
    write in the same commit.
    """

    account: Account
    result: T
    writes: tuple[Write, ...] = ()


class Change(Protocol[T]):
    """A change of one account. `read` fetches the rows it depends on, anew for every attempt
    (`again` is True after the first); `decide` may raise a RequestError.

    `taken` holds the keys of rows that earlier changes of the same commit write. A change that
    needs one of them returns None and waits for the next commit. `weight` is the approximate number
    of characters it writes.
    """

    @property
    def weight(self) -> int: ...

    async def read(self, table: Table, *, again: bool) -> None: ...

    def decide(self, account: Account, taken: set[str]) -> Decision[T] | None: ...


class Commits:
    """Runs changes of accounts, in as few transactions as possible."""

    def __init__(self, table: Table, clock: Clock, random: Random) -> None:
        self.table = table
        self._clock = clock
        self._random = random
        self._waiting: dict[str, list[_Waiting]] = {}
        self._leaders: set[asyncio.Task[None]] = set()
        self._early: dict[str, asyncio.Task[Row | None]] = {}  # reads of accounts for changes that are still to come

    async def account(self, owner: str) -> Account | None:
        """A key's account, or None if the key does not exist. One point read."""
        row = await self.table.get(owner, ACCOUNT)
        return row.read(Account) if row else _unwritten(owner)

    @contextmanager
    def foreseen(self, owner: str) -> Iterator[None]:
        """Read the account already now, for a change that is asked for at the end of this block:
        one way to storage less in a row. Until then the first change of it by this instance takes
        what was read.
        """
        if owner in self._waiting or owner in self._early:
            yield
            return
        early = self._early[owner] = asyncio.create_task(self.table.get(owner, ACCOUNT))
        early.add_done_callback(_noticed)
        try:
            yield
        finally:
            if self._early.get(owner) is early:  # nobody took it
                del self._early[owner]
                early.cancel()

    async def change_account(self, owner: str, change: Change[T]) -> T:
        """Run a change of a key's account, together with other changes of it at this moment.

        Raises what the change raises, Unauthenticated for a key that does not exist, or
        StorageUnavailable.
        """
        waiting: _Waiting = _Waiting(change, asyncio.get_running_loop().create_future())
        queue = self._waiting.get(owner)
        if queue is None:
            self._waiting[owner] = [waiting]
            # A separate task: if a caller is cancelled, the others' write must go on.
            leader = asyncio.create_task(self._lead(owner))
            self._leaders.add(leader)
            leader.add_done_callback(self._leaders.discard)
        else:
            queue.append(waiting)
        result: T = await waiting.done
        return result

    async def _lead(self, owner: str) -> None:
        """Commit batch after batch until nobody waits."""
        try:
            while batch := _next_batch(self._waiting[owner]):
                await self._run(owner, batch)
        finally:
            del self._waiting[owner]

    async def _run(self, owner: str, batch: "list[_Waiting]") -> None:
        attempts = 0

        async def attempt() -> None:
            nonlocal attempts
            attempts += 1
            await self._commit(owner, batch, again=attempts > 1)

        try:
            await retry_conflicts(attempt, self._clock, self._random)
        except Exception as error:  # every error goes to the callers of this batch
            for waiting in batch:
                waiting.end(error)

    async def _commit(self, owner: str, batch: "list[_Waiting]", *, again: bool) -> None:
        undecided = [waiting for waiting in batch if not waiting.done.done()]
        early = self._early.pop(owner, None)
        row, *_ = await asyncio.gather(
            early or self.table.get(owner, ACCOUNT), *(waiting.change.read(self.table, again=again) for waiting in undecided)
        )
        before = row.read(Account) if row else _unwritten(owner)
        together = _Together(before)
        for waiting in undecided:
            if not together.decide(waiting):
                batch.remove(waiting)
                self._waiting[owner].insert(0, waiting)
        account = together.account
        if account is not None and (together.writes or account != before):
            await self.table.commit(owner, _account_write(row, account), *together.writes)
        # A refusal caused by another change of this batch is reported only after the batch is
        # committed.
        for waiting, end in together.ends:
            waiting.end(end)


class _Waiting(msgspec.Struct, eq=False):
    """A change and the caller who waits for it."""

    change: Change[Any]
    done: "asyncio.Future[Any]"

    def end(self, result: Any) -> None:
        """Give the caller a result, or an exception to raise. Does nothing if the caller was
        cancelled.
        """
        if self.done.done():
            return
        if isinstance(result, Exception):
            self.done.set_exception(result)
        else:
            self.done.set_result(result)


class _Together(msgspec.Struct):
    """The decisions of one commit: the account after them, the rows to write, and what each caller
    gets, a result or a refusal.
    """

    account: Account | None
    writes: list[Write] = msgspec.field(default_factory=list)
    ends: list[tuple[_Waiting, Any]] = msgspec.field(default_factory=list)

    def decide(self, waiting: _Waiting) -> bool:
        """Let a change decide. Returns False if it needs a row that an earlier one writes."""
        try:
            if self.account is None:
                raise Unauthenticated("The API key is not valid.")
            decision = waiting.change.decide(self.account, {key_of(write) for write in self.writes})
        except RequestError as refusal:
            self.ends.append((waiting, refusal))
            return True
        if decision is None:
            return False
        self.account = decision.account
        self.writes += decision.writes
        self.ends.append((waiting, decision.result))
        return True


def _noticed(early: "asyncio.Task[Row | None]") -> None:
    """A failure that nobody waits for is no failure: the account is read again when it is
    needed.
    """
    if not early.cancelled():
        early.exception()


def _next_batch(queue: "list[_Waiting]") -> "list[_Waiting]":
    """Take as many changes off the queue as fit one transaction, at least one."""
    batch: list[_Waiting] = []
    weight = 0
    while queue and len(batch) < _MOST_CHANGES:
        weight += queue[0].change.weight
        if batch and weight > _MOST_CHARACTERS:
            break
        batch.append(queue.pop(0))
    return batch


def _unwritten(owner: str) -> Account | None:
    """The operator's and the gateway's accounts, which exist without a row until their first video;
    None for any other key.
    """
    names = {MASTER_OWNER: "master", GATEWAY_OWNER: "gateway"}
    return Account(name=names[owner]) if owner in names else None


def _account_write(row: Row | None, account: Account) -> Write:
    return Insert(ACCOUNT, account.to_row()) if row is None else Replace(row, account.to_row())
