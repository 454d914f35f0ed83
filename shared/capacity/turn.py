"""One video asks for a slot: it has one, gets one at once, or takes a place in the queue."""

from collections.abc import Iterator, Sequence
from random import Random

import msgspec

from shared.capacity import poll_schedule, slots
from shared.capacity.equality import ask_of, shown
from shared.capacity.offers import Offers
from shared.capacity.render_times import RenderTimes
from shared.capacity.shards import Capacity, Shards, shard_of
from shared.capacity.slots import Lease, Outage
from shared.capacity.waiting_line import Before, Head, Queue, new_place, spread
from shared.clock import Clock
from shared.config.catalog import Deployment, Model
from shared.media.video import Video
from shared.storage.tables import Insert, Replace, Row, Table, Write, WriteConflict, partition_of

# Seconds to the next look of a video that waits for equal creates' answers alone, for each that may
# come before it. It is woken when the last of them is known.
_EQUAL_UNDER_WAY = 5.0
_PROBE = 10.0  # seconds between two looks at whether a deployment can be reached again


class Slot(msgspec.Struct, frozen=True):
    """A slot on `deployment`, held until `ended`, `leave` or `return_slot`."""

    deployment: Deployment


class Wait(msgspec.Struct, frozen=True):
    """No slot now: ask again after `seconds`, or when woken.

    If every deployment is closed, `outage` is why the last one is. For the first in the queue,
    `unreachable` lists the deployments that no connection could be made to: it may test them with a
    request that makes no job.
    """

    seconds: float
    outage: str | None = None
    unreachable: tuple[Deployment, ...] = ()


