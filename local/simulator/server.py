"""A simulated server of the videos API, in one of the dialects: `local/simulator/dialects`.

`python -m local.simulator --dialect azure --data DIR --speed 10` serves it on loopback and prints
`{"url": …}` when it is ready. Some words in a prompt decide how its job goes: "unlucky" fails,
"disturbing" fails by moderation, "endless" never ends. Tests steer it under /_sim/.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from aiohttp import web

from local.simulator.answers import Answer, Refused, send
from local.simulator.bodies import LARGEST_BODY
from local.simulator.control import Asked, control_routes
from local.simulator.dialects import DIALECTS
from local.simulator.dialects.dialect import Route, ServedModel, Terms
from local.simulator.faults import Cut, Faults, Restart, spoil
from local.simulator.workshop import Workshop
from shared.clock import Clock

REMEMBERED_REQUESTS = 10_000


class SimulatedServer:
    """The server; its jobs and films stay in `data`.

    speed: how many times faster than life jobs render and quotas recover. dialect: a name of
    `DIALECTS`. The other options are those of `Terms` and `Workshop`. `faults`, `workshop` and
    `requests` are what tests script and look at.
    """

    def __init__(
        self,
        data: Path,
        clock: Clock,
        speed: float = 1.0,
        dialect: str = "azure",
        *,
        creates_per_minute: int | None = 2,
        max_running: int | None = 2,
        api_key: str | None = None,
        models: Mapping[str, ServedModel] | None = None,
        one_film: bool = False,
        cloud: bool = False,
    ) -> None:
        self.workshop = Workshop(data, clock, speed, one_film=one_film)
        terms = Terms(creates_per_minute, max_running, api_key, models or {}, cloud)
        self.dialect = DIALECTS[dialect](self.workshop, terms)
        self.jobs = self.workshop.jobs
        self.faults = Faults()
        self.requests: deque[Asked] = deque(maxlen=REMEMBERED_REQUESTS)
        if self.dialect.forgets:
            self.workshop.restart()  # whoever served this folder before has ended

    def application(self) -> web.Application:
        """The server over HTTP. It closes the job store when it is cleaned up."""
        app = web.Application(client_max_size=LARGEST_BODY, middlewares=[self._strangers])
        for route in self.dialect.routes():
            app.router.add_route(route.method, route.path, self._serving(route))
        app.add_routes(control_routes(self))
        app.on_response_prepare.append(self._identify)
        app.on_cleanup.append(self._close)
        return app

    def now(self) -> float:
        """Unix seconds."""
        return self.workshop.now()

    def reset(self) -> None:
        """Forget every job, film, fault and request."""
        self.workshop.reset()
        self.faults.clear()
        self.requests.clear()

    def restart(self) -> None:
        """End and begin again, as far as its memory goes."""
        if self.dialect.forgets:
            self.workshop.restart()

    async def _close(self, _: web.Application) -> None:
        self.jobs.close()

    async def _identify(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(self.dialect.headers())

    def _serving(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            return await self._serve(request, route)

        return serve

    async def _serve(self, request: web.Request, route: Route) -> web.StreamResponse:
        asked = Asked.about(request, route.operation, self.now())
        self.requests.append(asked)
        try:
            answer = self.dialect.turned_away(request) or await self._answer(request, route)
        except Cut as cut:
            asked.job = cut.job_id or asked.job
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # goes nowhere: the connection is gone
        asked.status = answer.status
        asked.job = answer.job_id or asked.job
        return await send(request, answer, self.workshop.clock)

    async def _answer(self, request: web.Request, route: Route) -> Answer:
        async def honestly() -> Answer:
            try:
                return await route.act(request)
            except Refused as refusal:
                return refusal.answer

        fault = self.faults.take(route.operation, request.match_info.get("video_id"))
        if isinstance(fault, Restart):
            self.restart()
        return await (honestly() if fault is None else spoil(fault, honestly, self.workshop.clock))

    @web.middleware
    async def _strangers(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """What is said where no route leads."""
        try:
            return await handler(request)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed, web.HTTPRequestEntityTooLarge) as error:
            answer = self.dialect.stranger(request, error.status)
        return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type)
