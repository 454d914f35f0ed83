"""`python -m tests.trials.scale.farm`: hundreds of deployments, fifty starts a second. The pool
alone, on a simulated clock.

Real are the pool and its rows, on instances that share their table; a read takes ten milliseconds,
and a commit twenty. Simulated are time, engine and upstream. One greedy key takes whatever the
others leave: it asks for its next job when one has ended, and always has some waiting.
"""

import argparse
import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import msgspec
from rich.console import Console

from shared.capacity.pool import Pool, Slot
from shared.capacity.render_times import RenderTimes
from shared.config.catalog import KNOWN_MODELS, Catalog, Deployment, Model
from shared.dialects.known import OPENAI
from shared.media.video import Video, new_id
from tests.fakes.loop import JumpingLoop, LoopClock
from tests.trials.bench.report import percentile
from tests.trials.scale.report import Line, table
from tests.trials.scale.tables import CountedTable, Operations

_GREEDY = 0
_TABLE, _HOP, _CREATE, _LOOK = (0.01, 0.01), (0.05, 0.3), (0.02, 0.1), (0.0, 0.4)  # seconds
_JOB = (0.7, 1.3)  # times the usual length: equal jobs would all end together
_IDLE, _WAIT, _WOKEN, _OPERATIONS = 10.0, 5.0, 1.1, 18.0


@dataclass(frozen=True)
class FarmPlan:
    """Jobs of about `job` seconds, for so many `seconds`: the greedy key has `unfinished` of them
    at any time, and the other keys together ask for `rate` a second.
    """

    seconds: float = 3600.0
    deployments: int = 500
    keys: int = 200
    instances: int = 16
    rate: float = 35.0
    unfinished: int = 250
    job: float = 10.0
    seed: int = 1


@dataclass
class Farm:
    """One run. What happens before `ready`, when every slot has been used, is not measured."""

    plan: FarmPlan
    running: Counter[str] = field(default_factory=Counter)
    most_running: int = 0
    starts: int = 0
    measured: int = 0  # of these, those after `ready`
    busy: float = 0.0  # seconds of all slots together
    waits: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    woken: int = 0
    _turns: dict[str, asyncio.Event] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plan = self.plan
        self.random, self.clock, self.ready = Random(plan.seed), LoopClock(), 3 * plan.job
        self.operations = Operations()
        self.table = CountedTable(self.operations, self.random, _TABLE)
        names = [f"replica-{number}" for number in range(plan.deployments)]
        deployments = (Deployment(each, OPENAI, "m", base_url="", max_running=1, creates_per_minute=1000) for each in names)
        self.model = Model("farm", KNOWN_MODELS["sora-2"], tuple(deployments))
        self.pools = [self._pool(number) for number in range(plan.instances)]

    def _pool(self, number: int) -> Pool:
        render_times = RenderTimes(self.table, self.clock, self.plan.job)
        pool = Pool(self.table, Catalog((self.model,)), self.clock, Random(number), render_times)
        pool.wake_ups.go_through(self)
        return pool

    async def wake(self, video_id: str) -> None:
        """Deliver an event, a moment later."""
        self.woken += 1
        asyncio.get_running_loop().call_later(self.random.uniform(*_HOP), self._turns[video_id].set)

    async def run(self) -> None:
        """Ask for jobs until the time is over. What waits or runs then is given up."""
        asked = {asyncio.create_task(self._ask_on()) for _ in range(self.plan.unfinished)}
        while self._now() < self.plan.seconds:
            task = asyncio.create_task(self._live(self._video(self.random.randrange(1, self.plan.keys))))
            asked.add(task)
            task.add_done_callback(asked.discard)
            await self.clock.sleep(self.random.expovariate(self.plan.rate))
        for task in asked:
            task.cancel()
        for result in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError | None), result

    async def _ask_on(self) -> None:
        """One place of the greedy key: a job, and the next one after it."""
        while True:
            await self._live(self._video(_GREEDY))

    async def _live(self, video: Video) -> None:
        """What the steps of a video ask of the pool."""
        entered = self._now()
        await self._any.enter(self.model, video.id)
        deployment = await self._slot(video)
        if entered > self.ready:
            self.waits[int(video.owner[4:], 16)].append(self._now() - entered)
        await self._pause(_CREATE)
        job = self.plan.job * self.random.uniform(*_JOB)
        self._begin(deployment, job)
        await self._any.answered(self.model.name, deployment, video.id)
        await self.clock.sleep(job)
        self.running[deployment] -= 1
        await self._pause(_LOOK)
        await self._any.ended(msgspec.structs.replace(video, deployment=deployment))
        await self._any.leave(self.model.name, video.id, ended=True)

    async def _slot(self, video: Video) -> str:
        """Ask, and again when woken or when the wait is over."""
        turn = self._turns[video.id] = asyncio.Event()
        while True:
            await self._pause(_HOP)
            answer = await self._any.acquire(self.model, video)
            if isinstance(answer, Slot):
                del self._turns[video.id]
                return answer.deployment.name
            waking = asyncio.create_task(turn.wait())
            await asyncio.wait([waking], timeout=getattr(answer, "seconds", 1.0))
            waking.cancel()
            turn.clear()

    def _begin(self, deployment: str, job: float) -> None:
        """The job runs from now on, at an upstream that counts at any instant."""
        self.running[deployment] += 1
        self.most_running = max(self.most_running, self.running[deployment])
        begins, ends = self._now(), min(self._now() + job, self.plan.seconds)
        self.starts += 1
        self.measured += begins > self.ready
        self.busy += max(ends - max(begins, self.ready), 0.0)

    def lines(self) -> Sequence[Line]:
        """The figures that matter, with their goals."""
        plan, seconds, starts = self.plan, self.plan.seconds - self.ready, max(self.starts, 1)
        others = [wait for key, waits in self.waits.items() if key != _GREEDY for wait in waits]
        return [
            Line("starts", self.measured / seconds, "a second"),
            Line("slots idle", 100 * (1 - self.busy / (seconds * plan.deployments)), "%", goal=_IDLE),
            Line("most running on one deployment", self.most_running, goal=1),
            Line("waits of the greedy key, mean", sum(self.waits[_GREEDY]) / max(len(self.waits[_GREEDY]), 1), "s"),
            Line("waits of the other keys, p99", percentile(others, 0.99), "s", goal=_WAIT),
            Line("wake-ups", self.woken / starts, "a start", goal=_WOKEN),
            Line("table operations of the pool", self.operations.of() / starts, "a start", goal=_OPERATIONS),
            Line("races lost", self.operations.of(kind="lost race") / starts, "a start"),
        ]

    def _video(self, key: int) -> Video:
        now = self.clock.now()
        video_id = new_id(f"key_{key:08x}", now)
        prompt = f"Video {video_id}"
        return Video(id=video_id, model="farm", created_at=now, prompt=prompt, seconds=4, size="720x1280", cost=1)

    async def _pause(self, seconds: tuple[float, float]) -> None:
        await self.clock.sleep(self.random.uniform(*seconds))

    @property
    def _any(self) -> Pool:
        return self.random.choice(self.pools)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def farm(plan: FarmPlan) -> Farm:
    """Run a farm to its end."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        built = Farm(plan)
        runner.run(built.run())
        return built


def main() -> None:
    """Print the figures of one run: an hour takes about an hour of processor."""
    parser = argparse.ArgumentParser(prog="python -m tests.trials.scale.farm", description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=FarmPlan.seconds, help="of simulated time")
    Console(highlight=False).print(table(farm(FarmPlan(seconds=parser.parse_args().seconds)).lines()))


if __name__ == "__main__":
    main()
