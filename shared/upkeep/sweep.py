"""The repair that runs by timer: nothing that was promised stays forgotten, and nothing is kept
that nobody needs.

Every run looks at what is unfinished, which costs one range read a model when nothing is: at those
that hold a slot, and of a long queue at as many as one run can look at, in turn. Once an hour it
also looks at every key: for videos that no model knows of, for old idempotency records, and for
videos whose retention is over.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zlib import crc32

from shared.accounts.account import Account
from shared.accounts.idempotency import KEY_LIFETIME
from shared.config.catalog import Model
from shared.gateway import Gateway
from shared.media.video import MASTER_OWNER, Video, id_bound, owner_of
from shared.storage.video_store import VideoRow
from shared.videos.orchestration import Orchestrations

logger = logging.getLogger("gateway")

EVERY = timedelta(minutes=5)  # as the timer in function_app.py runs it

_STARTING = timedelta(minutes=2)  # younger videos may simply not have got further yet
_ABANDONED = timedelta(minutes=10)  # a note this old without a video belongs to a request that was never admitted
_OVERDUE = timedelta(minutes=3)  # an orchestration that did not wake by then may be dead
_AT_ONCE = 16  # reads under way at the same moment
_CLAIM_DAYS = 3  # the upstream forgets jobs after one
_EXPIRY_WINDOW = timedelta(days=2)  # in which bytes whose retention is over are looked for


@dataclass
class Sweep:
    """One run. Of the videos that wait it looks at about `per_run`; the next runs look at the
    others.
    """

    gateway: Gateway
    orchestrations: Orchestrations
    per_run: int = 500
    now: datetime = field(init=False)
    unfinished: Counter[str] = field(default_factory=Counter, init=False)  # by key
    failures: list[Exception] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.now = self.gateway.clock.now()

    async def run(self) -> None:
        """Restart what is dead, free what is leaked, forget what is over.

        What cannot be repaired keeps nothing else from it; in the end an ExceptionGroup tells of
        all of it.
        """
        for model in self.gateway.settings.catalog.models:
            await self._attempt(self._sweep_model(model))
        if self.now.minute < EVERY.total_seconds() / 60:
            await self._attempt(self._sweep_keys())
            for days in range(_CLAIM_DAYS, _CLAIM_DAYS + 3):
                await self._attempt(self.gateway.claims.drop((self.now - timedelta(days=days)).date()))
        if self.failures:
            raise ExceptionGroup("the sweep could not repair everything", self.failures)

    async def _attempt(self, repair: Awaitable[None]) -> None:
        try:
            await repair
        except Exception as error:
            self.failures.append(error)

    async def _sweep_model(self, model: Model) -> None:
        entered = {video_id: moment async for video_id, moment in self.gateway.pool.unfinished(model)}
        self.unfinished.update(owner_of(video_id) for video_id in entered)
        holders = await self.gateway.pool.holders(model)
        turns = 1 + len(entered) // self.per_run
        looked_at = [
            (video_id, moment)
            for video_id, moment in entered.items()
            if self.now - moment >= _STARTING and (video_id in holders or crc32(video_id.encode()) % turns == self._run % turns)
        ]
        for first in range(0, len(looked_at), _AT_ONCE):
            batch = looked_at[first : first + _AT_ONCE]
            await asyncio.gather(*(self._attempt(self._repair(model, *each)) for each in batch))
        for video_id, since in holders.items():
            if video_id not in entered and self.now.timestamp() - since > _ABANDONED.total_seconds():
                logger.warning("video %s is finished and held a slot; freeing it", video_id)
                await self._attempt(self.gateway.pool.leave(model.name, video_id))

    @property
    def _run(self) -> int:
        """The number of this run: the next one's is one higher."""
        return int(self.now.timestamp() / EVERY.total_seconds())

    async def _repair(self, model: Model, video_id: str, entered: datetime) -> None:
        entry = await self.gateway.videos.find(video_id)
        if entry is None:
            if self.now - entered > _ABANDONED:
                await self.gateway.budget.release(video_id)
                await self.gateway.archive.drop_reference(video_id)
                await self.gateway.pool.leave(model.name, video_id)
        elif entry.video.model != model.name:  # it fell back to another model, which knows of it
            await self.gateway.pool.leave(model.name, video_id)
        elif self._overdue(entry) and not await self.orchestrations.alive(video_id):
            # Also for a finished one: its last step frees the slot, settles the rest, and may be
            # repeated.
            logger.warning("video %s had no living orchestration; starting it", video_id)
            await self.orchestrations.start(video_id)

    def _overdue(self, entry: VideoRow) -> bool:
        """Whether its orchestration should have acted by now. A running video is looked at often,
        so it is always asked for.
        """
        wakes_at = entry.video.wakes_at
        waiting = entry.video.attempted_at is None and wakes_at is not None and not entry.video.finished
        return not waiting or (wakes_at is not None and wakes_at.astimezone(UTC) + _OVERDUE < self.now)

    async def _sweep_keys(self) -> None:
        async for key_id, account in self.gateway.keys.all():
            await self._attempt(self._sweep_key(key_id, account))
        operator = await self.gateway.ledger.account(MASTER_OWNER)
        if operator is not None:
            await self._sweep_key(MASTER_OWNER, operator)

    async def _sweep_key(self, key_id: str, account: Account) -> None:
        if account.running > self.unfinished[key_id]:
            await self._find_lost(key_id, account)
        await self.gateway.ledger.forget_identities(key_id, self.now - KEY_LIFETIME)
        await self._expire(key_id)

    async def _find_lost(self, key_id: str, account: Account) -> None:
        """Videos that are unfinished and that no model knows of: note them again, and the next run
        starts them.

        Those of a model that is no longer configured are started at once, to fail for that reason.
        Stops when it has seen as many as the key has unfinished ones.
        """
        seen = 0
        async for video in self.gateway.videos.of(key_id, after=id_bound(self.now - _STARTING)):
            if video.finished:
                continue
            model = self.gateway.settings.catalog.get(video.model)
            if model is not None:
                await self.gateway.pool.enter(model, video.id)
            elif not await self.orchestrations.alive(video.id):
                logger.warning("video %s is of a model that is no longer configured; ending it", video.id)
                await self.orchestrations.start(video.id)
            seen += 1
            if seen >= account.running:
                return

    async def _expire(self, key_id: str) -> None:
        """Remove the bytes of videos whose retention is over; what they cost stays on record."""
        knobs = self.gateway.settings.knobs
        if knobs.retention_days is None:
            return
        newest = self.now - timedelta(days=knobs.retention_days)
        oldest = newest - timedelta(seconds=knobs.queue_seconds + knobs.deadline_seconds) - _EXPIRY_WINDOW
        async for video in self.gateway.videos.of(key_id, after=id_bound(newest), before=id_bound(oldest)):
            if self._expired(video):
                await self.gateway.archive.drop(video)
                await self.gateway.videos.update(video.id, bytes=0)

    def _expired(self, video: Video) -> bool:
        return bool(video.bytes) and video.expires_at is not None and video.expires_at.astimezone(UTC) <= self.now
