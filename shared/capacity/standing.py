"""Where a waiting video stands in the queue, as its caller sees it.

It is computed when a caller asks, so nothing is written while the queue moves. An instance answers
all callers from one reading for five seconds, and five more for every thousand waiting videos.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from shared.capacity import slots
from shared.capacity.render_times import RenderTimes
from shared.capacity.shards import Capacity, Shards
from shared.capacity.waiting_line import Queue, video_of
from shared.clock import Clock
from shared.config.catalog import Model
from shared.media.video import Video

_FRESH = 5.0  # seconds, for every page of the queue
_PAGE = 1000  # videos


class Standing(msgspec.Struct, frozen=True):
    """A video's `position` in the queue, from 1, and `start`, when its job should begin."""

    position: int
    start: datetime

    def wire(self) -> dict[str, int]:
        """The field `queue` of a waiting video; the time in unix seconds."""
        return {"position": self.position, "estimated_start": int(self.start.timestamp())}


class _Reading(msgspec.Struct, frozen=True):
    """The queue and the slots of a model, read `at` this time in unix seconds. `places` are counted
    from 0, by video.
    """

    at: float
    places: Mapping[str, int]
    capacity: Capacity

    def is_fresh(self, now: float) -> bool:
        return now - self.at < _FRESH * (1 + len(self.places) // _PAGE)


class Standings(msgspec.Struct):
    """Answers from the last reading of each model, while it is fresh."""

    queue: Queue
    shards: Shards
    render_times: RenderTimes
    clock: Clock
    _readings: dict[str, _Reading] = msgspec.field(default_factory=dict)
    _reading: dict[str, asyncio.Lock] = msgspec.field(default_factory=lambda: defaultdict(asyncio.Lock))  # by model

    async def of(self, model: Model, video: Video) -> Standing | None:
        """None for a video that is not in the queue, or has joined since the queue was read."""
        reading = self._fresh(model.name) or await self._read(model)
        place = reading.places.get(video.id)
        if place is None:
            return None
        loads = [(each, reading.capacity.load(each)) for each in model.able(video.source_deployment)]
        usual = await self.render_times.of(model.name, video.seconds)
        start = slots.estimated_start(loads, place, usual.mean, self._now())
        return Standing(place + 1, datetime.fromtimestamp(start, UTC))

    async def waiting(self, model: Model) -> int:
        """How many videos wait for a slot of the model."""
        reading = self._fresh(model.name) or await self._read(model)
        return len(reading.places)

    async def _read(self, model: Model) -> _Reading:
        """A new reading, which one of those who need it makes for all."""
        async with self._reading[model.name]:
            if known := self._fresh(model.name):
                return known
            line = [video_of(row) async for row in self.queue.places(model.name)]
            places = {video_id: place for place, video_id in enumerate(line)}
            known = self._readings[model.name] = _Reading(self._now(), places, await self.shards.all(model.name))
            return known

    def _fresh(self, model_name: str) -> _Reading | None:
        known = self._readings.get(model_name)
        return known if known and known.is_fresh(self._now()) else None

    def _now(self) -> float:
        return self.clock.now().timestamp()
