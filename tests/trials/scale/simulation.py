"""`python -m tests.trials.scale`: ten thousand videos through the real gateway, on a simulated
clock, in a few minutes.

Real are the recipe, submission, lifecycle, ledger, keys, pool and sweep, on several instances that
share their tables. Simulated are time, tables, archive, upstream and engine. Exits with 1 where a
limit was exceeded or a goal is missed.
"""

import argparse
import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import timedelta
from random import Random
from unittest.mock import patch

from msgspec.structs import replace
from rich.console import Console
from rich.progress import Progress

from shared import gateway as composition
from shared.accounts.account import Account
from shared.config.catalog import KNOWN_MODELS, Catalog, Deployment, Model
from shared.config.file import GatewayKnobs
from shared.config.settings import Settings, Storage
from shared.dialects.known import AZURE
from shared.gateway import Gateway
from shared.media.requests import CreateRequest
from shared.media.video import Video
from shared.storage.tables import partition_of
from shared.upkeep.sweep import EVERY, Sweep
from shared.videos.watch import EVERY as WATCH
from tests.fakes.loop import START, JumpingLoop, LoopClock
from tests.trials.scale.engine import Engine
from tests.trials.scale.load import Plan, Request, ideal_waits, kind_of, requests
from tests.trials.scale.report import Findings, Life, lines, operations_table, table, waits_table
from tests.trials.scale.tables import PART, CountedTables, Operations
from tests.trials.scale.upstream import SimulatedArchive, SimulatedDeployment, SimulatedUpstreams

_SIZE = "720x1280"
_QUEUE_SECONDS = 30 * 86_400.0


