"""Who is told of the videos of a crash story: a logging provider, and a webhook under `/hook`."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from aiohttp import web

from tests.fakes.receivers import datadog

_HOST = "127.0.0.1"


@dataclass
class Receiver:
    """`says` are the statuses of its next answers; then it takes everything. `seen` are the ids of
    the events that it took, `url` is its address. `hooked` are path and event of what the webhook
    was sent, and `hook_says` is what that answers. `topic` are the events that a topic took.
    """

    says: list[int]
    seen: list[str] = field(default_factory=list)
    url: str = ""
    hooked: list[tuple[str, str]] = field(default_factory=list)
    hook_says: int = 200
    topic: list[str] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.path.startswith("/hook"):
            self.hooked.append((request.path, request.headers["webhook-id"]))
            return web.Response(status=self.hook_says)
        if request.path == "/api/events":
            self.topic += [event["id"] for event in json.loads(body)]
            return web.Response(status=200)
        if self.says:
            return web.Response(status=self.says.pop(0))
        self.seen += datadog(httpx.Request("POST", str(request.url), headers=request.headers, content=body))
        return web.Response(status=202)


@asynccontextmanager
async def listening(says: Sequence[int]) -> AsyncIterator[Receiver]:
    receiver = Receiver(list(says))
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, _HOST, 0).start()
        receiver.url = f"http://{_HOST}:{runner.addresses[0][1]}"
        yield receiver
    finally:
        await runner.cleanup()
