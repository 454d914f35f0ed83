"""The side of the real engine that runs functions: it is asked for every trigger over HTTP."""

import asyncio
from collections.abc import Mapping

from aiohttp import web

from local.durable import Activity, Orchestrator

PREFIX = "/-"


class Worker:
    """Answers the engine's calls for these functions. `binding` is the text that `durableClient`
    arguments get, once the engine has told it.
    """

    def __init__(self, orchestrators: Mapping[str, Orchestrator], activities: Mapping[str, Activity]) -> None:
        self.orchestrators = orchestrators
        self.activities = activities
        self.binding = ""
        self.bound = asyncio.Event()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(f"{PREFIX}/client_binding", self._bind),
            web.post(f"{PREFIX}/orchestrator/{{name}}", self._play),
            web.post(f"{PREFIX}/activity/{{name}}", self._perform),
        ]

    async def _bind(self, request: web.Request) -> web.Response:
        self.binding = await request.text()
        self.bound.set()
        return web.json_response(None)

    async def _play(self, request: web.Request) -> web.Response:
        orchestrator = self.orchestrators[request.match_info["name"]]
        payload = await request.text()
        try:
            return web.json_response(text=await asyncio.to_thread(orchestrator, payload))
        except Exception as failure:  # told to the engine, as the host's worker tells it
            return _failed(failure)

    async def _perform(self, request: web.Request) -> web.Response:
        activity = self.activities[request.match_info["name"]]
        # The extension hands the action's input over as a text, and the engine sends that as JSON.
        given = await request.text()
        try:
            return web.json_response(text=await activity(request.headers["x-instance"], given))
        except Exception as failure:
            return _failed(failure)


def _failed(failure: Exception) -> web.Response:
    return web.Response(status=500, text=f"{type(failure).__name__}: {failure}")
