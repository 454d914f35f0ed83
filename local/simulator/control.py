"""How tests steer a simulated server over HTTP, under /_sim/: scripted faults, a record of
requests, jobs, sizes.
"""

from collections import deque
from dataclasses import asdict, dataclass
from typing import Protocol

import msgspec
from aiohttp import web

from local.simulator.dialects.dialect import Dialect
from local.simulator.faults import Faults, parse_fault
from local.simulator.jobs import Job
from local.simulator.workshop import Workshop

LARGEST_CONTENT = 2**32 - 1  # bytes: what a 32-bit `free` box can fill


@dataclass
class Asked:
    """One request. `status` is None until it is answered, and stays so if the connection was cut
    first.

    Header names only, and no query: credentials are never kept. `time` is unix seconds; `job` the
    job it was about.
    """

    operation: str
    path: str
    time: float
    headers: list[str]
    content_type: str | None
    job: str | None
    status: int | None = None

    @classmethod
    def about(cls, request: web.Request, operation: str, time: float) -> "Asked":
        names = sorted({name.lower() for name in request.headers})
        content_type = request.content_type if "content-type" in names else None
        return cls(operation, request.path, time, names, content_type, request.match_info.get("video_id"))


class Steered(Protocol):
    """What can be steered: the server, seen from here."""

    faults: Faults
    dialect: Dialect
    workshop: Workshop
    requests: deque[Asked]

    def reset(self) -> None: ...

    def restart(self) -> None: ...


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    bytes: int | None


def control_routes(server: Steered) -> list[web.RouteDef]:
    """
    POST /_sim/faults    arm a fault (`local.simulator.faults`) → {"id": n}
    GET /_sim/faults     how often each armed fault is still to happen
    DELETE /_sim/faults  disarm them all
    GET /_sim/requests   what was asked, oldest first
    GET /_sim/jobs       {"accepted_creates": n, "data": [video + deployment + deleted + lost +
                         parameters, …]}
    POST /_sim/content   {"bytes": n or null}: pad films that are shorter with a `free` box
    POST /_sim/restart   forget what a process that ends forgets
    POST /_sim/reset     forget everything
    """
    steer = _Steering(server)
    return [
        web.post("/_sim/faults", steer.arm),
        web.get("/_sim/faults", steer.armed),
        web.delete("/_sim/faults", steer.disarm),
        web.get("/_sim/requests", steer.asked),
        web.get("/_sim/jobs", steer.jobs),
        web.post("/_sim/content", steer.content),
        web.post("/_sim/restart", steer.restart),
        web.post("/_sim/reset", steer.reset),
    ]


@dataclass(frozen=True)
class _Steering:
    """What each of the control routes does."""

    server: Steered

    async def arm(self, request: web.Request) -> web.Response:
        try:
            return web.json_response({"id": self.server.faults.add(parse_fault(await request.read()))})
        except msgspec.MsgspecError as error:
            raise web.HTTPBadRequest(text=str(error)) from error

    async def armed(self, _: web.Request) -> web.Response:
        return web.json_response(self.server.faults.left())

    async def disarm(self, _: web.Request) -> web.Response:
        self.server.faults.clear()
        return web.json_response({})

    async def asked(self, _: web.Request) -> web.Response:
        return web.json_response([asdict(request) for request in self.server.requests])

    async def jobs(self, _: web.Request) -> web.Response:
        accepted = self.server.workshop.jobs.accepted()
        return web.json_response({"accepted_creates": len(accepted), "data": [_seen(self.server, job) for job in accepted]})

    async def content(self, request: web.Request) -> web.Response:
        try:
            wanted = msgspec.json.decode(await request.read(), type=_Content).bytes
        except msgspec.MsgspecError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        if wanted is not None and not 0 < wanted <= LARGEST_CONTENT:
            raise web.HTTPBadRequest(text=f"`bytes` is from 1 to {LARGEST_CONTENT}")
        self.server.workshop.content_bytes = wanted
        return web.json_response({})

    async def restart(self, _: web.Request) -> web.Response:
        self.server.restart()
        return web.json_response({})

    async def reset(self, _: web.Request) -> web.Response:
        self.server.reset()
        return web.json_response({})


def _seen(server: Steered, job: Job) -> dict[str, object]:
    """A job as its server tells it, and what only a test may know."""
    hidden = {"deployment": job.deployment, "deleted": job.deleted_at is not None, "lost": job.lost}
    return {**server.dialect.told(job), "prompt": job.prompt, **hidden, "parameters": dict(job.parameters)}
