"""The changes of an account together with one of its videos: admission, settlement, deletion, and
the move to another model.

A change reads the rows it depends on, decides against the account as it is then, and names the rows
to write in the same commit. `Commits` runs it, together with other changes of the account at that
moment, until the commit succeeds.
"""

from datetime import datetime
from hmac import compare_digest
from typing import Any

import msgspec

from shared.accounts.account import Account, check_usable, crossing, reprice, reserve, settle
from shared.accounts.commits import Decision
from shared.accounts.idempotency import Remembered, RequestIdentity
from shared.clock import Clock
from shared.errors import Unauthenticated
from shared.media.video import Video
from shared.storage.event_marks import Happening, mark
from shared.storage.tables import Insert, Replace, Row, Table, Write
from shared.storage.video_store import VideoRow, find_video, hiding, listed, listing_of

# Characters of a video's row that is written again: a prompt and its other texts at their longest.
_HEAVIEST_VIDEO = 80_000

CANCELLED_MESSAGE = "The video was deleted before it was finished."


def check_secret(account: Account, token: str | None, now: datetime) -> None:
    """Raises Unauthenticated if `token` is no longer the key's, or the key is not usable. None is
    the operator.
    """
    if token is None:
        return
    if not compare_digest(token, account.token or ""):
        raise Unauthenticated("The API key is not valid.")
    check_usable(account, now)


class Admitted(msgspec.Struct, frozen=True):
    """The result of a request: its video, whether an equal earlier request had made it
    (`replayed`), and the key's account afterwards.
    """

    video: Video
    replayed: bool
    account: Account


class Admission(msgspec.Struct):
    """Reserve a video's price and record it, unless the same request was admitted before.

    `token` is the one that the caller was authenticated with: the key may have a new secret since.
    With `told`, the start is marked as still to be told.
    """

    video: Video
    identity: RequestIdentity | None
    token: str | None
    clock: Clock
    told: bool = False
    _earlier: Video | None = None
    _remembered: Remembered = Remembered()

    @property
    def weight(self) -> int:
        video = self.video
        return sum(len(each or "") for each in (video.prompt, video.parameters, video.metadata, video.user))

    async def read(self, table: Table, *, again: bool) -> None:
        # After a conflict the row may be our own: the write worked, and only its answer was lost.
        mine = await find_video(table, self.video.id) if again else None
        self._earlier = mine.video if mine else None
        if self.identity is None:
            return
        self._remembered = await self.identity.recall(table, self.video.owner)
        earlier_id = self.identity.earlier(self._remembered, self.clock.now())
        if earlier_id is not None and self._earlier is None:
            earlier = await find_video(table, earlier_id)
            self._earlier = earlier.video if earlier else None

    def decide(self, account: Account, taken: set[str]) -> Decision[Admitted] | None:
        if self._earlier is not None and self._earlier.id == self.video.id:
            return Decision(account, Admitted(self._earlier, False, account))
        if self.identity is not None and self.identity.keys & taken:
            return None
        now = self.clock.now()
        check_secret(account, self.token, now)
        if self.identity is not None:
            self.identity.check(self._remembered, now)
        if self._earlier is not None:
            return Decision(account, Admitted(self._earlier, True, account))
        account = reserve(account, self.video, now)
        crossed = crossing(account, self.video)
        video = msgspec.structs.replace(
            self.video,
            admitted_at=now,
            tags=account.tags,
            priority=account.priority,
            key_alias=account.alias,
            key_user=self.video.key_user or account.user_id,
            crossed=msgspec.json.encode(crossed).decode() if crossed else None,
            callback_url=self.video.callback_url or account.webhook_url,
        )
        video = _hooked(video, account)
        writes: list[Write] = [Insert(video.id, video.to_row()), listed(video.id)]
        writes += _marks(video, "started", told=self.told or video.hooked)
        if self.identity is not None:
            writes += self.identity.admit(self._remembered, video.id, now)
        return Decision(account, Admitted(video, False, account), tuple(writes))


