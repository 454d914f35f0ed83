"""The sweep repairs: it restarts orchestrations that are missing, dead or stuck, frees leaked
slots, and removes what is no longer needed.

A look covers the unfinished videos that hold a slot, have just begun, or have a failed
orchestration, and a part of those that wait, each in its turn. If no video is unfinished, it costs
one range read for each model. A watch looks every 20 seconds while any video is unfinished. The
timer runs always: it looks, and purges what the engine keeps of finished orchestrations. Once an
hour it also does the housekeeping (`housekeeping`).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Mapping, Set
from datetime import datetime, timedelta
from functools import cached_property
from zlib import crc32

import msgspec

from shared.config.catalog import Model
from shared.gateway import Gateway
from shared.telemetry.telemetry import QUEUE_AGE, SLOTS, SLOTS_USED, UNFINISHED
from shared.upkeep.alarms import Alarms, stuck
from shared.upkeep.engine import Engine, Status
from shared.upkeep.housekeeping import Housekeeping
from shared.videos.step_result import failed
from shared.videos.watch import WATCHES

logger = logging.getLogger("gateway")

EVERY = timedelta(minutes=5)  # as the timer in function_app.py runs it
PATIENCE = timedelta(seconds=45)  # with an orchestration that is due to act

_STARTING = timedelta(seconds=30)  # a younger video may just be starting
_BEGUN = timedelta(minutes=2)  # a video younger than this is looked at every time
_TELLING = timedelta(minutes=2)  # a blocked request older than this is not telling it any more
_ABANDONED = timedelta(minutes=10)  # a pool row this old without a video belongs to a request that was never admitted
_MARGIN = timedelta(minutes=30)  # for a video to end by itself, beyond what its waits and its job may take
_MOST_REPLACED = 32  # in one look; an instance runs 15, so more than this are late because instances are missing
_MOST_WAITS = 10  # seconds for an orchestration to be terminated
_AT_ONCE = 16  # reads under way at the same moment
_KEPT = timedelta(hours=1)  # since its start a finished orchestration is kept for inspection
_MOST_PAGES = 100  # of orchestrations that are over, in one run
_CLAIM_DAYS = 3  # the upstream forgets jobs after one


class Sweep(msgspec.Struct, dict=True):
    """One run. It looks at about `per_run` of the waiting videos; the next runs, `every` apart,
    look at the others.
    """

    gateway: Gateway
    orchestrations: Engine
    every: timedelta = EVERY
    per_run: int = 25
    failures: list[Exception] = msgspec.field(default_factory=list)
    _entered: dict[str, Mapping[str, datetime]] = msgspec.field(default_factory=dict)  # by model
    _notes: Counter[str] = msgspec.field(default_factory=Counter)  # by video: two while it moves to another model
    _failed: Set[str] | None = None
    _replaced: int = 0

    @cached_property
    def now(self) -> datetime:
        """The time of the run, which is one for all its parts."""
        return self.gateway.clock.now()

    async def run(self) -> None:
        """The whole sweep, as the timer runs it.

        A repair that fails does not stop the others; at the end an ExceptionGroup of all failures
        is raised.
        """
        await self._look()
        await self._attempt(self.gateway.copies.drop_noted())
        await self._attempt(self.gateway.journal.tell_untold(self.now - _TELLING))
        await self._attempt(self._purge())
        await Alarms(self.gateway, self._attempt, self.now).run()
        if self.now.minute < EVERY.total_seconds() / 60:
            await Housekeeping(self.gateway, self.orchestrations, set(self._notes), self._attempt, self.now).run()
            await self._attempt(self.gateway.heartbeats.forget(self.now - timedelta(days=1)))
            await self._attempt(self.gateway.equal_asks.forget())
            for days in range(_CLAIM_DAYS, _CLAIM_DAYS + 3):
                await self._attempt(self.gateway.claims.drop((self.now - timedelta(days=days)).date()))
        self._tell()

    async def look(self) -> bool:
        """What a watch runs: restart dead and stuck orchestrations, free leaked slots, and start
        the other watch if it does not run. Returns whether any video is unfinished.

        Raises as `run` does.
        """
        await self._look()
        self._tell()
        return bool(self._notes)

    async def _look(self) -> None:
        models = self.gateway.settings.catalog.models
        for model in models:
            await self._attempt(self._read_notes(model))
        for model in models:
            await self._attempt(self._sweep_model(model))
        await self._attempt(self.gateway.couriers.summon_where_due())
        if self._notes:
            for watch in WATCHES:
                await self._attempt(self._end_if_stuck(watch))
            await self._attempt(self.orchestrations.keep_watch())

    async def _end_if_stuck(self, watch: str) -> None:
        """Terminate a watch that does not go on, so that it can be started again."""
        if await self._stuck(watch, await self.orchestrations.status(watch)):
            logger.warning("the orchestration %s did not move; replacing it", watch)
            await self._ends(watch)

    async def _read_notes(self, model: Model) -> None:
        entered = {video_id: moment async for video_id, moment in self.gateway.pool.unfinished(model)}
        self._entered[model.name] = entered
        self._notes.update(entered.keys())

    async def _attempt(self, repair: Awaitable[None]) -> bool:
        """Run a repair; returns whether it succeeded. A failure is kept for the end of the run."""
        try:
            await repair
        except Exception as error:
            self.failures.append(error)
            return False
        return True

    def _tell(self) -> None:
        if self.failures:
            raise ExceptionGroup("the sweep could not repair everything", self.failures)

    async def _sweep_model(self, model: Model) -> None:
        entered = self._entered.get(model.name, {})
        if entered:  # otherwise no video waits
            await self._attempt(self.gateway.pool.hand_out(model))
        holders = await self.gateway.pool.holders(model)
        self._measure(model, entered, holders.keys())
        await self._look_at_each(model, entered, set(holders))
        for video_id, since in holders.items():
            if video_id not in entered and self.now.timestamp() - since > _ABANDONED.total_seconds():
                logger.warning("video %s is finished and held a slot; freeing it", video_id)
                await self._attempt(self.gateway.pool.leave(model.name, video_id))

    def _measure(self, model: Model, entered: Mapping[str, datetime], holders: Set[str]) -> None:
        waits = (self.now - entered[each] for each in entered.keys() - holders)
        found = {
            UNFINISHED: len(entered),
            SLOTS_USED: len(holders),
            SLOTS: sum(each.max_running for each in model.deployments),
            QUEUE_AGE: max(waits, default=timedelta()).total_seconds(),
        }
        for instrument, value in found.items():
            self.gateway.telemetry.measure(instrument, value, {"gen_ai.request.model": model.name})

    async def _look_at_each(self, model: Model, entered: Mapping[str, datetime], holders: Set[str]) -> None:
        if not entered:
            return
        failed = await self._all_failed()
        turns = 1 + len(entered) // self.per_run
        looked_at = [
            (video_id, moment)
            for video_id, moment in entered.items()
            if video_id in failed
            or _STARTING <= self.now - moment < _BEGUN
            or (self.now - moment >= _STARTING and (video_id in holders or self._has_its_turn(video_id, turns)))
        ]
        for first in range(0, len(looked_at), _AT_ONCE):
            batch = looked_at[first : first + _AT_ONCE]
            await asyncio.gather(*(self._attempt(self._look_at(model, *each)) for each in batch))

    def _has_its_turn(self, video_id: str, turns: int) -> bool:
        run = int(self.now.timestamp() / self.every.total_seconds())  # the next run has the next number
        return crc32(video_id.encode()) % turns == run % turns

    async def _all_failed(self) -> Set[str]:
        """The videos whose orchestration has failed, read once: after a worker's death that may be
        all it was running.
        """
        if self._failed is None:
            self._failed = set(await self.orchestrations.failed())
        return self._failed

    async def _look_at(self, model: Model, video_id: str, entered: datetime) -> None:
        """Look at one video, and repair it if it does not go on by itself."""
        status = await self.orchestrations.status(video_id)
        living = status is not None and status.living
        stuck = living and await self._stuck(video_id, status)
        overdue = self.now - entered > self._longest_life
        if living and not stuck and not overdue and self._notes[video_id] == 1:
            return
        entry = await self.gateway.videos.find(video_id)
        if entry is None:
            if self.now - entered > _ABANDONED:
                await self.gateway.budget.release(video_id)
                await self.gateway.lines.drop(video_id)
                await self.gateway.archive.drop_reference(video_id)
                await self.gateway.pool.leave(model.name, video_id)
        elif entry.video.model != model.name:  # it moved to another model, whose pool has it
            await self.gateway.pool.leave(model.name, video_id)
        elif overdue:
            await self._end(video_id, living=living)
        elif stuck:
            await self._replace(video_id)
        elif not living:
            await self._start_again(model, video_id, status)

    async def _start_again(self, model: Model, video_id: str, status: Status | None) -> None:
        """Start a video's orchestration, unless it has failed too often of late, or the video was
        finished since the pool was read. A finished video that is still in the pool needs its last
        step, which frees the slot and settles the rest, and may be repeated.
        """
        if (status and status.rests(self.now)) or not await self.gateway.pool.is_unfinished(model.name, video_id):
            return
        logger.warning("video %s had no living orchestration; starting it", video_id)
        await self._attempt(self._tell_start(video_id, begun=status is not None))
        await self.orchestrations.start(video_id, restarts=status.failures if status else 0)

    async def _tell_start(self, video_id: str, *, begun: bool) -> None:
        """Tell the video's start, which its request may have been cut off before. If it had `begun`
        an orchestration, the request has written it to the log.
        """
        entry = await self.gateway.videos.find(video_id)
        if entry is None:
            return
        if not begun:
            self.gateway.journal.note("started", entry.video)
        await self.gateway.lifecycle.tell(entry.video)

    @property
    def _longest_life(self) -> timedelta:
        """How long a video may be unfinished. It waits for a slot, then its job waits in the
        server's queue and runs; a job that the server loses is made once more.
        """
        knobs, models = self.gateway.settings.knobs, self.gateway.settings.catalog.models
        jobs = [
            (1 + each.remakes_lost_jobs) * ((each.upstream_queue_seconds or knobs.deadline_seconds) + knobs.deadline_seconds)
            for model in models
            for each in model.deployments
        ]
        return timedelta(seconds=knobs.queue_seconds + max(jobs, default=0.0)) + _MARGIN

    async def _stuck(self, video_id: str, status: Status | None) -> bool:
        """Whether an orchestration should have acted by now, and its step writes no heartbeats."""
        if status is None or status.due is None or self.now - status.due < PATIENCE:
            return False
        beat = await self.gateway.heartbeats.last(video_id)
        return beat is None or self.now - beat >= PATIENCE

    async def _replace(self, video_id: str) -> None:
        """Terminate an orchestration that does not go on, and start another, which continues from
        the record.
        """
        if self._replaced == _MOST_REPLACED:
            return
        self._replaced += 1
        logger.warning("video %s had an orchestration that did not move; replacing it", video_id)
        await self._attempt(self.gateway.alerts.tell(stuck(video_id, "did not move, and was started again")))
        if await self._ends(video_id):
            await self.orchestrations.start(video_id)

    async def _ends(self, instance: str) -> bool:
        """Terminate an orchestration. Returns whether it has ended within seconds; if not, the next
        look finds it terminated.
        """
        await self.orchestrations.terminate(instance)
        for _ in range(_MOST_WAITS):
            await self.gateway.clock.sleep(1.0)
            status = await self.orchestrations.status(instance)
            if status is None or not status.living:
                return True
        return False

    async def _end(self, video_id: str, *, living: bool) -> None:
        """Fail a video that has outlived every deadline, whatever its orchestration does: that
        frees its money and its slot.

        The orchestration is terminated first, since no later look covers a finished video.
        """
        logger.warning("video %s has outlived every deadline; ending it", video_id)
        await self._attempt(self.gateway.alerts.tell(stuck(video_id, "had outlived every deadline, and was ended")))
        if living:
            await self._attempt(self.orchestrations.terminate(video_id))
        lifecycle, reason = self.gateway.lifecycle, failed("deadline_exceeded", "The video was not made in time.")
        if await lifecycle.finish(video_id, reason["failed"]) is not None:
            await lifecycle.leave(video_id)  # all that it still waited for was its manifest

    async def _purge(self) -> None:
        """Purge finished orchestrations, whose histories may quote prompts. Those of unfinished
        videos are left for `_look_at`.
        """
        for _ in range(_MOST_PAGES):
            ended = await self.orchestrations.over(self.now - _KEPT)
            unneeded = [video_id for video_id in ended if video_id not in self._notes]
            if not unneeded:
                return
            for first in range(0, len(unneeded), _AT_ONCE):
                await asyncio.gather(*map(self._forget, unneeded[first : first + _AT_ONCE]))

    async def _forget(self, video_id: str) -> None:
        await self.orchestrations.purge(video_id)
