"""The workers of a task hub. Several hubs, in as many processes, may share one file.

An orchestrator is called outside any transaction, under a lease on its instance: the hub reads
history and message, replays on a thread, and commits only if it still has the lease and the message
is still there. So the write lock is held for the microseconds of the writes, not for the
milliseconds of user code, and hosts do not wait for each other's replays. The lease only saves
double work; the check at the commit makes effects happen exactly once.
"""

import asyncio
import json
import re
import sqlite3
import warnings
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

from local.durable import tables
from local.durable.episode import play
from local.durable.plan import Functions
from local.durable.protocol import Event, EventType, InvalidInstanceId, Orchestrator, event, timestamp
from local.durable.status import EVERY, STATUS_ONLY, Query, Show, Status, many, one, purge_by
from local.durable.store import Store
from local.durable.timing import Timing
from shared.clock import Clock

Activity = Callable[[str, str], Awaitable[str]]
"""Instance id and input (JSON text) to result (JSON text); a failure is an exception."""

_LONGEST_ID = 256
_INVALID_ID = re.compile(r"[/\\#?\x00-\x1f\x7f-\x9f]")


class TaskHub:
    """Runs orchestrations and activities from the file at `path`, which is created if missing.

    `keep_histories` stores the histories of executions that continued as new too; by default only
    the current execution's is kept, so that an eternal orchestration does not grow. Finished
    instances stay until they are purged.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        orchestrators: Mapping[str, Orchestrator],
        activities: Mapping[str, Activity],
        clock: Clock,
        *,
        max_orchestrations: int = 5,
        max_activities: int = 10,
        timing: Timing = Timing(),  # noqa: B008 - it is frozen
        keep_histories: bool = False,
    ) -> None:
        self.name = name
        self._orchestrators = orchestrators
        self._activities = activities
        self._functions = Functions(orchestrators.keys(), activities.keys())
        self._clock = clock
        self._most = (max_orchestrations, max_activities)
        self._timing = timing
        self._keep = keep_histories
        self._owner = uuid4().hex
        self._store = Store(path, tables.SCHEMA)
        self._wake = asyncio.Event()
        self._playing = 0
        self._performing = 0
        _fail_on_unknown_tasks()

    async def run(self) -> None:
        """Work until cancelled; then hand back what was leased. Raises what the database raises."""
        with ThreadPoolExecutor(self._most[0], "orchestrator") as threads:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._hold_leases())
                    await self._dispatch(group, threads)
            finally:
                await self._store.run(lambda db: tables.release(db, self._owner))
                await self._store.close()

    async def close(self) -> None:
        """End the database thread of a hub that was used without `run`, which does this itself."""
        await self._store.close()

    async def start(self, function: str, instance_id: str | None = None, input_: str | None = None, version: str = "") -> str:
        """Create an instance and return its id; `input_` is JSON text. One that has finished is
        replaced.

        One of an orchestrator that is not there is created too, and fails at its first episode.
        Raises `InvalidInstanceId`, or `AlreadyExists` while an instance of that id is under way.
        """
        instance = uuid4().hex if instance_id is None else instance_id
        if not 1 <= len(instance) <= _LONGEST_ID or _INVALID_ID.search(instance):
            raise InvalidInstanceId(
                f"Instance ID '{instance}' must have 1 to {_LONGEST_ID} characters, without / \\ # ? or controls."
            )
        now = self._now()
        await self._store.run(lambda db: tables.create(db, instance, function, input_, now=now, version=version))
        self._wake.set()
        return instance

    async def raise_event(self, instance_id: str, name: str, input_: str | None = None) -> None:
        """Send an external event; `input_` is JSON text.

        Raises `UnknownInstance` or `InstanceFinished`, as the next three methods do.
        """
        await self._send(instance_id, event(EventType.EVENT_RAISED, "", Name=name, Input=input_))

    async def terminate(self, instance_id: str, reason: str = "") -> None:
        """End an instance without running its orchestrator; results of activities still running are
        dropped.
        """
        await self._send(instance_id, event(EventType.EXECUTION_TERMINATED, "", Input=reason))

    async def suspend(self, instance_id: str, reason: str = "") -> None:
        """Hold every message back except the next two."""
        await self._send(instance_id, event(EventType.SUSPENDED, "", Reason=reason))

    async def resume(self, instance_id: str, reason: str = "") -> None:
        """Deliver what was held back, in order."""
        await self._send(instance_id, event(EventType.RESUMED, "", Reason=reason))

    async def purge(self, instance_id: str) -> bool:
        """Delete an instance that has ended, with all that belongs to it. False if there is none;
        raises `NotFinished`.
        """
        return await self._store.run(lambda db: tables.purge_finished(db, instance_id))

    async def purge_by(self, query: Query) -> int:
        """Delete the finished instances that match; how many there were."""
        return await self._store.run(lambda db: purge_by(db, query))

    async def status(self, instance_id: str, show: Show = STATUS_ONLY) -> Status | None:
        """The status body of one instance, or None."""
        return await self._store.run(lambda db: one(db, instance_id, show))

    async def statuses(self, query: Query = EVERY) -> list[Status]:
        """The status bodies of all instances that match, oldest first."""
        return await self._store.run(lambda db: many(db, query))

    def history(self, instance_id: str, execution: str | None = None) -> list[Event]:
        """The events of one execution, by default the latest. Reads the file directly: for tests
        and tools, blocks briefly.
        """
        with closing(self._store.connect()) as db:
            return tables.history(db, instance_id, execution)

    def executions(self, instance_id: str) -> list[str]:
        """The executions whose history is stored, oldest first. Blocks briefly, as
        `history` does.
        """
        with closing(self._store.connect()) as db:
            return tables.executions(db, instance_id)

    def _now(self) -> str:
        return timestamp(self._clock.now())

    def _until(self) -> tables.Leases:
        now, timing = self._clock.now(), self._timing
        holds = (timing.hold_orchestration, timing.hold_activity)
        return tables.Leases(*(timestamp(now + timedelta(seconds=hold)) for hold in holds))

    async def _send(self, instance: str, message: Event) -> None:
        await self._store.run(lambda db: tables.send_from_client(db, instance, message))
        self._wake.set()

    async def _dispatch(self, group: asyncio.TaskGroup, threads: ThreadPoolExecutor) -> None:
        """Claim work whenever there may be some: after anything happened here, and at every poll.
        Timers are found by a poll too, as in Azure, except where they are exact.
        """
        timing = self._timing
        poll = timing.shortest_poll
        while True:
            self._wake.clear()
            looked = self._clock.now()
            claims = await self._store.run(self._claim)
            for episode in claims.episodes:
                self._playing += 1
                group.create_task(self._play(episode, threads))
            for activity in claims.activities:
                self._performing += 1
                group.create_task(self._perform(activity))
            found = bool(claims.episodes or claims.activities)
            poll = timing.shortest_poll if found else min(poll * 1.5, timing.longest_poll)
            # Counted from when we looked: work that became due while the database answered must not
            # wait for another poll.
            again = looked + timedelta(seconds=poll)
            if claims.next_due is not None and not timing.grain:
                again = min(again, datetime.fromisoformat(claims.next_due))
            await self._pause_until(again)

    def _claim(self, db: sqlite3.Connection) -> tables.Claims:
        return tables.claim(
            db,
            owner=self._owner,
            now=self._now(),
            until=self._until(),
            episodes=self._most[0] - self._playing,
            activities=self._most[1] - self._performing,
        )

    async def _sleep_until(self, moment: datetime) -> None:
        await self._clock.sleep(max(0.0, (moment - self._clock.now()).total_seconds()))

    async def _pause_until(self, moment: datetime) -> None:
        """Sleep, or less if something happens in this process."""
        woken = asyncio.ensure_future(self._wake.wait())
        slept = asyncio.ensure_future(self._sleep_until(moment))
        try:
            await asyncio.wait((woken, slept), return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            slept.cancel()

    async def _hold_leases(self) -> None:
        """Renew three times per lease, so that one late renewal loses nothing and activities may
        run for minutes.
        """
        renewed = self._clock.now()
        while True:
            await self._sleep_until(renewed + timedelta(seconds=self._timing.shortest_hold / 3))
            renewed = self._clock.now()
            if self._playing or self._performing:
                await self._store.run(lambda db: tables.renew(db, self._owner, self._until()))

    async def _play(self, claim: tables.EpisodeClaim, threads: ThreadPoolExecutor) -> None:
        try:
            turn = await asyncio.get_running_loop().run_in_executor(
                threads,
                lambda: play(
                    claim.instance,
                    claim.history,
                    claim.message,
                    now=self._clock.now(),
                    orchestrators=self._orchestrators,
                    functions=self._functions,
                ),
            )
            await self._store.run(
                lambda db: tables.finish_episode(
                    db, claim, turn, owner=self._owner, now=self._now(), keep=self._keep, grain=self._timing.grain
                )
            )
        finally:
            self._playing -= 1
            self._wake.set()

    async def _perform(self, claim: tables.ActivityClaim) -> None:
        try:
            outcome = await self._outcome(claim)
            await self._store.run(lambda db: tables.finish_activity(db, claim, outcome))
        finally:
            self._performing -= 1
            self._wake.set()

    async def _outcome(self, claim: tables.ActivityClaim) -> Event:
        """Run the activity; the event of its result or failure. Stopping the hub is not a failure:
        the activity runs again elsewhere. A cancellation that the activity caused itself is one.
        """
        try:
            result = await self._activities[claim.name](claim.id, claim.input)
        except asyncio.CancelledError as failure:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return self._failure(claim, failure)
        except Exception as failure:
            return self._failure(claim, failure)
        return event(EventType.TASK_COMPLETED, self._now(), TaskScheduledId=claim.task, Result=result)

    def _failure(self, claim: tables.ActivityClaim, failure: BaseException) -> Event:
        told = f"{type(failure).__name__}: {failure}"
        reason = f"Activity function '{claim.name}' failed:  {told}"
        return event(EventType.TASK_FAILED, self._now(), TaskScheduledId=claim.task, Reason=reason, Details=_dotnet(told))


def _dotnet(told: str) -> str:
    """A Python exception as the extension writes it: a .NET exception inside another."""
    around = {"$type": "System.Exception, System.Private.CoreLib", "ClassName": "System.Exception"}
    inner = {**around, "Message": f"Result: Failure\nException: {told}", "InnerException": None}
    return json.dumps({**around, "Message": f" {told}", "InnerException": inner})


def _fail_on_unknown_tasks() -> None:
    """Turn a warning of the SDK into an error: it only warns about a completion of a task that it
    does not know, and later resolves the wrong task with it. For an event that arrives before it is
    waited for, it gives the same warning with the event's name: that one is ignored.
    """
    warnings.filterwarnings("ignore", message="Potential duplicate Task completion")
    warnings.filterwarnings("error", message=r"Potential duplicate Task completion for TaskId: \d+$")
