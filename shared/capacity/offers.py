"""Offers free slots to the first videos in the queue.

Code that frees a slot, or finds a free one, offers it. One transaction deletes the video's place
and writes its lease, so that no slot is offered twice and no video gets two. Then the video is
woken. If it does not take the offer up in time, it gets its place back, and the slot is offered to
the video that is first by then.
"""

from collections.abc import Iterable, Sequence, Set
from random import Random

import msgspec

from shared.capacity import slots
from shared.capacity.equality import shown
from shared.capacity.shards import Capacity, Shard, Shards, shard_of
from shared.capacity.slots import Lease
from shared.capacity.waiting_line import Head, Queue, Skip, new_place, next_of, nobody, shown_of, tag_of, video_of
from shared.clock import Clock
from shared.config.catalog import Catalog, Deployment, Model
from shared.storage.tables import Delete, Table, Write, partition_of

_A_FEW = 40  # places that are read to offer slots: the first may be bound to another deployment
_AT_ONCE = 32  # offers: a transaction holds 100 rows


class Offers(msgspec.Struct, frozen=True):
    """Makes offers and takes them back. Every method may raise StorageUnavailable."""

    table: Table
    catalog: Catalog
    shards: Shards
    queue: Queue
    clock: Clock
    random: Random

    async def pass_on(self, model_name: str, name: str, shard: Shard, *, but: Skip = nobody) -> Sequence[str]:
        """Offer the free slots of the deployment `name`, whose row was written just now, to any
        places `but` these. Returns the videos to wake. Raises WriteConflict.

        The queue is read after that write: a video that joins meanwhile is seen here, or sees the
        free slot itself.
        """
        model = self.catalog.get(model_name)
        deployment = model.deployment(name) if model else None
        if model is None or deployment is None or not self._is_open(deployment, shard):
            return ()
        line = await self.queue.head(model_name, _A_FEW)
        return await self.give(model, deployment, Capacity({shard.key: shard}), line.without(but))

    async def hand_out(self, model: Model, woken: list[str]) -> None:
        """Offer every free slot, and those whose offers have lapsed. Adds to `woken` the videos to
        wake, also before it raises WriteConflict: those that got an offer, and of the first those
        that can only use a lost deployment, since they should not go on waiting.
        """
        capacity = await self.shards.all(model.name)
        if late := self.lapsed(capacity):
            woken += await self.pass_over(model, *late)
            return await self.hand_out(model, woken)
        free = [each for each in model.deployments if self._is_open(each, capacity.of(each.name))]
        lost = [each.name for each in model.deployments if self._is_lost(each, capacity)]
        line = await self.queue.head(model.name) if free or lost else Head()
        for deployment in free:
            given = await self.give(model, deployment, capacity, line)
            if given:
                woken += given
                return await self.hand_out(model, woken)
        woken += line.bound_to(lost) if len(lost) < len(model.deployments) else line.videos
        return None

    async def give(
        self, model: Model, deployment: Deployment, capacity: Capacity, line: Head, asker: str | None = None
    ) -> Sequence[str]:
        """Offer the free slots of a deployment to the first in `line`. Returns the videos that got
        one. The `asker` is awake, so a slot that can be used now is its own at once and not an
        offer. Raises WriteConflict.
        """
        shard, now = capacity.of(deployment.name), self.clock.now().timestamp()
        load = shard.state.load(deployment.name)
        times = slots.open_soon(deployment, load, now)[:_AT_ONCE]
        takers = line.takers(deployment, capacity.asked_for(model, deployment))
        chosen = next_of(takers, len(times), len(model.deployments), self.random)
        for place, opening in zip(chosen, times, strict=False):
            values, offered = place.values, video_of(place) != asker or opening > now
            lease = Lease(opening, values.get("ask", ""), tag_of(place), offered=offered, bound="bound" in values)
            slots.take(shard.state, deployment.name, video_of(place), lease)
        left = {shown_of(deployment, place) for place in line.rows if place not in chosen}
        changed = _follow(deployment, capacity.under_way(model, deployment), left)
        if chosen or changed:
            others = [capacity.shards[key] for key in changed - {shard.key}]
            # A transaction may hold the move out of the former row once.
            beside = [write for other in others if not other.moves for write in other.writes]
            await self.shards.write(model.name, shard, *beside, *(Delete(place) for place in chosen))
        return [video_of(place) for place in chosen]

    def lapsed(self, capacity: Capacity) -> tuple[str, Shard, str] | None:
        """A lapsed offer: the deployment's name, its row, and the video's id. None if there is
        none.
        """
        now = self.clock.now().timestamp()
        late = (
            (name, capacity.of(name), video) for video, (name, lease) in capacity.leases.items() if slots.lapsed(lease, now)
        )
        return next(late, None)

    async def pass_over(self, model: Model, deployment: str, shard: Shard, video_id: str) -> Sequence[str]:
        """Take an offer back and make it to the next video. Returns the videos to wake. Raises
        WriteConflict.
        """
        await self.recall(model.name, deployment, shard, video_id)
        shard = await self.shards.last_written(model.name, deployment)
        return await self.pass_on(model.name, deployment, shard, but=lambda place: video_of(place) == video_id)

    async def recall(self, model_name: str, deployment: str, shard: Shard, video_id: str) -> None:
        """Take an offer back. Its video gets its place again, unless it is finished. Raises
        WriteConflict.
        """
        lease = shard.state.load(deployment).leases.pop(video_id)
        note = await self.table.get(partition_of(model_name), video_id)
        place: list[Write] = [] if note is None else [place_again(lease, video_id, deployment)]
        await self.shards.write(model_name, shard, *place)

    def _is_lost(self, deployment: Deployment, capacity: Capacity) -> bool:
        return slots.is_lost(capacity.load(deployment), self.clock.now().timestamp())

    def _is_open(self, deployment: Deployment, shard: Shard) -> bool:
        return slots.is_open(deployment, shard.state.load(deployment.name), self.clock.now().timestamp())


def _follow(deployment: Deployment, under_way: Iterable[tuple[str, str, Lease]], waiting: Set[str]) -> Set[str]:
    """Note which of the creates under way are followed by a video that waits. Returns the keys of
    the rows that this has changed.
    """
    changed = set()
    for name, video_id, lease in under_way:
        if not lease.followed and shown(deployment, video_id, lease.ask) in waiting:
            lease.followed = True
            changed.add(shard_of(name))
    return changed


def place_again(lease: Lease, video_id: str, deployment: str) -> Write:
    """The place that a video had before it got this lease."""
    return new_place(lease.tag, video_id, lease.ask, deployment if lease.bound else None)
