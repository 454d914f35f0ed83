"""The repair that runs by timer: nothing that was promised stays forgotten, and nothing is kept
that nobody needs.

Every run looks at what is unfinished, which costs one range read a model when nothing is: at those
that hold a slot, and of a long queue at as many as one run can look at, in turn. Once an hour it
does the housekeeping: for videos that no model knows of, for old idempotency records, and for
videos whose retention is over.
"""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zlib import crc32

from shared.config.catalog import Model
from shared.gateway import Gateway
from shared.storage.video_store import VideoRow
from shared.upkeep.housekeeping import Housekeeping
from shared.videos.orchestration import Orchestrations

logger = logging.getLogger("gateway")

EVERY = timedelta(minutes=5)  # as the timer in function_app.py runs it

_STARTING = timedelta(minutes=2)  # younger videos may simply not have got further yet
_ABANDONED = timedelta(minutes=10)  # a note this old without a video belongs to a request that was never admitted
_OVERDUE = timedelta(minutes=3)  # an orchestration that did not wake by then may be dead
_AT_ONCE = 16  # reads under way at the same moment
_CLAIM_DAYS = 3  # the upstream forgets jobs after one


@dataclass
class Sweep:
    """One run. Of the videos that wait it looks at about `per_run`; the next runs look at the
    others.
    """

    gateway: Gateway
    orchestrations: Orchestrations
    per_run: int = 500
    now: datetime = field(init=False)
    noted: set[str] = field(default_factory=set, init=False)  # the unfinished videos that a model knows of
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
            await Housekeeping(self.gateway, self.orchestrations, self.noted, self._attempt).run()
            await self._attempt(self.gateway.equal_asks.forget())
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
        self.noted.update(entered)
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
                await self.gateway.lines.drop(video_id)
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
