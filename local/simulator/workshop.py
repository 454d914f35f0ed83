"""What every simulated server has, whatever it calls things: jobs, a machine that renders them, and
films.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from local.simulator import film
from local.simulator.jobs import Job, Jobs, render_seconds
from shared.clock import Clock


@dataclass(frozen=True)
class Order:
    """A create that a server has found to be in order. `reference` is an encoded image."""

    deployment: str
    model: str
    prompt: str
    seconds: int
    size: str
    reference: bytes | None = None


class Workshop:
    """Jobs and films stay in `data`.

    speed: how many times faster than life jobs render. one_film: draw one film of each size and
    length, and sign every job's copy of it. `content_bytes`: films are padded up to that many.
    """

    def __init__(self, data: Path, clock: Clock, speed: float, *, one_film: bool) -> None:
        self.clock = clock
        self.speed = speed
        self.jobs = Jobs(data / "jobs.sqlite")
        self.content_bytes: int | None = None
        self._one_film = one_film
        self._studio = film.Studio(data / "films")

    def now(self) -> float:
        """Unix seconds."""
        return self.clock.now().timestamp()

    def takes(self, job_id: str, order: Order) -> float | None:
        """Seconds that the machine will need for it. A word in the prompt decides that it never
        ends.
        """
        return None if "endless" in order.prompt.lower() else render_seconds(job_id, order.seconds, self.speed)

    def queue(self, lanes: int | None) -> float:
        """When a machine that renders so many at a time (None: any number) could begin one more."""
        now = self.now()
        ends = sorted(job.ends_at for job in self.jobs.running(now))
        return now if lanes is None or len(ends) < lanes else ends[-lanes]

    def stop(self, job: Job, lanes: int | None) -> None:
        """Take a job off the machine, and let those behind it move up."""
        now = self.now()
        behind = [each for each in self.jobs.running(now) if each.starts_at > now and each.id != job.id]
        for each in (job, *behind):
            self.jobs.move(each.id, now, 0.0)
        for each in behind:
            self.jobs.move(each.id, self.queue(lanes), each.takes)

    def restart(self) -> None:
        """Lose what the machine had in its memory. Films stay on its disk."""
        now = self.now()
        for job in self.jobs.running(now):
            self.jobs.move(job.id, min(job.starts_at, now), 0.0)
        self.jobs.lose()

    async def film(self, job: Job, name: str = film.VIDEO, *, index_first: bool = True) -> tuple[bytes, int]:
        """A part of the job's film, and how many zero bytes follow it."""
        width, height = map(int, job.size.split("x"))
        scene = film.Scene(job.prompt, (width, height), job.seconds, self.jobs.reference(job.id), index_first)
        folder = await self._studio.film(f"{job.size}-{job.seconds}" if self._one_film else job.id, scene)
        body, padding = await asyncio.to_thread((folder / name).read_bytes), 0
        if name == film.VIDEO and self._one_film:
            body = film.signed(body, job.id)
        if name == film.VIDEO and self.content_bytes is not None:
            body, padding = film.pad_with_free_box(body, self.content_bytes)
        return body, padding

    async def discard(self, job: Job) -> None:
        """Take its film off the disk."""
        await asyncio.to_thread(self._studio.discard, job.id)

    def reset(self) -> None:
        """Forget every job and film."""
        self.jobs.clear()
        self._studio.discard_all()
        self.content_bytes = None