class Turn(msgspec.Struct, frozen=True):
    """A video's request for a slot. `possible` are the deployments that can make the video, in the
    configured order: a remix can only run on its source's.
    """

    model: Model
    possible: Sequence[Deployment]
    video: Video
    priority: int
    table: Table
    shards: Shards
    queue: Queue
    offers: Offers
    render_times: RenderTimes
    clock: Clock
    random: Random
    woken: list[str] = msgspec.field(default_factory=list)  # the other videos that were offered a slot

    async def attempt(self) -> Slot | Wait | Outage:
        """One try. Returns an Outage if all possible deployments are lost. Raises WriteConflict."""
        capacity = await self.shards.all(self.model.name)
        name, lease = capacity.leases.get(self.video.id, ("", None))
        holder = self.model.deployment(name)
        if lease is not None and lease.offered:
            return await self._take_up(name, lease, capacity)
        if holder is not None:
            return Slot(holder)
        last = slots.outage(capacity.load(self.possible[-1]), self._now())
        if last is not None and all(slots.is_lost(capacity.load(each), self._now()) for each in self.possible):
            return last
        line = await self.queue.head(self.model.name)
        place, note = line.place(self.video.id), None
        if place is None:
            note = await self.table.get(partition_of(self.model.name), self.video.id)
            place = await self._far_place(line, note)
        if place is None:
            return await self._arrive(capacity, line, note)
        return await self._look(capacity, line, place)

    async def _take_up(self, name: str, lease: Lease, capacity: Capacity) -> Slot | Wait | Outage:
        """Take up an offer, once `creates_per_minute` allows. If the deployment rests or is down by
        now, or is no longer configured, give the offer back and try again.
        """
        holder, shard, now = self.model.deployment(name), capacity.of(name), self._now()
        opens = slots.may_create_at(holder, capacity.load(holder), self.video.id, now) if holder else None
        if holder is None or opens is None:
            await self.offers.recall(self.model.name, name, shard, self.video.id)
            return await self.attempt()
        if opens > now and opens == lease.since:
            return self._wait_until(opens)
        lease.since, lease.offered = opens, opens > now
        await self.shards.write(self.model.name, shard)
        return self._wait_until(opens) if lease.offered else Slot(holder)

    def _wait_until(self, opens: float) -> Wait:
        """Wait for a slot that is this video's from then on."""
        return Wait(opens - self._now())

    async def _far_place(self, line: Head, note: Row | None) -> Row | None:
        """The video's place behind the first page, if it has one. Raises WriteConflict if it was
        offered a slot after the slots were read.
        """
        tag = _tag(note)
        place = await self.queue.place(self.model.name, tag, self.video.id) if line.may_lack(self.video.id) else None
        if place is None and tag is not None and self.video.id in (await self.shards.all(self.model.name)).leases:
            raise WriteConflict(self.video.id)
        return place

    async def _arrive(self, capacity: Capacity, line: Head, note: Row | None) -> Slot | Wait | Outage:
        """Take a slot that no video in the queue can use, or else a place in the queue."""
        now, ask = self._now(), ask_of(self.video)
        for deployment in self._open(capacity):
            load = capacity.load(deployment)
            free = slots.open_soon(deployment, load, now)[0] == now
            asked_for = capacity.asked_for(self.model, deployment) if free else ()
            if free and shown(deployment, self.video.id, ask) not in asked_for and not line.takers(deployment, asked_for):
                lease = Lease(now, ask, capacity.round, bound=self.video.source_deployment is not None)
                shard = capacity.of(deployment.name)
                slots.take(shard.state, deployment.name, self.video.id, lease)
                await self.shards.write(self.model.name, shard, self._noted(note, lease.tag))
                return Slot(deployment)
        return await self._join(capacity, line, note)

    async def _join(self, capacity: Capacity, line: Head, note: Row | None) -> Slot | Wait | Outage:
        """Take a place in the queue, by the key's next tag. A video keeps the tag it once got."""
        owner, tag = self.video.owner, _tag(note)
        home = capacity.home(owner, self.model.deployments)
        if tag is None:
            tag = slots.next_tag(capacity.round, capacity.last_tag(owner), self.priority)
            home.state.rounds[owner] = tag
        place = new_place(tag, self.video.id, ask_of(self.video), self.video.source_deployment)
        await self.shards.write(self.model.name, home, self._noted(note, tag), place)
        before = await self._before(capacity, line, place.key)
        if self._may_have_missed(capacity, before):
            return await self.attempt()
        return await self._wait(capacity, before)

    def _may_have_missed(self, capacity: Capacity, before: Before) -> bool:
        """Whether a slot may be free that nobody will offer: it was free before, or it became free
        in another row before this video's place could be seen.
        """
        if before.all >= spread(len(self.model.deployments)):
            return False  # it was offered to one of those; one more look would only conflict
        several = len({shard_of(each.name) for each in self.model.deployments}) > 1
        return several or any(self._open(capacity))

    async def _look(self, capacity: Capacity, line: Head, place: Row) -> Slot | Wait | Outage:
        """Offer free slots to the first in the queue, which may be this video."""
        before = await self._before(capacity, line, place.key)
        for deployment in self._open(capacity):
            given = await self.offers.give(self.model, deployment, capacity, line, self.video.id)
            if self.video.id in given:
                self.woken.extend(each for each in given if each != self.video.id)
                lease = capacity.load(deployment).leases[self.video.id]
                return self._wait_until(lease.since) if lease.offered else Slot(deployment)
            if given:
                self.woken.extend(given)
                return await self.attempt()
        return await self._wait(capacity, before)

    def _open(self, capacity: Capacity) -> Iterator[Deployment]:
        """The deployments that have a slot to offer, those with the fewest failures first. If there
        are 32 or more, equal ones come in random order, so that not all videos try the same.
        """
        now, loads = self._now(), [(each, capacity.load(each)) for each in self.possible]
        if spread(len(loads)) > 1:
            self.random.shuffle(loads)
        loads.sort(key=lambda pair: pair[1].failures)
        return (each for each, load in loads if slots.is_open(each, load, now))

    async def _wait(self, capacity: Capacity, before: Before) -> Wait:
        """How long to sleep: until the slot that will be this video's opens, or, if no such slot is
        known, until it is woken.
        """
        now = self._now()
        loads = [(each, capacity.load(each)) for each in self.possible]
        usual = await self.render_times.of(self.model.name, self.video.seconds)
        start = slots.estimated_start(loads, before.all, usual.mean, now)
        openings = sorted(moment for each, load in loads for moment in slots.openings(each, load, now))
        if before.rivals == len(openings):
            seconds = poll_schedule.sleep_unless_woken(0.0, self.random)  # the next to be woken
        elif before.rivals > len(openings):
            seconds = poll_schedule.sleep_unless_woken(start - now, self.random)
        elif openings[before.rivals] > now:
            seconds = openings[before.rivals] - now
        else:
            seconds = _EQUAL_UNDER_WAY * (1 + before.rivals)
        unreachable = tuple(each for each, load in loads if slots.is_unreachable(load, now)) if before.rivals == 0 else ()
        seconds = min(seconds, _PROBE) if unreachable else seconds
        return Wait(seconds, self._outage(capacity), unreachable)

    def _outage(self, capacity: Capacity) -> str | None:
        """Why the last deployment is closed, if every deployment is."""
        now = self._now()
        reason = slots.closed_by(capacity.load(self.possible[-1]), now)
        return reason if reason and all(slots.closed_by(capacity.load(each), now) for each in self.possible) else None

    async def _before(self, capacity: Capacity, line: Head, place: str) -> Before:
        """How many videos stand before the place; its rivals are those that can use a slot that is
        free or opens at a known time.
        """
        now = self._now()
        free = {each.name for each in self.possible if slots.has_openings(each, capacity.load(each), now)}
        return await self.queue.before(self.model.name, line, place, free)

    def _noted(self, note: Row | None, tag: int) -> Write:
        """The row of the unfinished video, with its tag."""
        values = {"entered": note.values["entered"] if note else self.video.created_at, "tag": tag}
        return Insert(self.video.id, values) if note is None else Replace(note, values)

    def _now(self) -> float:
        return self.clock.now().timestamp()


def _tag(note: Row | None) -> int | None:
    """A video's tag. It has one from the first time it asks."""
    return note.values.get("tag") if note else None
