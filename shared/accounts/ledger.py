"""Money: a price is reserved when a video is admitted, and settled or released when it ends, each
in one transaction with the video itself.
"""

from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

import msgspec

from shared.accounts.account import Account
from shared.accounts.account_changes import Admission, Admitted, Deletion, Move, Settlement, check_secret
from shared.accounts.commits import Commits
from shared.accounts.idempotency import PREFIX, RequestIdentity
from shared.clock import Clock
from shared.media.video import Video, owner_of
from shared.storage.tables import Delete, WriteConflict, retry_conflicts
from shared.storage.video_store import VideoStore


class Ledger(msgspec.Struct, frozen=True):
    """Changes the counters of keys together with their videos. With `told`, the same transaction
    marks a video's start and end as still to be told.
    """

    commits: Commits
    videos: VideoStore
    clock: Clock
    told: bool = False

    async def admit(self, video: Video, identity: RequestIdentity | None = None, token: str | None = None) -> Admitted:
        """Reserve the video's price and record it, both or neither. May be repeated with the same
        video.

        With `identity`, a request that was admitted before gets its earlier video; with `token`,
        the key's token must still be this one. Raises the RequestError of what the account forbids.
        """
        return await self.commits.change_account(video.owner, Admission(video, identity, token, self.clock, self.told))

    def foreseen(self, owner: str) -> AbstractContextManager[None]:
        """Within it, `admit` finds the account read already."""
        return self.commits.foreseen(owner)

    async def earlier(self, owner: str, identity: RequestIdentity, token: str | None = None) -> Admitted | None:
        """The earlier result of the same request; None if it is the first. Raises
        IdempotencyMismatch, or Unauthenticated if `token` is no longer the key's.
        """
        now = self.clock.now()
        remembered = await identity.recall(self.commits.table, owner)
        identity.check(remembered, now)
        video_id = identity.earlier(remembered, now)
        entry = await self.videos.find(video_id) if video_id else None
        account = await self.account(owner) if entry else None
        if entry is None or account is None:
            return None
        check_secret(account, token, now)
        return Admitted(entry.video, True, account)

    async def remember_refusal(self, owner: str, identity: RequestIdentity, retry_after: float | None) -> None:
        """Remember a 429. Otherwise its retry would be taken for the retry of an equal request, and
        get that one's video. Nothing is remembered for an `Idempotency-Key`: a refusal does not use
        it up.
        """
        if identity.explicit:
            return
        table = self.commits.table

        async def attempt() -> None:
            now = self.clock.now()
            write = identity.refuse(await table.get(owner, identity.refusals_key), retry_after, now)
            if write is not None:
                await table.commit(owner, write)

        await retry_conflicts(attempt, self.clock, self.videos.random)

    async def settle(self, video_id: str, **outcome: Any) -> Video | None:
        """End a video: turn its reservation into spend, or release it. A video that has ended keeps
        its outcome; None for an unknown video.
        """
        return await self.commits.change_account(owner_of(video_id), Settlement(video_id, outcome, self.told))

    async def give_up(self, video_id: str, now: datetime, token: str | None = None) -> Video | None:
        """Delete a video for its caller: cancel it, or mark it if the upstream may be making it. A
        finished one is left unchanged; None for an unknown video.

        Raises Unauthenticated if `token` is no longer the key's.
        """
        return await self.commits.change_account(owner_of(video_id), Deletion(video_id, token, now, self.told))

    async def move(self, video_id: str, model: str, cost: int) -> Video | None:
        """Move an unfinished video to another model, at that one's price in micro-dollars. Raises
        PermissionDenied or BudgetExceeded.
        """
        return await self.commits.change_account(owner_of(video_id), Move(video_id, model, cost, self.clock))

    async def account(self, owner: str) -> Account | None:
        """A key's account, or None if the key does not exist. One point read."""
        return await self.commits.account(owner)

    async def forget_identities(self, owner: str, before: datetime) -> None:
        """Delete idempotency records made before then, whose requests can no longer be repeated."""
        table = self.commits.table
        async for row in table.beginning_with(owner, PREFIX):
            if row.values["made"].astimezone(UTC) < before:
                try:
                    await table.commit(owner, Delete(row))
                except WriteConflict:
                    continue  # it was used again meanwhile
