"""Stores the state of a model's deployments in several rows, so that changes of different
deployments rarely conflict. A table takes 50 to 100 changes of one row a second.

The model's partition has up to 64 rows `state_<number>`. A deployment's number is a hash of its
name and depends on nothing else: whatever is added to the configuration or removed, all instances
keep a deployment in the same row, so its limits hold. One range read returns all rows.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cache, cached_property
from zlib import crc32

import msgspec

from shared.capacity.equality import shown
from shared.capacity.slots import Lease, Load, State
from shared.clock import Clock
from shared.config.catalog import Deployment, Model
from shared.storage.tables import Insert, Replace, Row, Table, Write, partition_of

SHARDS = 64  # rows of a model at the most. To change it is to move every lease: never while an app runs

_BEFORE, _AFTER = "stat", "state`"
_FORMER = "state"  # the row of older versions, which had one for all deployments
_OVERLAP = 600.0  # seconds in which instances of such a version may still run


class Shard(msgspec.Struct, frozen=True):
    """One row as it was read. Change its `state`, then write it. If some of its state still comes
    from the row of a former version, `moves` is the write that takes it out of there.
    """

    key: str
    row: Row | None
    state: State
    moves: Write | None = None

    @property
    def writes(self) -> Sequence[Write]:
        """The writes of one transaction that store this row."""
        values = _values(self.state)
        written = Insert(self.key, values) if self.row is None else Replace(self.row, values)
        return [written, self.moves] if self.moves else [written]


class Capacity(msgspec.Struct, frozen=True, dict=True):
    """All rows of a model, as one read returned them."""

    shards: dict[str, Shard]

    def of(self, deployment: str) -> Shard:
        """The row of a deployment; an empty one if it has none yet."""
        key = shard_of(deployment)
        return self.shards.setdefault(key, Shard(key, None, State()))

    def load(self, deployment: Deployment) -> Load:
        """The state of a deployment."""
        return self._loads.get(deployment.name) or self.of(deployment.name).state.load(deployment.name)

    @cached_property
    def _loads(self) -> Mapping[str, Load]:
        """The state of every deployment that has any, by name."""
        return {name: load for shard in self.shards.values() for name, load in shard.state.loads.items()}

    @cached_property
    def leases(self) -> Mapping[str, tuple[str, Lease]]:
        """The slots in use, by video: the deployment's name and the lease."""
        return {video_id: (name, lease) for name, load in self._loads.items() for video_id, lease in load.leases.items()}

    def under_way(self, model: Model, deployment: Deployment) -> Iterator[tuple[str, str, Lease]]:
        """The model's creates without an answer at the deployment's resource: the names of their
        deployments, their videos and leases. Those whose row was not read are left out.
        """
        for each in model.deployments:
            if each.base_url == deployment.base_url:
                leases = self.load(each).leases.items()
                yield from ((each.name, video_id, lease) for video_id, lease in leases if lease.answered is None)

    def asked_for(self, model: Model, deployment: Deployment) -> Set[str]:
        """What is `shown` of the creates under way at the deployment's resource. No equal one may
        start there meanwhile: if an answer is lost, a job found in the upstream's list must be of
        one create only.
        """
        return {shown(deployment, video_id, lease.ask) for _, video_id, lease in self.under_way(model, deployment)}

    @property
    def round(self) -> int:
        """The virtual time that the queue has reached."""
        return max((shard.state.round for shard in self.shards.values()), default=0)

    def last_tag(self, owner: str) -> int | None:
        """The last tag of a key, from any row: the row for its tags (`home`) changes when
        deployments are added or removed.
        """
        return max((shard.state.rounds[owner] for shard in self.shards.values() if owner in shard.state.rounds), default=None)

    def home(self, owner: str, deployments: Sequence[Deployment]) -> Shard:
        """The row for a key's next tag: the row of one of the deployments, by a hash of the key."""
        return self.of(deployments[crc32(owner.encode()) % len(deployments)].name)


class Shards(msgspec.Struct):
    """Reads and writes the rows. `_written` are the rows as this instance last wrote them."""

    table: Table
    clock: Clock
    _written: dict[tuple[str, str], Row] = msgspec.field(default_factory=dict)

    async def all(self, model_name: str) -> Capacity:
        """All rows of a model. One range read."""
        rows = {row.key: row async for row in self.table.scan(partition_of(model_name), after=_BEFORE, before=_AFTER)}
        former = rows.pop(_FORMER, None)
        shards = {key: Shard(key, row, _state(row)) for key, row in rows.items()}
        return Capacity(shards | self._former(former, shards) if former else shards)

    async def one(self, model_name: str, deployment: str) -> Shard:
        """The row of one deployment: a point read."""
        key = shard_of(deployment)
        row = await self.table.get(partition_of(model_name), key)
        return Shard(key, row, _state(row)) if row else (await self.all(model_name)).of(deployment)

    async def last_written(self, model_name: str, deployment: str) -> Shard:
        """The row as this instance last wrote it, which saves a read. If another instance has
        changed it since, writing it raises WriteConflict.
        """
        row = self._written.pop((model_name, shard_of(deployment)), None)
        return Shard(row.key, row, _state(row)) if row else await self.one(model_name, deployment)

    def as_written(self, model_name: str, deployment: str) -> State | None:
        """What this instance last wrote into the deployment's row; None if that is not known."""
        row = self._written.get((model_name, shard_of(deployment)))
        return _state(row) if row else None

    async def write(self, model_name: str, shard: Shard, *beside: Write) -> None:
        """Write a row, with other writes `beside` it. Raises WriteConflict."""
        etag, *_ = await self.table.commit(partition_of(model_name), *shard.writes, *beside)
        self._written[model_name, shard.key] = Row(shard.key, dict(_values(shard.state)), etag)

    def _former(self, row: Row, shards: Mapping[str, Shard]) -> dict[str, Shard]:
        """The shards, joined with the state that a former version keeps in one row. The first write
        of a shard moves its part out of that row and leaves the deployments resting there, so that
        an instance of that version sends nothing more. The keys' tags stay in that row, where
        `last_tag` finds them.
        """
        state, until = _state(row), self.clock.now().timestamp() + _OVERLAP
        moved = set(row.values.get("moved", "").split())
        found = {_FORMER: Shard(_FORMER, row, State({}, state.round, state.rounds))}
        for key in {shard_of(name) for name in state.loads} - moved:
            shard = shards.get(key, Shard(key, None, State()))
            loads = {name: load for name, load in state.loads.items() if shard_of(name) == key}
            joined = {name: _joined(shard.state.loads.get(name), load) for name, load in loads.items()}
            resting = State(state.loads | {name: Load(rests_until=until) for name in loads}, state.round, state.rounds)
            moves = Replace(row, {**_values(resting), "moved": " ".join(sorted({*moved, key}))})
            found[key] = Shard(key, shard.row, State(shard.state.loads | joined, shard.state.round, shard.state.rounds), moves)
        return found


@cache
def shard_of(deployment: str) -> str:
    """The key of the row with a deployment's state."""
    return f"state_{crc32(deployment.encode()) % SHARDS:02d}"


def _joined(here: Load | None, former: Load) -> Load:
    """The state from both rows, if a former version has used its row again after the move."""
    if here is not None:
        former.leases |= here.leases
        former.creates = sorted({*here.creates, *former.creates})
        former.rests_until, former.failures, former.outage = here.rests_until, here.failures, here.outage
    return former


def _state(row: Row | None) -> State:
    return msgspec.json.decode(row.values["state"], type=State) if row else State()


def _values(state: State) -> Mapping[str, object]:
    return {"state": msgspec.json.encode(state).decode()}
