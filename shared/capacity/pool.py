"""The slots of a model's deployments and the queue for them, shared by all instances through the
table `pools`.

Each model has a partition. Its row `state` holds a `slots.State`. Every unfinished video has a row
`video_…`, written before the video is admitted, so that an admitted video is never unknown here. A
video that waits also has a row for its place in the queue. Rows that depend on each other change in
one transaction.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import TypeVar

import msgspec

from shared.capacity import poll_schedule, slots
from shared.capacity.equal_asks import ask_of
from shared.capacity.render_times import RenderTimes
from shared.capacity.slots import Lease, Outage, State
from shared.capacity.waiting_line import Before, Head, Queue, new_place, tag_of
from shared.capacity.wake_ups import WakeUps
from shared.clock import Clock
from shared.config.catalog import Catalog, Deployment, Model
from shared.media.video import Video
from shared.storage.tables import Delete, Insert, Replace, Row, Table, Write, WriteConflict, partition_of, retry_conflicts

_STATE = "state"
_FIRST_VIDEO, _AFTER_VIDEOS = "video_", "video`"
_EQUAL_UNDER_WAY = 5.0  # seconds until a video asks again that only waits for an equal create's answer
_SOON = 1.0  # seconds before its opening in which a video is woken for it
_PROBE = 10.0  # seconds between two looks at whether a deployment can be reached again

T = TypeVar("T")


@dataclass(frozen=True)
class Slot:
    """A slot on `deployment`, held until `ended`, `leave` or `return_slot`."""

    deployment: Deployment


@dataclass(frozen=True)
class Wait:
    """No slot now: ask again after `seconds`, or when woken. The first in the queue has `position`
    1.

    `outage` is why the last deployment is closed, where every deployment is. For the
    first in the queue, `unreachable` lists the deployments that no connection could be made to: it
    may test them with a request that makes no job.
    """

    seconds: float
    position: int
    estimated_start: datetime
    outage: str | None = None
    unreachable: tuple[Deployment, ...] = ()


@dataclass
class Pool:
    table: Table
    catalog: Catalog
    clock: Clock
    random: Random
    render_times: RenderTimes
    wake_ups: WakeUps = field(default_factory=WakeUps)
    queue: Queue = field(init=False)
    # Within one instance, changes of a model's state take turns: at the same time they would only
    # conflict with each other and be repeated.
    _turns: dict[str, asyncio.Lock] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.queue = Queue(self.table, self.clock)

    async def enter(self, model: Model, video_id: str) -> None:
        """Record that a video of this model is unfinished. May be repeated."""
        try:
            await self.table.commit(partition_of(model.name), Insert(video_id, {"entered": self.clock.now()}))
        except WriteConflict:
            return

    async def acquire(self, model: Model, video: Video, priority: int = 1) -> Slot | Wait | Outage:
        """Take a slot on a deployment that can start the video now, or a place in the queue.

        A video that holds a slot keeps it. A remix can only run on its source's deployment. Returns
        an Outage, the one of the last possible deployment, where all of them are lost.
        """
        possible = [each for each in model.deployments if video.source_deployment in (None, each.name)]

        async def attempt() -> Slot | Wait | Outage:
            row, state = await self._state(model.name)
            holder = model.deployment(state.holder(video.id) or "")
            if holder is not None:
                return Slot(holder)
            now = self._now()
            last = slots.outage(state.load(possible[-1]), now)
            if last is not None and all(slots.is_lost(state.load(each), now) for each in possible):
                return last
            head = await self.queue.head(model.name) if state.waiting else Head()
            turn = _Turn(self, model, possible, video, row, state, head)
            place, note = head.place(video.id), None
            if place is None:
                note = await self.table.get(partition_of(model.name), video.id)
            if head.may_lack(video.id):
                place = await self.queue.place(model.name, _tag(note), video.id)
            if place is None:
                return await turn.join(note, slots.tag_for(state, video.owner, priority))
            return await turn.move_up(place)

        return await self._in_turn(model.name, attempt)

    async def answered(self, model_name: str, video_id: str) -> None:
        """The upstream has accepted the create. From now on it counts as one of the last minute, no
        longer as one under way.
        """
        recovered = False

        def change(state: State, now: float) -> None:
            nonlocal recovered
            recovered = slots.answered(state, video_id, now)

        state = await self._change(model_name, change)
        if recovered:
            await self._wake_next(model_name, state)

    async def ended(self, model_name: str, video_id: str) -> None:
        """The job has ended upstream: free its slot, although the video is not finished yet. May be
        repeated.
        """
        freed: Lease | None = None

        def change(state: State, now: float) -> None:
            nonlocal freed
            freed = slots.give_back(state, video_id, now)

        state = await self._change(model_name, change)
        if freed is not None:
            await self._wake_next(model_name, state)

    async def return_slot(
        self,
        model: Model,
        video: Video,
        deployment: Deployment,
        rest: float | None,
        *,
        unreachable: bool = False,
        asked: bool = True,
    ) -> None:
        """The create was not accepted: put the video back at the head of the queue, and let the
        deployment rest for `rest` seconds.

        With `rest` None the deployment rests for longer after each failure in a row. One that is
        `unreachable` may be tested meanwhile. A create that was never sent (`asked` is False) does
        not count against `creates_per_minute`.
        """

        def change(state: State, now: float) -> list[Write]:
            slots.rest(state.load(deployment), now, rest, unreachable=unreachable)
            lease = slots.give_back(state, video.id, now, asked=asked)
            if lease is None:
                return []
            state.waiting += 1
            return [new_place(lease.tag, video)]

        await self._change(model.name, change)

    async def rest(self, model: Model, deployment: Deployment) -> None:
        """A create has failed without a clear answer: send nothing to the deployment for a
        while.
        """

        def change(state: State, now: float) -> None:
            slots.rest(state.load(deployment), now, None)

        await self._change(model.name, change)

    async def reached(self, model: Model, deployment: Deployment) -> None:
        """A deployment that could not be reached answers again."""

        def change(state: State, now: float) -> None:
            slots.reached(state.load(deployment), now)

        await self._wake_next(model.name, await self._change(model.name, change))

    async def take_down(
        self,
        model: Model,
        deployment: Deployment,
        reason: str,
        seconds: float,
        *,
        lost: bool = False,
        request_id: str | None = None,
    ) -> None:
        """Send nothing to a deployment for `seconds`, because it refuses everybody. Where it is
        `lost`, no video waits for it.
        """

        def change(state: State, now: float) -> None:
            slots.take_down(state.load(deployment), reason, now, seconds, lost=lost, request_id=request_id)

        await self._change(model.name, change)

    async def outages(self, model: Model) -> Mapping[str, str]:
        """The reason of each deployment's outage, by name. An outage that has ended still counts
        for ten minutes, unless a job was accepted since.
        """
        _, state = await self._state(model.name)
        outages = {each.name: slots.last_outage(state.load(each), self._now()) for each in model.deployments}
        return {name: why.reason for name, why in outages.items() if why}

    async def troubles(self, model: Model) -> Mapping[str, str]:
        """Why deployments may not be usable now, by name: an outage, or recent failures in
        a row.
        """
        _, state = await self._state(model.name)
        troubles = {each.name: slots.trouble(state.load(each), self._now()) for each in model.deployments}
        return {name: reason for name, reason in troubles.items() if reason}

    async def is_down(self, model: Model) -> bool:
        """Whether every deployment of a model is closed."""
        _, state = await self._state(model.name)
        return all(slots.closed_by(state.load(each), self._now()) for each in model.deployments)

    async def is_lost(self, model: Model) -> bool:
        """Whether every deployment of a model is lost, so that no video waits for it."""
        _, state = await self._state(model.name)
        return all(slots.is_lost(state.load(each), self._now()) for each in model.deployments)

    async def leave(self, model_name: str, video_id: str, *, ended: bool = False) -> None:
        """The video is finished: free its slot or its place, and remove its row. May be repeated.

        Where the job has `ended`, `ended()` has freed the slot already.
        """

        async def attempt() -> State | None:
            note = await self.table.get(partition_of(model_name), video_id)
            if ended and note is None:
                return None
            # A video without a tag was refused before it asked for a slot: it has neither slot nor
            # place.
            if note is not None and (ended or "tag" not in note.values):
                await self.table.commit(partition_of(model_name), Delete(note))
                return None
            row, state = await self._state(model_name)
            place = await self.queue.place(model_name, _tag(note), video_id)
            freed = slots.give_back(state, video_id, self._now())
            writes: list[Write] = [Delete(each) for each in (note, place) if each]
            if place is not None:
                state.waiting -= 1
            if place is not None or freed is not None:
                writes.append(_written(row, state))
            if writes:
                await self.table.commit(partition_of(model_name), *writes)
            return state if place is not None or freed is not None else None

        changed = await self._in_turn(model_name, attempt)
        if changed is not None:
            await self._wake_next(model_name, changed)

    async def is_unfinished(self, model: Model, video_id: str) -> bool:
        """Whether a video has a row as unfinished now. One point read."""
        return await self.table.get(partition_of(model.name), video_id) is not None

    async def unfinished(self, model: Model) -> AsyncIterator[tuple[str, datetime]]:
        """Every unfinished video of a model, with the time it entered."""
        async for row in self.table.scan(partition_of(model.name), after=_FIRST_VIDEO, before=_AFTER_VIDEOS):
            yield row.key, row.values["entered"].astimezone(UTC)

    async def holders(self, model: Model) -> Mapping[str, float]:
        """The videos that hold a slot, each with the time since when, in unix seconds."""
        _, state = await self._state(model.name)
        return {video_id: lease.since for load in state.loads.values() for video_id, lease in load.leases.items()}

    async def _change(self, model_name: str, change: Callable[[State, float], list[Write] | None]) -> State:
        async def attempt() -> State:
            row, state = await self._state(model_name)
            before = msgspec.json.encode(state)
            writes = change(state, self._now()) or []
            if msgspec.json.encode(state) != before:
                await self.table.commit(partition_of(model_name), _written(row, state), *writes)
            return state

        return await self._in_turn(model_name, attempt)

    async def _wake_next(self, model_name: str, state: State) -> None:
        """Wake the first in the queue, one for each slot that is free now, and the one whose slot
        was just freed.

        Videos further back whose slots open later know that time already, and wake by themselves.
        """
        model = self.catalog.get(model_name)
        if model is None or state.waiting == 0 or not self.wake_ups.possible:
            return
        now = self._now()
        by_name = {each.name: slots.openings(state, [each], now) for each in model.deployments}
        openings = sorted(moment for moments in by_name.values() for moment in moments)
        if not openings:
            return
        free = {name for name, moments in by_name.items() if moments}
        first = await self.queue.first(model_name, len(openings), free)
        ready = sum(moment <= now + _SOON for moment in openings)
        await self.wake_ups.send(dict.fromkeys([*first[:ready], *first[len(openings) - 1 :]]))

    async def _in_turn(self, model_name: str, attempt: Callable[[], Awaitable[T]]) -> T:
        async with self._turns.setdefault(model_name, asyncio.Lock()):
            return await retry_conflicts(attempt, self.clock, self.random)

    async def _state(self, model_name: str) -> tuple[Row | None, State]:
        row = await self.table.get(partition_of(model_name), _STATE)
        return row, msgspec.json.decode(row.values["state"], type=State) if row else State()

    def _now(self) -> float:
        return self.clock.now().timestamp()


@dataclass(frozen=True)
class _Turn:
    """One video's turn, decided on the state and the head of the queue as one attempt has read
    them.
    """

    pool: Pool
    model: Model
    possible: Sequence[Deployment]
    video: Video
    row: Row | None
    state: State
    head: Head

    async def join(self, note: Row | None, tag: int) -> Slot | Wait:
        """Start at once where nobody waits and a slot is free; otherwise join the queue at the
        place of the tag.
        """
        values = {"entered": note.values["entered"] if note else self.video.created_at, "tag": tag}
        noted = Insert(self.video.id, values) if note is None else Replace(note, values)
        deployment = self._free() if self.state.waiting == 0 else None
        if deployment is not None:
            return await self._start(deployment, tag, noted)
        self.state.waiting += 1
        place = new_place(tag, self.video)
        await self._commit(noted, place)
        return await self._wait(await self._before(place.key))

    async def move_up(self, place: Row) -> Slot | Wait:
        """Start if it is this video's turn."""
        before = await self._before(place.key)
        if slots.may_start(self.state, self.possible, before.rivals, self.pool.clock.now().timestamp()):
            deployment = self._free()
            if deployment is not None:
                self.state.waiting -= 1
                return await self._start(deployment, tag_of(place), Delete(place))
        return await self._wait(before)

    def _free(self) -> Deployment | None:
        now = self.pool.clock.now().timestamp()
        return next(iter(slots.ready_now(self.state, self.possible, ask_of(self.video), now)), None)

    async def _start(self, deployment: Deployment, tag: int, *writes: Write) -> Slot:
        now = self.pool.clock.now().timestamp()
        slots.take(self.state, deployment, self.video.id, Lease(now, ask_of(self.video), tag))
        await self._commit(*writes)
        return Slot(deployment)

    async def _wait(self, before: Before) -> Wait:
        """How long to wait: until the slot that will be this video's opens, or until it is woken
        where no slot will be free.
        """
        now = self._now()
        usual = await self.pool.render_times.of(self.model.name, self.video.seconds)
        start = slots.estimated_start(self.state, self.possible, before.all, usual.mean, now)
        openings = slots.openings(self.state, self.possible, now)
        if before.rivals == len(openings):
            seconds = poll_schedule.sleep_unless_woken(0.0, self.pool.random)  # the next to be woken
        elif before.rivals > len(openings):
            seconds = poll_schedule.sleep_unless_woken(start - now, self.pool.random)
        elif openings[before.rivals] > now:
            seconds = openings[before.rivals] - now
        else:
            seconds = _EQUAL_UNDER_WAY
        unreachable = self._unreachable() if before.rivals == 0 else ()
        seconds = min(seconds, _PROBE) if unreachable else seconds
        return Wait(seconds, before.all + 1, datetime.fromtimestamp(start, UTC), self._outage(), unreachable)

    def _outage(self) -> str | None:
        """Why the last deployment is closed, where every deployment is."""
        reasons = [slots.closed_by(self.state.load(each), self._now()) for each in self.possible]
        return reasons[-1] if all(reasons) else None

    def _unreachable(self) -> tuple[Deployment, ...]:
        return tuple(each for each in self.possible if slots.is_unreachable(self.state.load(each), self._now()))

    async def _before(self, place: str) -> Before:
        """Who stands before the place. Rivals are those among them who could use a free slot of
        this video's deployments.
        """
        free = {each.name for each in self.possible if slots.openings(self.state, [each], self._now())}
        return await self.pool.queue.before(self.model.name, self.head, place, free)

    def _now(self) -> float:
        return self.pool.clock.now().timestamp()

    async def _commit(self, *writes: Write) -> None:
        await self.pool.table.commit(partition_of(self.model.name), _written(self.row, self.state), *writes)


def _tag(note: Row | None) -> int | None:
    """The tag in a video's row, which it gets when it first asks for a slot."""
    return note.values.get("tag") if note else None


def _written(row: Row | None, state: State) -> Write:
    values = {"state": msgspec.json.encode(state).decode()}
    return Insert(_STATE, values) if row is None else Replace(row, values)
