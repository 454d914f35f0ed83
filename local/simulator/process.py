"""A simulated server as a process of its own: `python -m local.simulator`."""

import argparse
import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from local.simulator.dialects import DIALECTS
from local.simulator.dialects.dialect import ServedModel
from local.simulator.server import SimulatedServer
from shared.clock import SystemClock

_GRACE_SECONDS = 1.0  # for answers under way at the end; one that a fault delays would take for ever


@asynccontextmanager
async def listening(server: SimulatedServer, port: int = 0) -> AsyncIterator[str]:
    """Serve on 127.0.0.1 (`port` 0: a free one); the URL."""
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=_GRACE_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def serve(server: SimulatedServer, port: int) -> None:
    """Say the URL in one line of JSON once requests are answered; end on SIGTERM or SIGINT."""
    told_to_end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_end.set)
    async with listening(server, port) as url:
        print(json.dumps({"url": url}), flush=True)
        await told_to_end.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.simulator", description="A simulated server of the videos API.")
    parser.add_argument("--dialect", choices=DIALECTS, default="azure", help="which server (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--data", type=Path, required=True, help="where jobs and films stay")
    parser.add_argument("--speed", type=float, default=1.0, help="how many times faster than life")
    parser.add_argument("--unlimited", action="store_true", help="lift both quotas; an engine does everything at once")
    parser.add_argument("--cloud", action="store_true", help="keep films in a bucket (sglang)")
    parser.add_argument("--model", action="append", default=[], help="a name that creates may have; may be given often")
    parser.add_argument("--one-film", action="store_true", help="draw only one film of each size and length")
    parser.add_argument("--api-key", help="the only key that is accepted; any, if not given")
    options = parser.parse_args()
    if options.speed <= 0:
        parser.error("--speed must be above 0")
    dialect = DIALECTS[options.dialect]
    quota = None if options.unlimited else 2
    server = SimulatedServer(
        options.data,
        SystemClock(),
        options.speed,
        options.dialect,
        creates_per_minute=quota,
        max_running=None if options.unlimited else dialect.at_a_time,
        api_key=options.api_key,
        models={name: ServedModel(name) for name in options.model},
        one_film=options.one_film,
        cloud=options.cloud,
    )
    asyncio.run(serve(server, options.port))
