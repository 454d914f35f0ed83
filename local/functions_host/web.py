"""The HTTP trigger: requests from the wire go on to functions as the host forwards them, and what
the functions return goes back as it is.

The app's own web extension says what a function is given. What the host does before that, measured
on Microsoft's, is in `wire`.
"""

import asyncio
import logging

from aiohttp import web
from azurefunctions.extensions import base

from local.functions_host.functions import Functions
from local.functions_host.invocation import Invoker
from local.functions_host.routing import Match, Router
from local.functions_host.wire import closing, forwarded, overruled, refusal

log = logging.getLogger(__name__)


class Front:
    """Routes requests to functions, at most `concurrency` of them at a time; the rest wait."""

    def __init__(self, functions: Functions, invoker: Invoker, concurrency: int) -> None:
        self._router = Router(functions)
        self._invoker = invoker
        self._slots = asyncio.Semaphore(concurrency)
        self._home_page = functions.settings.get("AzureWebJobsDisableHomepage", "").lower() != "true"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request: 404 without a route, 500 if the function fails, and what `wire` says
        of requests that the host does not let through; all with empty bodies.
        """
        refused = refusal(request)
        if refused is not None:
            return web.Response(status=refused)
        match = self._router.find(request.method, request.rel_url.raw_path)
        if match is None:
            return self._home() if request.path == "/" else web.Response(status=404)
        given = forwarded(request)
        base.RequestTrackerMeta.get_synchronizer().sync_route_params(given, match.parameters)
        answer = await self._answered(match, given)
        status = overruled(request)
        return answer if status is None else closing(status)

    async def _answered(self, match: Match, given: web.Request) -> web.StreamResponse:
        async with self._slots:
            try:
                return _sendable(await self._invoker.call(match.function, given, match.parameters))
            except Exception:
                log.exception("function %s failed", match.function.name)
                return web.Response(status=500)

    def _home(self) -> web.Response:
        """The host's answer at `/` where no function has that route."""
        if not self._home_page:
            return web.Response(status=204)
        return web.Response(text="<h1>Your Functions app is up and running</h1>", content_type="text/html")


def _sendable(answer: object) -> web.StreamResponse:
    if not isinstance(answer, web.StreamResponse):
        raise TypeError(f"an HTTP function must return the server's response, not {type(answer).__name__}")
    return answer
