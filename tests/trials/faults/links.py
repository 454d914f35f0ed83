"""What lies around the gateway of the fault matrix: time, the wire to the upstream, tokens, and
everything that is logged.
"""

import asyncio
import logging
import socket
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

import httpx

from local.simulator.faults import Cut
from shared.upstream.identity import Connections
from tests.fakes.clock import SkippingClock

UPSTREAM_KEY = "the-key-of-the-upstream"
TENANT = "the-tenant-of-the-operator"
_READ_SECONDS = 0.05  # of real time: how long the gateway waits for an answer that is not going to come
_HURRY = 0.02  # real seconds for each second that the upstream pauses
_TOO_LONG = 5.0  # seconds: after such a pause of the upstream nobody waits any more


@dataclass
class UpstreamClock:
    """The same time for the upstream, whose pauses are real and short: the gateway has to wait them
    out.

    At the end of a long one the upstream gives up, as a front door does, and what it had not done
    by then is not done any more.
    """

    clock: SkippingClock

    def now(self) -> datetime:
        return self.clock.now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds * _HURRY)
        if seconds >= _TOO_LONG:
            raise Cut


class Wire(httpx.AsyncBaseTransport):
    """The way to the upstream, where every call is counted and the ids of the answers are kept, by
    operation.

    Some faults are the wire's: calls of an operation that are `refused` go to a port where nobody
    listens, and those that the upstream lets wait are not waited for long. They concern the
    resource at `upstream`, and no other.
    """

    def __init__(self, upstream: str) -> None:
        self._inner = httpx.AsyncHTTPTransport()
        self._port = urlsplit(upstream).port
        self._kind, self._operation, self._left = "", "", 0
        self.asked: Counter[str] = Counter()
        self.request_ids: defaultdict[str, set[str]] = defaultdict(set)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._nobody = free.getsockname()[1]

    def reset(self) -> None:
        self._left = 0
        self.asked.clear()
        self.request_ids.clear()

    def spoil(self, kind: str, operation: str, times: int | None) -> None:
        """The next calls of an operation are refused (`refuse`) or wait in vain (`delay`); all of
        them for None.
        """
        self._kind, self._operation = kind, operation
        self._left = -1 if times is None else times

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        operation = _operation(request)
        self.asked[operation] += 1
        if self._left and operation == self._operation and request.url.port == self._port:
            self._left -= 1
            if self._kind == "refuse":
                # Another request: errors name the one that was made.
                elsewhere = request.url.copy_with(port=self._nobody)
                request = httpx.Request(
                    request.method, elsewhere, headers=request.headers, stream=request.stream, extensions=request.extensions
                )
            else:
                request.extensions["timeout"] = {**request.extensions["timeout"], "read": _READ_SECONDS}
        response = await self._inner.handle_async_request(request)
        if "apim-request-id" in response.headers:
            self.request_ids[operation].add(response.headers["apim-request-id"])
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def _operation(request: httpx.Request) -> str:
    last = request.url.path.rsplit("/", 1)[-1]
    if last == "videos":
        return {"GET": "list", "POST": "create"}[request.method]
    if last in ("content", "remix"):
        return last
    if last.endswith(":download"):
        return "content"
    return {"GET": "get", "DELETE": "delete"}[request.method]


@dataclass
class Tokens:
    """Where bearer tokens come from. `missing` is how often there is none (-1: never one),
    `renewed` how often one was new.
    """

    missing: int = 0
    renewed: int = 0

    async def token(self, scope: str, *, renew: bool = False) -> str:
        from azure.core.exceptions import ClientAuthenticationError

        assert scope.startswith("https://")
        if self.missing:
            self.missing -= 1
            raise ClientAuthenticationError(f"No identity of {TENANT} was found.")
        self.renewed += renew
        return UPSTREAM_KEY


class Links(Connections):
    """A gateway's connections, over the wire and with these tokens."""

    def __init__(self, wire: Wire, tokens: Tokens) -> None:
        super().__init__(None)
        self._tokens = tokens
        self._http = httpx.AsyncClient(transport=wire, trust_env=False)

    async def token(self, scope: str, *, renew: bool = False) -> str:
        return await self._tokens.token(scope, renew=renew)


class Lines(logging.Handler):
    """Everything that is logged, as text."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)  # what a Functions worker keeps
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
