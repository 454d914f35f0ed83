"""The slots of a model's deployments and the queue for them, shared by all instances through the
table `pools`.

Each model has a partition. Its rows `state_…` hold the state of its deployments (`shards`). Every
unfinished video has a row `video_…`, written before the video is admitted, so that an admitted
video is never unknown here. A video that waits also has a row for its place in the queue. Rows that
depend on each other change in one transaction.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from random import Random
from typing import TypeVar

import msgspec

from shared.capacity import slots
from shared.capacity.equality import ask_of, shown
from shared.capacity.offers import Offers, place_again
from shared.capacity.render_times import RenderTimes
from shared.capacity.shards import Shard, Shards, shard_of
from shared.capacity.slots import Load, Outage
from shared.capacity.standing import Standing, Standings
from shared.capacity.turn import Slot, Turn, Wait
from shared.capacity.waiting_line import Queue, Skip, nobody, shown_of
from shared.capacity.wake_ups import WakeUps
from shared.clock import Clock
from shared.config.catalog import Catalog, Deployment, Model
from shared.media.video import Video
from shared.storage.tables import Delete, Insert, Row, Table, Write, WriteConflict, partition_of, retry_conflicts, unread

__all__ = ["Pool", "Slot", "Wait"]

_FIRST_VIDEO, _AFTER_VIDEOS = "video_", "video`"

T = TypeVar("T")
Read = Callable[[str, str], Awaitable[Shard]]
Change = Callable[[Load, float], list[Write] | None]


class Pool(msgspec.Struct, dict=True):
    """Hands out slots and places, and frees them. Methods may raise StorageUnavailable."""

    table: Table
    catalog: Catalog
    clock: Clock
    random: Random
    render_times: RenderTimes
    wake_ups: WakeUps = msgspec.field(default_factory=WakeUps)
    # Within one instance, requests for a model's slots take turns, and so do changes of one row: at
    # the same time they would only conflict with each other and be repeated.
    _turns: dict[str, asyncio.Lock] = msgspec.field(default_factory=dict)

    @cached_property
    def shards(self) -> Shards:
        return Shards(self.table, self.clock)

    @cached_property
    def queue(self) -> Queue:
        return Queue(self.table, self.clock)

    @cached_property
    def standings(self) -> Standings:
        return Standings(self.queue, self.shards, self.render_times, self.clock)

    @cached_property
    def offers(self) -> Offers:
        return Offers(self.table, self.catalog, self.shards, self.queue, self.clock, self.random)

    async def enter(self, model: Model, video_id: str) -> None:
        """Record that a video of this model is unfinished. May be repeated."""
        try:
            await self.table.commit(partition_of(model.name), Insert(video_id, {"entered": self.clock.now()}))
        except WriteConflict:
            return

    async def acquire(self, model: Model, video: Video, priority: int = 1) -> Slot | Wait | Outage:
        """Take a slot on a deployment that can start the video now, or a place in the queue.

        A video that holds a slot keeps it. A remix can only run on its source's deployment. If all
        possible deployments are lost, returns the Outage of the last one.
        """
        turn = Turn(
            *(model, model.able(video.source_deployment), video, priority, self.table, self.shards, self.queue),
            *(self.offers, self.render_times, self.clock, self.random),
        )
        try:
            return await self._in_turn(model.name, turn.attempt)
        finally:
            await self.wake_ups.send(each for each in turn.woken if each != video.id)

    async def answered(self, model_name: str, deployment: str, video_id: str) -> None:
        """The upstream has accepted the create. From now on it counts as one of the last minute, no
        longer as one under way.
        """
        recovered = False

        def change(load: Load, now: float) -> None:
            nonlocal recovered
            recovered = slots.answered(load, video_id, now)

        await self._change(model_name, deployment, change, read=self.shards.last_written)
        if recovered:
            await self._pass_on(model_name, deployment)

    async def wake_followers(self, video: Video, models: Iterable[str] = ()) -> None:
        """The outcome of a create is known: offer the free slots of its model, if an equal video
        waits for it there, and of other `models`. Nothing is read unless somebody waits.
        """
        state = self.shards.as_written(video.model, video.deployment or "")
        lease = state.load(video.deployment or "").leases.get(video.id) if state else None
        own = [video.model] if lease and lease.followed and lease.answered else []
        if self.wake_ups.possible:
            for model in filter(None, map(self.catalog.get, dict.fromkeys([*own, *models]))):
                await self.hand_out(model)

    async def ended(self, video: Video) -> None:
        """The job has ended upstream: free its slot, although the video is not finished yet. May be
        repeated.
        """
        if video.deployment is not None:
            await self._free(video.model, video.deployment, video.id)

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
        not count against `creates_per_minute`. The slot is offered to other videos, but to no equal
        one: an equal create may be what stood in the way.
        """

        def change(load: Load, now: float) -> list[Write]:
            slots.rest(load, now, rest, unreachable=unreachable)
            lease = slots.give_back(load, video.id, now, asked=asked)
            return [] if lease is None else [place_again(lease, video.id, deployment.name)]

        await self._change(model.name, deployment.name, change)
        equal = shown(deployment, video.id, ask_of(video))
        await self._pass_on(model.name, deployment.name, but=lambda place: shown_of(deployment, place) == equal)

    async def rest(self, model: Model, deployment: Deployment) -> None:
        """A create has failed without a clear answer: send nothing to the deployment for a
        while.
        """
        await self._change(model.name, deployment.name, lambda load, now: slots.rest(load, now, None))

    async def reached(self, model: Model, deployment: Deployment) -> None:
        """A deployment that could not be reached answers again."""
        await self._change(model.name, deployment.name, slots.reached)
        await self._pass_on(model.name, deployment.name)

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
        """Send nothing to a deployment for `seconds`, because it refuses everybody. If it is
        `lost`, no video waits for it.
        """

        def change(load: Load, now: float) -> None:
            slots.take_down(load, reason, now, seconds, lost=lost, request_id=request_id)

        await self._change(model.name, deployment.name, change)

    async def hand_out(self, model: Model) -> None:
        """Offer slots that are free although videos wait. The sweep calls this, to repair offers
        and wake-ups that were lost.
        """

        woken: list[str] = []

        async def attempt() -> None:
            await self.offers.hand_out(model, woken)

        try:
            await self._in_turn(model.name, attempt)
        finally:
            await self.wake_ups.send(woken)

    async def standing(self, video: Video) -> Standing | None:
        """Where a waiting video stands in the queue; None if it is not seen there yet."""
        model = self.catalog.get(video.model)
        return await self.standings.of(model, video) if model else None

    async def waiting(self, model: Model) -> int:
        """How many videos wait for a slot."""
        return await self.standings.waiting(model)

    async def outages(self, model: Model) -> Mapping[str, Outage]:
        """The outages of deployments, by name. An outage that has ended still counts
        for ten minutes, unless a job was accepted since.
        """
        outages = {name: slots.last_outage(load, self._now()) for name, load in (await self.loads(model)).items()}
        return {name: why for name, why in outages.items() if why}

    async def troubles(self, model: Model) -> Mapping[str, str]:
        """Why deployments may not be usable now, by name: an outage, or recent failures in
        a row.
        """
        troubles = {name: slots.trouble(load, self._now()) for name, load in (await self.loads(model)).items()}
        return {name: reason for name, reason in troubles.items() if reason}

    async def is_down(self, model: Model) -> bool:
        """Whether every deployment of a model is closed."""
        return all(slots.closed_by(load, self._now()) for load in (await self.loads(model)).values())

    async def is_lost(self, model: Model) -> bool:
        """Whether every deployment of a model is lost, so that no video waits for it."""
        return all(slots.is_lost(load, self._now()) for load in (await self.loads(model)).values())

    async def leave(self, model_name: str, video_id: str, *, ended: bool = False) -> None:
        """The video is finished: free its slot or its place, and remove its row. May be repeated.

        If the job has `ended`, `ended()` has freed the slot already, and only the row is left.
        """
        if ended:
            await self._forget(model_name, video_id)
            return

        async def attempt() -> None:
            note = await self.table.get(partition_of(model_name), video_id)
            # A video without a tag was refused before it asked for a slot: it has neither slot nor
            # place.
            has_asked = note is None or "tag" in note.values
            place = await self._place_or_free(model_name, note, video_id) if has_asked else None
            gone = [Delete(each) for each in (note, place) if each]
            if gone:
                await self.table.commit(partition_of(model_name), *gone)

        await retry_conflicts(attempt, self.clock, self.random)

    async def _forget(self, model_name: str, video_id: str) -> None:
        try:
            await self.table.commit(partition_of(model_name), Delete(unread(video_id)))
        except WriteConflict:
            return  # it is gone

    async def _place_or_free(self, model_name: str, note: Row | None, video_id: str) -> Row | None:
        """A video's place; if it has none, free its slot."""
        place = await self.queue.place(model_name, note.values["tag"], video_id) if note else None
        if place is None:
            deployment, _ = (await self.shards.all(model_name)).leases.get(video_id, (None, None))
            if deployment is not None:
                await self._free(model_name, deployment, video_id)
        return place

    async def is_unfinished(self, model_name: str, video_id: str) -> bool:
        """Whether a video has a row as unfinished now. One point read."""
        return await self.table.get(partition_of(model_name), video_id) is not None

    async def unfinished(self, model: Model) -> AsyncIterator[tuple[str, datetime]]:
        """Every unfinished video of a model, with the time it entered."""
        async for row in self.table.scan(partition_of(model.name), after=_FIRST_VIDEO, before=_AFTER_VIDEOS):
            yield row.key, row.values["entered"].astimezone(UTC)

    async def holders(self, model: Model) -> Mapping[str, float]:
        """The videos that hold a slot, each with the time since when, in unix seconds."""
        return {video_id: lease.since for video_id, (_, lease) in (await self.shards.all(model.name)).leases.items()}

    async def loads(self, model: Model) -> Mapping[str, Load]:
        """The state of each deployment, by name."""
        capacity = await self.shards.all(model.name)
        return {each.name: capacity.load(each) for each in model.deployments}

    async def _free(self, model_name: str, deployment: str, video_id: str) -> None:
        """Free a slot, and offer it to the first in the queue. May be repeated."""

        def change(load: Load, now: float) -> None:
            slots.give_back(load, video_id, now)

        await self._change(model_name, deployment, change)
        await self._pass_on(model_name, deployment)

    async def _change(self, model_name: str, deployment: str, change: Change, read: Read | None = None) -> None:
        """Change a deployment's state, with the writes that `change` returns in the same
        transaction. A change that changes nothing is not written.
        """

        async def attempt(shard: Shard) -> None:
            before = msgspec.json.encode(shard.state)
            writes = change(shard.state.load(deployment), self._now()) or ()
            if msgspec.json.encode(shard.state) != before:
                await self.shards.write(model_name, shard, *writes)

        await self._at(model_name, deployment, attempt, read or self.shards.one)

    async def _pass_on(self, model_name: str, deployment: str, but: Skip = nobody) -> None:
        """Offer the free slots of a deployment, whose row this instance has just written, to the
        first in the queue `but` these.
        """
        if not self.wake_ups.possible:
            return  # nobody can be woken, so an offer would lapse; the next video that asks makes it

        async def attempt(shard: Shard) -> Sequence[str]:
            return await self.offers.pass_on(model_name, deployment, shard, but=but)

        await self.wake_ups.send(await self._at(model_name, deployment, attempt, self.shards.last_written))

    async def _at(self, model_name: str, deployment: str, attempt: Callable[[Shard], Awaitable[T]], read: Read) -> T:
        async def read_and_attempt() -> T:
            return await attempt(await read(model_name, deployment))

        return await self._in_turn(f"{model_name} {shard_of(deployment)}", read_and_attempt)

    async def _in_turn(self, name: str, attempt: Callable[[], Awaitable[T]]) -> T:
        async with self._turns.setdefault(name, asyncio.Lock()):
            return await retry_conflicts(attempt, self.clock, self.random)

    def _now(self) -> float:
        return self.clock.now().timestamp()