class Settlement(msgspec.Struct):
    """End a video with this outcome. A video that has ended already keeps its own. With `told`, the
    end is marked as still to be told.
    """

    video_id: str
    outcome: dict[str, Any]
    told: bool = False
    weight: int = _HEAVIEST_VIDEO
    _entry: VideoRow | None = None

    async def read(self, table: Table, *, again: bool) -> None:
        del again
        self._entry = await find_video(table, self.video_id)

    def decide(self, account: Account, taken: set[str]) -> Decision[Video | None] | None:
        if self._entry is None or self._entry.video.finished:
            return Decision(account, self._entry.video if self._entry else None)
        if self._entry.row.key in taken:
            return None
        held = self._entry.video.cost
        video = msgspec.structs.replace(self._entry.video, **self.outcome)
        if video.status == "completed" and video.charge is not None:
            video = msgspec.structs.replace(video, cost=min(video.charge, held))
        video = _hooked(video, account)
        marks = _marks(video, "ended", told=self.told or video.hooked)
        writes = (Replace(self._entry.row, video.to_row()), *marks)
        return Decision(settle(account, video, held), video, writes)


class Deletion(msgspec.Struct):
    """Delete a video for its caller.

    A video that the upstream was never asked for is cancelled, and its price is released. One that
    the upstream may be making is only marked: its price and its slot stay reserved until its job
    has ended. A finished one is left unchanged; its bytes have to be dropped first.

    `token` is the one that the caller was authenticated with: the key may be blocked or have a new
    secret since. None is the operator.
    """

    video_id: str
    token: str | None
    now: datetime
    told: bool = False
    weight: int = _HEAVIEST_VIDEO
    _entry: VideoRow | None = None
    _listing: Row | None = None

    async def read(self, table: Table, *, again: bool) -> None:
        del again
        self._entry = await find_video(table, self.video_id)
        self._listing = await listing_of(table, self.video_id) if self._entry else None

    def decide(self, account: Account, taken: set[str]) -> Decision[Video | None] | None:
        check_secret(account, self.token, self.now)
        if self._entry is None or self._entry.video.finished or self._entry.video.deleted:
            return Decision(account, self._entry.video if self._entry else None)
        if self._entry.row.key in taken:
            return None
        video = msgspec.structs.replace(self._entry.video, deleted=True)
        if video.attempted_at is None:
            video = msgspec.structs.replace(
                video, status="failed", finished_at=self.now, error_code="cancelled", error_message=CANCELLED_MESSAGE
            )
            account = settle(account, video)
        video = _hooked(video, account)
        marks = _marks(video, "ended", told=(self.told or video.hooked) and video.finished)
        return Decision(account, video, (*hiding(self._entry, video, self._listing), *marks))


class Move(msgspec.Struct):
    """Change an unfinished video's model, and its reserved price."""

    video_id: str
    model: str
    cost: int
    clock: Clock
    weight: int = _HEAVIEST_VIDEO
    _entry: VideoRow | None = None

    async def read(self, table: Table, *, again: bool) -> None:
        del again
        self._entry = await find_video(table, self.video_id)

    def decide(self, account: Account, taken: set[str]) -> Decision[Video | None] | None:
        if self._entry is None or self._entry.video.finished or self._entry.video.model == self.model:
            return Decision(account, self._entry.video if self._entry else None)
        if self._entry.row.key in taken:
            return None
        before = self._entry.video
        video = msgspec.structs.replace(
            before,
            model=self.model,
            cost=self.cost,
            fallback_from=before.fallback_from or before.model,
        )
        return Decision(reprice(account, before, video, self.clock.now()), video, (Replace(self._entry.row, video.to_row()),))


def _hooked(video: Video, account: Account) -> Video:
    """The video, `hooked` if the account is now. Once it is, it stays so: it may have marks, which
    are deleted when they are told, also where nobody listens any more.
    """
    return msgspec.structs.replace(video, hooked=video.hooked or account.hooked or video.callback_url is not None)


def _marks(video: Video, happening: Happening, *, told: bool) -> tuple[Write, ...]:
    return (mark(video.id, happening),) if told else ()
