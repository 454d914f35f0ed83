"""What a dialect says of a server: where its routes lie, what it takes, and what it tells."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from aiohttp import web

from local.simulator.answers import Answer, fastapi_error
from local.simulator.jobs import Job
from local.simulator.workshop import Workshop

Act = Callable[[web.Request], Awaitable[Answer]]


@dataclass(frozen=True)
class Route:
    """A request that the server knows. Faults are scripted by `operation`; a `{video_id}` in the
    path is the job that it is about.
    """

    method: str
    path: str
    operation: str
    act: Act


@dataclass(frozen=True)
class ServedModel:
    """What a name in a create stands for. A retired one answers 410."""

    model: str
    retired: bool = False


@dataclass(frozen=True)
class Terms:
    """How the server was set up; None or nothing is what its dialect has by itself.

    creates_per_minute, max_running: quotas, or for an engine of one's own how many jobs it renders
    at a time; None lifts them. api_key: the one that is accepted; without it, any. models: what the
    names in creates stand for. cloud: films are kept in a bucket, and not by the server.
    """

    creates_per_minute: int | None = 2
    max_running: int | None = 2
    api_key: str | None = None
    models: Mapping[str, ServedModel] = field(default_factory=dict)
    cloud: bool = False


class Dialect(ABC):
    """One kind of server."""

    base: ClassVar[str] = "/v1"  # where its videos lie
    at_a_time: ClassVar[int] = 2  # jobs that it renders, unless it is told otherwise
    forgets: ClassVar[bool] = False  # its jobs are in its memory, which ends with the process

    def __init__(self, workshop: Workshop, terms: Terms) -> None:
        self.workshop = workshop
        self.terms = terms

    @abstractmethod
    def routes(self) -> Iterator[Route]:
        """Everything that it answers."""

    @abstractmethod
    def told(self, job: Job) -> dict[str, object]:
        """The job as it tells it."""

    def turned_away(self, request: web.Request) -> Answer | None:
        """What is refused before the server looks at what is asked."""
        del request
        return None

    def stranger(self, request: web.Request, status: int) -> Answer:
        """What is said where no route leads (404, 405), or of a body that is too large (413)."""
        del request
        return fastapi_error(status, {404: "Not Found", 405: "Method Not Allowed"}.get(status, "Request Entity Too Large"))

    def headers(self) -> Mapping[str, str]:
        """What is added to every answer."""
        return {}


def bearer(request: web.Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")
