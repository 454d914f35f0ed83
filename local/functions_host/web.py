"""The HTTP trigger: requests from the wire become `func.HttpRequest`, and `func.HttpResponse` goes
back.
"""

import asyncio
import logging
from collections.abc import Iterable

import azure.functions as func
from aiohttp import web
from multidict import CIMultiDict

from local.functions_host.functions import Functions
from local.functions_host.invocation import Invoker
from local.functions_host.routing import Match, Router

log = logging.getLogger(__name__)

BODY_LIMIT = 100 * 1024 * 1024  # bytes; the host's default for FUNCTIONS_REQUEST_BODY_SIZE_LIMIT


class Front:
    """Routes requests to functions, at most `concurrency` of them at a time; the rest wait."""

    def __init__(self, functions: Functions, invoker: Invoker, concurrency: int) -> None:
        self._router = Router(functions)
        self._invoker = invoker
        self._slots = asyncio.Semaphore(concurrency)
        self._home_page = functions.settings.get("AzureWebJobsDisableHomepage", "").lower() != "true"

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request: 404 without a route, 413 above the limit, 500 if the function fails;
        all with empty bodies.
        """
        match = self._router.find(request.method, request.rel_url.raw_path)
        if match is None:
            return self._home() if request.path == "/" else web.Response(status=404)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return web.Response(status=413)
        async with self._slots:
            try:
                result = await self._invoker.call(match.function, _request(request, match, body), match.parameters)
                return _response(result)
            except Exception:
                log.exception("function %s failed", match.function.name)
                return web.Response(status=500)

    def _home(self) -> web.Response:
        """The host's answer at `/` where no function has that route."""
        if not self._home_page:
            return web.Response(status=204)
        return web.Response(text="<h1>Your Functions app is up and running</h1>", content_type="text/html")


def _request(request: web.Request, match: Match, body: bytes) -> func.HttpRequest:
    return func.HttpRequest(
        method=request.method,
        url=f"{request.scheme}://{request.host}{request.raw_path}",
        headers=_joined((name.lower(), value) for name, value in request.headers.items()),
        # The host leaves out parameters without a value.
        params={name: value for name, value in _joined(request.query.items()).items() if value},
        route_params=dict(match.parameters),
        body=body,
    )


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """One value per name, as .NET prints several: joined by commas."""
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _response(result: object) -> web.Response:
    if isinstance(result, str):
        result = func.HttpResponse(result)
    if not isinstance(result, func.HttpResponse):
        raise TypeError(f"an HTTP function must return HttpResponse or str, not {type(result).__name__}")
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in result.headers.items():
        if name.lower() == "set-cookie":
            headers.add(name, value)
        else:
            headers[name] = value
    if "Content-Type" not in headers:
        text = result.mimetype.startswith("text/")
        headers["Content-Type"] = f"{result.mimetype}; charset={result.charset}" if text else result.mimetype
    return web.Response(status=result.status_code, headers=headers, body=result.get_body())