@dataclass
class Simulation:
    """One run of a plan. `show` is told now and then how many videos have ended."""

    plan: Plan
    show: Callable[[int], object]

    def __post_init__(self) -> None:
        plan = self.plan
        self.random = Random(plan.seed)
        self.clock = LoopClock()
        self.operations = Operations()
        self.tables = CountedTables(self.operations, Random(plan.seed + 1))
        self.asked = requests(plan)
        renders = {each.prompt: each.render for each in self.asked}
        deployments = tuple(
            Deployment(
                name=f"place-{number}",
                dialect=AZURE,
                model="sora-2",
                base_url=f"https://place-{number}.invalid",
                max_running=plan.max_running,
                creates_per_minute=plan.creates_per_minute,
            )
            for number in range(plan.deployments)
        )
        self.model = Model("sora-2", KNOWN_MODELS["sora-2"], deployments)
        self.places = {
            each.name: SimulatedDeployment(each, renders, Random(f"{plan.seed} {each.name}"), plan.progress)
            for each in deployments
        }
        archive = SimulatedArchive(self.clock, Random(plan.seed + 2))
        self.gateways = [self._gateway(archive, number) for number in range(plan.instances)]
        self.engine = Engine([each.steps for each in self.gateways], self.clock, Random(plan.seed + 3))
        for gateway in self.gateways:
            gateway.pool.wake_ups.go_through(self.engine)
        self.owners: list[str] = []
        self.asking: set[asyncio.Task[None]] = set()
        self.videos: dict[str, str] = {}  # prompt → video id

    def _gateway(self, archive: SimulatedArchive, number: int) -> Gateway:
        knobs = GatewayKnobs(queue_seconds=_QUEUE_SECONDS)
        settings = Settings(Storage(), "master", knobs, Catalog((self.model,)))
        built = composition.build(settings, self.clock, Random(1000 + number), tables=self.tables)

        upstreams = SimulatedUpstreams(settings.catalog, built.connections, self.clock, built.telemetry, False, self.places)
        return replace(
            built,
            archive=archive,
            submission=replace(built.submission, archive=archive, upstreams=upstreams),
            upstreams=upstreams,
            rendering=replace(built.rendering, archive=archive, upstreams=upstreams),
            lifecycle=replace(built.lifecycle, archive=archive, upstreams=upstreams),
        )

    async def run(self) -> Findings:
        """Make every video, and sweep as the timer does; of what the watch does beside, offer free
        slots. Raises where a video was never admitted.
        """
        for number in range(self.plan.keys):
            priority = 3 if kind_of(number, self.plan) == "burst, priority 3" else 1
            issued = await self.gateways[0].keys.issue(Account(priority=priority))
            self.owners.append(issued.key_id)
        self.operations.counts.clear()
        sweeping = asyncio.create_task(self._sweep())
        for request in self.asked:
            await self.clock.sleep(request.at - asyncio.get_running_loop().time())
            self.asking.add(asyncio.create_task(self._ask(request)))
        await asyncio.gather(*self.asking)
        await self.engine.idle()
        sweeping.cancel()
        return await self._findings()

    async def _ask(self, request: Request) -> None:
        """What the HTTP function does."""
        gateway = self.random.choice(self.gateways)
        PART.set("create")
        create = CreateRequest(request.prompt, self.model, request.seconds, _SIZE, None, None, None)
        admitted = await gateway.lifecycle.start(create, self.owners[request.key])
        self.videos[request.prompt] = admitted.video.id
        await self.engine.start(admitted.video.id)

    async def _sweep(self) -> None:
        PART.set("sweep")
        while True:
            self.show(self.engine.ended)
            for _ in range(EVERY // WATCH):
                await self.clock.sleep(WATCH.total_seconds())
                await self.random.choice(self.gateways).pool.hand_out(self.model)
            await Sweep(self.random.choice(self.gateways), self.engine).run()

    async def _findings(self) -> Findings:
        jobs = {job.prompt: (job, place) for place in self.places.values() for job in place.jobs.values()}
        ideal = ideal_waits(self.plan, self.asked)
        counted = Operations(self.operations.counts.copy())
        lives = []
        for request in self.asked:
            video = await self._video(request)
            job, _ = jobs[request.prompt]
            finished = (video.finished_at or START - timedelta(days=1)) - START
            lives.append(
                Life(
                    kind=request.kind,
                    completed=video.status == "completed",
                    wait=job.accepted - request.at,
                    ideal_wait=ideal[request.prompt],
                    polls=job.polls,
                    hasty_polls=job.hasty_polls,
                    lag=finished.total_seconds() - job.ends,
                )
            )
        left = [key for key in self.tables.pools.keys(partition_of(self.model.name)) if not key.startswith(("state_", "usual"))]
        accounts = [await self.gateways[0].ledger.account(owner) for owner in self.owners]
        return Findings(
            plan=self.plan,
            lives=lives,
            places=list(self.places.values()),
            operations=counted,
            engine=self.engine,
            rows_left=len(left) + len(await self.gateways[0].pool.holders(self.model)),
            reserved=sum(account.reserved for account in accounts if account),
            seconds=max(job.ends for job, _ in jobs.values()),
            ideal_seconds=max(ideal[each.prompt] + each.at + each.render for each in self.asked),
        )

    async def _video(self, request: Request) -> Video:
        entry = await self.gateways[0].videos.find(self.videos[request.prompt])
        if entry is None:
            raise LookupError(f"{request.prompt} was answered and is gone")
        return entry.video


def simulate(plan: Plan, show: Callable[[int], object] = lambda _: None) -> Findings:
    """Run a plan to its end. The same plan comes to the same figures: ids come from its seed too,
    because rows are read in their order.
    """
    ids = Random(plan.seed + 4)
    seeded = patch.multiple(secrets, randbits=ids.getrandbits, randbelow=ids.randrange)
    with seeded, asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(Simulation(plan, show).run())


def main(arguments: list[str] | None = None) -> int:
    defaults = Plan()
    parser = argparse.ArgumentParser(prog="python -m tests.trials.scale", description=(__doc__ or "").partition("\n")[0])
    for each in fields(Plan):
        if each.name != "progress":
            parser.add_argument(f"--{each.name.replace('_', '-')}", type=int, default=getattr(defaults, each.name))
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="the upstream says 0 until it is done")
    plan = Plan(**vars(parser.parse_args(arguments)))
    logging.getLogger("gateway").setLevel(logging.ERROR)
    console = Console(highlight=False)
    console.print(f"{plan.videos} videos, {plan.keys} keys, {plan.deployments} deployments, {plan.instances} instances")
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("simulating", total=plan.videos)
        found = simulate(plan, lambda ended: progress.update(task, completed=ended))
    shown = lines(found)
    for each_table in (table(shown), waits_table(found), operations_table(found)):
        console.print(each_table)
    return int(any(line.missed for line in shown))
