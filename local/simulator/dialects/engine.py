"""What inference servers of one's own have in common: an engine with a line in front of it, and
jobs that are only in memory.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from aiohttp import web

from local.simulator.answers import Answer, Refused, json_answer
from local.simulator.bodies import File, is_image
from local.simulator.dialects.dialect import Dialect, ServedModel, Terms
from local.simulator.jobs import Failure, Job
from local.simulator.workshop import Order, Workshop

ORDERS = ("asc", "desc")


class Engine(Dialect):
    """It serves one model, and says so by its name."""

    at_a_time = 1
    forgets = True
    served: ClassVar[str]

    def __init__(self, workshop: Workshop, terms: Terms) -> None:
        terms = replace(terms, models=terms.models or {self.served: ServedModel(self.served)})
        super().__init__(workshop, terms)
        self.model = next(iter(terms.models))

    def render(self, job_id: str, order: Order, parameters: Mapping[str, Any], failure: Failure | None) -> Job:
        """Put a job in the engine's line."""
        code, message = failure or (None, None)
        job = Job(
            id=job_id,
            deployment=self.model,
            model=order.model,
            prompt=order.prompt,
            seconds=order.seconds,
            size=order.size,
            created_at=self.workshop.now(),
            starts_at=self.workshop.queue(self.terms.max_running),
            takes=self.workshop.takes(job_id, order),
            failure_code=code,
            failure_message=message,
            parameters=parameters,
        )
        self.workshop.jobs.add(job, order.reference)
        return job

    def job(self, request: web.Request) -> Job:
        job = self.workshop.jobs.find(request.match_info["video_id"])
        if job is None:
            raise Refused(self.error(404, "Video not found"))
        return job

    def page(self, after: str | None, limit: int | None, order: str) -> Answer:
        """A page of the list. Jobs of one second stand in the order in which they came, whichever
        way the list goes; none follows a job that is not there.
        """
        jobs = sorted(self.workshop.jobs.known(), key=lambda job: int(job.created_at), reverse=order == "desc")
        if after is not None:
            ids = [job.id for job in jobs]
            jobs = jobs[ids.index(after) + 1 :] if after in ids else []
        shown = jobs if limit is None else jobs[:limit]
        told = [self.told(job) for job in shown]
        first, last = (told[0]["id"], told[-1]["id"]) if told else (None, None)
        page = {"object": "list", "data": told, "first_id": first, "last_id": last, "has_more": len(jobs) > len(shown)}
        return json_answer(200, page)

    @abstractmethod
    def error(self, status: int, message: str) -> Answer:
        """A refusal, in the server's envelope."""

    def video(self, job: Job) -> Answer:
        return json_answer(200, self.told(job), job_id=job.id)

    def accepted(self, job: Job) -> Answer:
        """The answer to a create: written before the engine could begin."""
        return json_answer(200, {**self.told(job), "status": "queued", "progress": 0}, job_id=job.id)


def filled_in(form: Mapping[str, Any]) -> dict[str, Any]:
    """The parts that say something: to FastAPI, an empty text is one that was not sent."""
    return {name: value for name, value in form.items() if value != ""}


def even(size: str) -> str:
    """The size of the film: encoders want even numbers of pixels, as models want multiples of
    16.
    """
    width, height = (max(16, int(side) // 16 * 16) for side in size.split("x"))
    return f"{width}x{height}"


def picture(value: object) -> bytes | None:
    """An uploaded image, None where there is none. Raises ValueError where it cannot be read."""
    if value is None:
        return None
    if not isinstance(value, File) or not is_image(value.data):
        raise ValueError("not an image")
    return value.data
