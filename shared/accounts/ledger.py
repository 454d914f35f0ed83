"""Money: reserve when a video is admitted, settle or release when it ends, each in one transaction
with the video itself.

A key and its videos share a partition of the table `gateway`: the row `key` counts, the rows
`video_…` are what is counted, and the rows `once_…` remember requests that must not start twice.
Whoever wants to change an account on this instance at the same moment shares one write: one of them
reads the row, lets every change decide in turn, and commits them together.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, TypeVar

import msgspec

from shared.accounts.account import Account
from shared.accounts.account_changes import Admission, Admitted, Change, Move, Settlement, VideoRow, find_video
from shared.accounts.idempotency import PREFIX, RequestIdentity
from shared.clock import Clock
from shared.errors import RequestError, Unauthenticated
from shared.media.video import GATEWAY_OWNER, MASTER_OWNER, Video, owner_of
from shared.storage.tables import Delete, Insert, Replace, Row, Table, Write, WriteConflict, retry_conflicts

ACCOUNT = "key"
_FIRST_VIDEO, _AFTER_VIDEOS = "video_", "video`"  # "`" follows "_"

# A transaction holds 100 rows and 4 MiB. A change writes at most three rows beside the
# account's, and a character of what a caller wrote may take twelve bytes on the wire. The
# rest of the space is for the key's tags, which every video repeats.
_MOST_CHANGES = 30
_MOST_CHARACTERS = 250_000

T = TypeVar("T")


class Ledger:
    def __init__(self, table: Table, clock: Clock, random: Random) -> None:
        self._table = table
        self._clock = clock
        self._random = random
        self._waiting: dict[str, list[_Waiting]] = {}
        self._leaders: set[asyncio.Task[None]] = set()

    async def admit(self, video: Video, identity: RequestIdentity | None = None, token: str | None = None) -> Admitted:
        """Reserve the video's price and record it: both or neither. May be repeated with the same
        video.

        With `identity`, a request that was admitted before gives the earlier video; with `token`,
        the key's secret must still be that one's. Raises what the account forbids.
        """
        return await self.change_account(video.owner, Admission(video, identity, token, self._clock))

    async def earlier(self, owner: str, identity: RequestIdentity) -> Admitted | None:
        """What the same request has made before; None if it is the first. Raises
        IdempotencyMismatch.
        """
        now = self._clock.now()
        row = await self._table.get(owner, identity.key)
        identity.check(row, now)
        video_id = identity.earlier(row, now)
        entry = await self.find(video_id) if video_id else None
        account = await self.account(owner) if entry else None
        return Admitted(entry.video, True, account) if entry and account else None

    async def settle(self, video_id: str, **outcome: Any) -> Video | None:
        """End a video: turn its reservation into spend, or give it back. The first outcome stands;
        None if it is unknown.
        """
        return await self.change_account(owner_of(video_id), Settlement(video_id, outcome))

    async def move(self, video_id: str, model: str, cost: int) -> Video | None:
        """Let another model make an unfinished video, at its price. Raises what the account
        forbids.
        """
        return await self.change_account(owner_of(video_id), Move(video_id, model, cost, self._clock))

    async def account(self, owner: str) -> Account | None:
        """One point read; None for a key that does not exist."""
        row = await self._table.get(owner, ACCOUNT)
        return Account.from_row(row.values) if row else _unwritten(owner)

    async def find(self, video_id: str) -> VideoRow | None:
        """One point read."""
        return await find_video(self._table, video_id)

    async def change(self, entry: VideoRow, **changes: Any) -> VideoRow:
        """Change what has nothing to do with money. Raises WriteConflict when the video has changed
        since it was read.
        """
        video = msgspec.structs.replace(entry.video, **changes)
        if video.finished != entry.video.finished or video.cost != entry.video.cost:
            raise ValueError("money moves through settle() alone")
        values = video.to_row()
        (etag,) = await self._table.commit(video.owner, Replace(entry.row, values))
        return VideoRow(video, Row(video.id, values, etag))

    async def update(self, video_id: str, **changes: Any) -> Video | None:
        """The same for a change that holds whatever else happens to the video; None if it is
        unknown.
        """

        async def attempt() -> Video | None:
            entry = await self.find(video_id)
            return (await self.change(entry, **changes)).video if entry else None

        return await retry_conflicts(attempt, self._clock, self._random)

    async def videos(
        self,
        owner: str,
        *,
        after: str | None = None,
        before: str | None = None,
        page: int | None = None,
    ) -> AsyncIterator[Video]:
        """A key's videos, newest first: a plain range read, since ids sort that way. `page` are
        read at a time.
        """
        after, before = max(after or "", _FIRST_VIDEO), min(before or _AFTER_VIDEOS, _AFTER_VIDEOS)
        async for row in self._table.scan(owner, after=after, before=before, page=page):
            yield Video.from_row(row.key, row.values)

    async def videos_oldest_first(
        self, owner: str, *, after: str | None = None, page: int | None = None
    ) -> AsyncIterator[Video]:
        """The other way round: reads every id of the key that is newer than `after`, then the
        videos one by one.
        """
        del page
        before = min(after or _AFTER_VIDEOS, _AFTER_VIDEOS)
        ids = [row.key async for row in self._table.scan(owner, after=_FIRST_VIDEO, before=before, select=[])]
        for video_id in reversed(ids):
            entry = await self.find(video_id)
            if entry is not None:
                yield entry.video

    def rows(self, owner: str, prefix: str) -> AsyncIterator[Row]:
        """The rows of a partition whose keys begin with `prefix`."""
        return self._table.scan(owner, after=prefix, before=f"{prefix}~")

    async def forget_identities(self, owner: str, before: datetime) -> None:
        """Drop the records of requests that were made before then and can no longer be repeated."""
        async for row in self.rows(owner, PREFIX):
            if row.values["made"].astimezone(UTC) < before:
                try:
                    await self._table.commit(owner, Delete(row))
                except WriteConflict:
                    continue  # used anew just now

    async def change_account(self, owner: str, change: Change[T]) -> T:
        """Run a change of a key's account, together with whatever else wants to change it at this
        moment.

        Raises what the change raises, Unauthenticated for a key that does not exist, or
        StorageUnavailable.
        """
        waiting: _Waiting = _Waiting(change, asyncio.get_running_loop().create_future())
        queue = self._waiting.get(owner)
        if queue is None:
            self._waiting[owner] = [waiting]
            # A task of its own: a caller who hangs up must not take the others' write
            # along.
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
        except Exception as error:  # whatever it is, it belongs to those who wait for this batch
            for waiting in batch:
                waiting.end(error)

    async def _commit(self, owner: str, batch: "list[_Waiting]", *, again: bool) -> None:
        undecided = [waiting for waiting in batch if not waiting.done.done()]
        row, *_ = await asyncio.gather(
            self._table.get(owner, ACCOUNT), *(waiting.change.read(self._table, again=again) for waiting in undecided)
        )
        before = Account.from_row(row.values) if row else _unwritten(owner)
        account = before
        writes: list[Write] = []
        ends: list[tuple[_Waiting, Any]] = []
        for waiting in undecided:
            try:
                if account is None:
                    raise Unauthenticated("The API key is not valid.")
                decision = waiting.change.decide(account, {_key_of(write) for write in writes})
            except RequestError as error:
                ends.append((waiting, error))
                continue
            if decision is None:
                batch.remove(waiting)
                self._waiting[owner].insert(0, waiting)
                continue
            account = decision.account
            writes += decision.writes
            ends.append((waiting, decision.result))
        if account is not None and (writes or account != before):
            await self._table.commit(owner, _account_write(row, account), *writes)
        # Only now, refusals too: one that followed from a reservation beside it stands when
        # that one does.
        for waiting, end in ends:
            waiting.end(end)


@dataclass(eq=False)
class _Waiting:
    """A change and the caller who waits for it."""

    change: Change[Any]
    done: "asyncio.Future[Any]"

    def end(self, result: Any) -> None:
        """With a result, or with an exception to raise; a caller who has hung up is past both."""
        if self.done.done():
            return
        if isinstance(result, Exception):
            self.done.set_exception(result)
        else:
            self.done.set_result(result)


def _next_batch(queue: "list[_Waiting]") -> "list[_Waiting]":
    """As many as fit one transaction, taken off the queue; always at least one."""
    batch: list[_Waiting] = []
    weight = 0
    while queue and len(batch) < _MOST_CHANGES:
        weight += queue[0].change.weight
        if batch and weight > _MOST_CHARACTERS:
            break
        batch.append(queue.pop(0))
    return batch


def _unwritten(owner: str) -> Account | None:
    """The accounts that nobody issues: without limits, and without a row before their first
    video.
    """
    names = {MASTER_OWNER: "master", GATEWAY_OWNER: "gateway"}
    return Account(name=names[owner]) if owner in names else None


def _account_write(row: Row | None, account: Account) -> Write:
    return Insert(ACCOUNT, account.to_row()) if row is None else Replace(row, account.to_row())


def _key_of(write: Write) -> str:
    return write.key if isinstance(write, Insert) else write.row.key
