"""Deployments in memory that keep the upstream's limits to the letter, and an archive that only
remembers lengths.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from math import inf
from random import Random

from shared.clock import Clock
from shared.config.catalog import Deployment
from shared.config.file import GatewayKnobs
from shared.config.settings import Storage
from shared.dialects.dialect import Ask
from shared.errors import Busy, Missing
from shared.media.content import Content
from shared.media.reference_image import Reference
from shared.media.video import Video
from shared.storage.blobs import Archive
from shared.upstream.client import Accepted, Upstream
from shared.upstream.jobs import Job, Listing
from shared.upstream.upstreams import Upstreams
from tests.fakes.loop import START

_WINDOW = 60.0  # seconds
_CREATE = (0.5, 4.0)  # seconds to the acceptance, and as many again back to the caller
_LOOK = (0.05, 0.25)
_SAVE = (0.3, 1.2)
_FILM = 5_000_000  # bytes


@dataclass
class SimulatedJob:
    """One accepted job. Times are seconds of the simulation; `bend` makes its progress run ahead of
    the truth or behind it. `hasty_polls` are those that came sooner than configured.
    """

    id: str
    prompt: str
    seconds: int
    size: str
    accepted: float
    ends: float
    bend: float
    polls: int = 0
    hasty_polls: int = 0
    asked_at: float = -inf

    def ask(self, now: float, closest: float) -> None:
        """Count a look that was sent just now."""
        self.polls += 1
        self.hasty_polls += now - self.asked_at < closest
        self.asked_at = now

    def progress(self, now: float) -> int:
        return min(99, int(100 * ((now - self.accepted) / (self.ends - self.accepted)) ** self.bend))


@dataclass
class SimulatedDeployment:
    """What one deployment has accepted. A create beyond a limit is refused with 429, and
    counted.
    """

    deployment: Deployment
    renders: dict[str, float]  # seconds, by prompt
    random: Random
    tells_progress: bool = True
    jobs: dict[str, SimulatedJob] = field(default_factory=dict)
    most_running: int = 0
    most_in_a_minute: int = 0
    refused: int = 0
    _recent: deque[float] = field(default_factory=deque)
    _running: list[SimulatedJob] = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=count)

    def accept(self, prompt: str, seconds: int, size: str) -> SimulatedJob:
        """Raises Busy beyond a limit."""
        now = _now()
        while self._recent and self._recent[0] <= now - _WINDOW:
            self._recent.popleft()
        self._running = [job for job in self._running if job.ends > now]
        if len(self._running) >= self.deployment.max_running or len(self._recent) >= self.deployment.creates_per_minute:
            self.refused += 1
            raise Busy("Too many running tasks.")
        bend = self.random.lognormvariate(0.0, 0.15)
        job = SimulatedJob(
            f"{self.deployment.name}_{next(self._numbers)}", prompt, seconds, size, now, now + self.renders[prompt], bend
        )
        self.jobs[job.id] = job
        self._recent.append(now)
        self._running.append(job)
        self.most_running = max(self.most_running, len(self._running))
        self.most_in_a_minute = max(self.most_in_a_minute, len(self._recent))
        return job

    def look(self, job: SimulatedJob) -> Job:
        now = _now()
        made = START.timestamp()
        done = now >= job.ends
        shown = 100 if done else job.progress(now) if self.tells_progress else 0
        return Job(
            id=job.id,
            status="completed" if done else "in_progress",
            progress=shown,
            created_at=int(made + job.accepted),
            completed_at=int(made + job.ends) if done else None,
            prompt=job.prompt,
            seconds=str(job.seconds),
            size=job.size,
        )


class SimulatedUpstream(Upstream):
    """The client's side of a simulated deployment: what the app asks takes as long as a request
    would.
    """

    def __init__(self, simulated: SimulatedDeployment) -> None:
        self.deployment = simulated.deployment
        self._simulated = simulated

    async def create(self, ask: Ask, reference: Reference | None = None) -> Accepted:
        del reference
        await self._travel(_CREATE)
        job = self._simulated.accept(ask.prompt, ask.seconds, ask.size)
        await self._travel(_CREATE)
        return Accepted(self._simulated.look(job), None)

    async def get(self, upstream_id: str) -> Job:
        job = self._simulated.jobs.get(upstream_id)
        if job is None:
            raise Missing("The video does not exist.")
        job.ask(_now(), GatewayKnobs().close_poll_seconds)
        await self._travel(_LOOK)
        return self._simulated.look(job)

    async def ping(self) -> None:
        await self._travel(_LOOK)

    async def recent(self, since: datetime) -> Listing:
        await self._travel(_LOOK)
        jobs = [job for job in self._simulated.jobs.values() if job.accepted >= since.timestamp() - START.timestamp()]
        return Listing(since, [self._simulated.look(job) for job in reversed(jobs)], complete=True)

    @asynccontextmanager
    async def content(self, upstream_id: str, variant: str = "video") -> AsyncIterator[Content]:
        del upstream_id, variant
        await self._travel(_LOOK)
        yield Content(_FILM, "video/mp4", _Nothing())

    async def _travel(self, seconds: tuple[float, float]) -> None:
        await asyncio.sleep(self._simulated.random.uniform(*seconds))


class SimulatedUpstreams(Upstreams, frozen=True):
    """Every deployment is a simulated one."""

    places: Mapping[str, SimulatedDeployment]

    def at(self, deployment: Deployment) -> SimulatedUpstream:
        return SimulatedUpstream(self.places[deployment.name])


class SimulatedArchive(Archive):
    """Keeps no bytes."""

    def __init__(self, clock: Clock, random: Random) -> None:
        super().__init__(Storage(), lambda: None, clock, 900)
        self._random = random
        self._lengths: dict[str, int] = {}

    async def save(self, video: Video, content: Content) -> int:
        await asyncio.sleep(self._random.uniform(*_SAVE))
        self._lengths[video.id] = content.length or 0
        return self._lengths[video.id]

    async def length(self, video: Video, variant: str = "video") -> int | None:
        del variant
        return self._lengths.get(video.id)


class _Nothing:
    """A stream without bytes."""

    def __aiter__(self) -> "_Nothing":
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


def _now() -> float:
    return asyncio.get_running_loop().time()
