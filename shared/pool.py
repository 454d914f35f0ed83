"""The capacity of a model's deployments: who runs where, and how long the others wait.

A partition of the table `pools` is one model. Its row `state` holds the leases (a job holds one from before its create until
its end), the recent creates and the cool-downs of every deployment; a row `video_…` stands for every unfinished video, written
before the video is admitted, so that nothing can be admitted and then forgotten. Partitions `claims:<day>` say which video has
which upstream job, so that a job found after an unclear create is never taken for two videos.
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from random import Random

import msgspec

from shared.catalog import Catalog, Deployment, Model
from shared.clock import Clock
from shared.tables import Conflict, Delete, Insert, Replace, Row, Table, Write, retry_conflicts
from shared.upstream import Job

_STATE = "state"
_FIRST_VIDEO, _AFTER_VIDEOS = "video_", "video`"
# A create is counted when its slot is taken; it reaches the upstream a little later, and not always equally much later.
_WINDOW = 63.0
_LOOK_AGAIN = 5.0  # seconds until a job that waits for a slot asks again


@dataclass(frozen=True)
class Lease:
    """A slot on `deployment`, held until `release`."""

    deployment: Deployment


@dataclass(frozen=True)
class Wait:
    """No slot now; ask again after `seconds`."""

    seconds: float


class _Load(msgspec.Struct):
    """One deployment: since when each video runs, when it was last asked to create (unix seconds), and until when it rests."""

    leases: dict[str, float] = {}
    creates: list[float] = []
    rests_until: float = 0.0


class Pool:
    def __init__(self, table: Table, catalog: Catalog, clock: Clock, random: Random) -> None:
        self._table = table
        self._catalog = catalog
        self._clock = clock
        self._random = random

    async def enter(self, model: Model, video_id: str) -> None:
        """Note that a video of this model is unfinished. May be repeated."""
        try:
            await self._table.commit(_partition(model.name), Insert(video_id, {"entered": self._clock.now()}))
        except Conflict:
            return

    async def acquire(self, model: Model, video_id: str, only: str | None = None) -> Lease | Wait:
        """Take a slot on the deployment that can start first, or on `only`, and count a create against its pace.

        A video that holds a slot keeps it, and its create is counted again: it is about to be repeated.
        """

        possible = [each for each in model.deployments if only in (None, each.name)]

        async def attempt() -> Lease | Wait:
            row, loads = await self._read(model)
            now = self._clock.now().timestamp()
            held = [each for each in model.deployments if video_id in loads[each.name].leases]
            offers = [(_ready_at(each, loads[each.name], video_id, now), each) for each in held or possible]
            ready_at, deployment = min(offers, key=lambda offer: offer[0])
            if ready_at > now:
                return Wait(ready_at - now)
            load = loads[deployment.name]
            load.leases[video_id] = now
            load.creates = [*(each for each in load.creates if each > now - _WINDOW), now]
            await self._table.commit(_partition(model.name), _written(row, loads))
            return Lease(deployment)

        return await retry_conflicts(attempt, self._clock, self._random)

    async def rest(self, model: Model, video_id: str, deployment: Deployment, seconds: float) -> None:
        """The upstream had no capacity after all: give the slot back and leave the deployment alone for a while."""

        async def attempt() -> None:
            row, loads = await self._read(model)
            load = loads[deployment.name]
            load.leases.pop(video_id, None)
            load.rests_until = max(load.rests_until, self._clock.now().timestamp() + seconds)
            await self._table.commit(_partition(model.name), _written(row, loads))

        await retry_conflicts(attempt, self._clock, self._random)

    async def leave(self, model_name: str, video_id: str) -> None:
        """The video is finished: free its slot and forget it. May be repeated."""
        model = self._catalog.get(model_name)

        async def attempt() -> None:
            partition = _partition(model_name)
            writes: list[Write] = []
            unfinished = await self._table.get(partition, video_id)
            if unfinished is not None:
                writes.append(Delete(unfinished))
            row = await self._table.get(partition, _STATE)
            loads = _decode(row, model.deployments if model else ())
            holders = [load for load in loads.values() if load.leases.pop(video_id, None)]
            if holders:
                writes.append(_written(row, loads))
            if writes:
                await self._table.commit(partition, *writes)

        await retry_conflicts(attempt, self._clock, self._random)

    async def claim(self, deployment: Deployment, job: Job, video_id: str) -> bool:
        """Bind a deployment's job to a video for good; False where another video has it. May be repeated."""
        partition = _claims(self._clock.now() if job.created_at is None else datetime.fromtimestamp(job.created_at, UTC))
        key = sha256(f"{deployment.name} {job.id}".encode()).hexdigest()
        try:
            await self._table.commit(partition, Insert(key, {"video": video_id}))
        except Conflict:
            row = await self._table.get(partition, key)
            return row is not None and row.values["video"] == video_id
        return True

    async def unfinished(self, model: Model) -> AsyncIterator[tuple[str, datetime]]:
        """Every unfinished video of a model, with the time it entered."""
        async for row in self._table.scan(_partition(model.name), after=_FIRST_VIDEO, before=_AFTER_VIDEOS):
            yield row.key, row.values["entered"].astimezone(UTC)

    async def _read(self, model: Model) -> tuple[Row | None, dict[str, _Load]]:
        row = await self._table.get(_partition(model.name), _STATE)
        return row, _decode(row, model.deployments)


def _ready_at(deployment: Deployment, load: _Load, video_id: str, now: float) -> float:
    """When this deployment can take the video, in unix seconds."""
    if video_id not in load.leases and len(load.leases) >= deployment.max_running:
        return now + _LOOK_AGAIN
    recent = sorted(each for each in load.creates if each > now - _WINDOW)
    paced = recent[-deployment.creates_per_minute] + _WINDOW if len(recent) >= deployment.creates_per_minute else 0.0
    return max(load.rests_until, paced, now)


def _claims(day: datetime) -> str:
    """Claims lie by the day of the job, so that old ones can be found and dropped together."""
    return f"claims:{day:%Y-%m-%d}"


def _decode(row: Row | None, deployments: Iterable[Deployment]) -> dict[str, _Load]:
    loads = msgspec.json.decode(row.values["loads"], type=dict[str, _Load]) if row else {}
    return {each.name: _Load() for each in deployments} | loads


def _written(row: Row | None, loads: dict[str, _Load]) -> Write:
    values = {"loads": msgspec.json.encode(loads).decode()}
    return Insert(_STATE, values) if row is None else Replace(row, values)


def _partition(model_name: str) -> str:
    """A table key may not contain a slash; a model's name may, and never a colon."""
    return model_name.replace("/", ":")
