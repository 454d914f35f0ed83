"""The upstream's address, at which nobody answers for a while."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from local.simulator.server import SimulatedServer

_HOST = "127.0.0.1"
_GRACE_SECONDS = 1.0  # for answers under way at the end


@dataclass
class Front:
    """Connections that are open already stay so when it is shut."""

    runner: web.AppRunner
    port: int = 0  # a free one, and from then on the same
    _kept: socket.socket | None = None  # keeps the port while nobody listens: any connection may be given a free one

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self.port}"

    async def open(self) -> None:
        """Let connections in."""
        self.give_up()
        await web.TCPSite(self.runner, _HOST, self.port).start()
        self.port = int(self.runner.addresses[0][1])

    async def shut(self) -> None:
        """Refuse new connections."""
        for site in list(self.runner.sites):
            await site.stop()
        self._kept = socket.socket()
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.bind((_HOST, self.port))

    def give_up(self) -> None:
        """Keep the port no longer."""
        if self._kept is not None:
            self._kept.close()


@asynccontextmanager
async def front(sora: SimulatedServer) -> AsyncIterator[Front]:
    """One that is open. The upstream's store of jobs is closed at the end."""
    runner = web.AppRunner(sora.application(), access_log=None, shutdown_timeout=_GRACE_SECONDS)
    await runner.setup()
    place = Front(runner)
    try:
        await place.open()
        yield place
    finally:
        place.give_up()
        await runner.cleanup()
