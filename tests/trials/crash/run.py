"""One run: a client's story, an app that dies where it is told to and is started again, until all
is quiet.
"""

import asyncio
import secrets
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from datetime import UTC, datetime
from random import Random
from typing import Any

import httpx
import msgspec

from local.durable.protocol import FINAL
from local.sora.admission import SoraDeployment
from local.sora.faults import parse_fault
from local.sora.jobs import Job
from local.sora.process import listening
from local.sora.server import Sora
from shared import gateway as composition
from shared.accounts.keys import KEYS
from shared.accounts.ledger import ACCOUNT
from shared.config import settings
from shared.gateway import Gateway
from shared.media.video import GATEWAY_OWNER
from shared.storage.tables import Delete
from tests.trials.crash.app import SWEPT, Order
from tests.trials.crash.check import check, check_books
from tests.trials.crash.client import PATIENCE, Client, GaveUp, Whereabouts, until
from tests.trials.crash.clock import FastClock
from tests.trials.crash.lab import Lab
from tests.trials.crash.points import Death, Passed
from tests.trials.crash.story import AT_THE_UPSTREAM, UPSTREAM_KEY, Result, Story, app_settings
from tests.trials.left_over import left_over

_QUIET = 30.0  # seconds until nothing may be left to do any more
_UNAIDED = 1.2  # seconds before the sweep looks for the first time, and then between its looks
_LOOK_AGAIN = 0.05
_CONTENT = 1_200_000  # bytes of a video: two blocks
_SPEED = 7.5  # a film of 4 seconds takes 8 of the matrix's


class Run:
    """A story in a lab. Seed 0 is the plain run: one death, and a client who tries again."""

    def __init__(self, lab: Lab, story: Story, death: Death | None, seed: int) -> None:
        self.lab, self.story = lab, story
        self.folder = lab.next_folder()
        self._random = Random(f"{story.name} {death} {seed}")
        self._deaths = [death] if death else []
        if seed and death and self._random.random() < 0.5:  # and once more, while it recovers
            self._deaths.append(Death(None, self._random.randint(1, 12)))
        self._patient = story.dies_at is None and (seed == 0 or self._random.random() < 0.5)
        self._pause = self._random.uniform(0, 0.3) if seed else 0.0
        self._tag = secrets.token_hex(5)
        self.models = [f"{name}-{self._tag}" for name, _ in zip(("model", "spare"), story.prices, strict=False)]
        self.clock = FastClock(time.time())
        self._where = Whereabouts()
        self._over = False
        self.result = Result()

    async def run(self) -> Result:
        """The whole of it."""
        async with AsyncExitStack() as running:
            first, second = AT_THE_UPSTREAM
            self.sora = Sora(
                self.lab.folder / "sora",
                self.clock,
                _SPEED,
                creates_per_minute=self.story.pace,
                max_running=self.story.max_running,
                api_key=UPSTREAM_KEY,
                deployments={first: SoraDeployment(first, self.story.retired), second: SoraDeployment(second)},
                one_film=True,
            )
            self.sora.jobs.clear()
            self.sora.content_bytes = _CONTENT
            self.upstream = await running.enter_async_context(listening(self.sora))
            self.settings = app_settings(self.story, self.lab.storage, self.upstream, self.folder, self.models)
            self.gateway = await self._gateway(running)
            keys = self.gateway.tables.gateway
            others = {row.key async for row in keys.scan(KEYS)}
            spent = await keys.get(GATEWAY_OWNER, ACCOUNT)
            if spent is not None:
                await keys.commit(GATEWAY_OWNER, Delete(spent))  # by the runs before
            issued = await self.gateway.keys.issue(self.story.account)
            self.owner = issued.key_id
            # Loopback without TLS: the certificates would only be read, which takes longer than
            # some of the stories.
            http = await running.enter_async_context(httpx.AsyncClient(timeout=30, trust_env=False, verify=False))
            self.client = Client(http, issued.secret, self.models[0], self._tag, self._where, self._patient, self.result)
            await self._live()
            await check(self)
            # The sweeps of the runs to come need not look at what this one leaves.
            async for row in keys.scan(KEYS):
                if row.key not in others:
                    await keys.commit(KEYS, Delete(row))
            for day in {datetime.fromtimestamp(job.created_at, UTC).date() for job in self.jobs()}:
                await self.gateway.claims.drop(day)
        return self.result

    def unconfigure(self) -> None:
        """The first model is configured no longer."""
        app_settings(self.story, self.lab.storage, self.upstream, self.folder, self.models[1:])

    def lose_orchestrations(self) -> None:
        """The engine's own storage is lost, or was emptied by hand."""
        for file in self.folder.glob("durable.sqlite*"):
            file.unlink()

    def fault(self, **fault: Any) -> None:
        """Arm a fault at the upstream."""
        self.sora.faults.add(parse_fault(msgspec.json.encode(fault)))

    async def accepted(self) -> None:
        """Until the upstream has accepted a create."""

        async def there() -> bool:
            return bool(self.jobs())

        await until(there)

    async def asked(self, operation: str, times: int = 1) -> None:
        """Until the upstream was asked for this so many times."""

        async def there() -> bool:
            return sum(each.operation == operation for each in self.sora.requests) >= times

        await until(there)

    async def stands_back(self, video_id: str) -> None:
        """Until a video waits after an attempt that failed."""

        async def there() -> bool:
            entry = await self.gateway.ledger.find(video_id)
            return entry is not None and entry.video.attempts > 0 and entry.video.attempted_at is None

        await until(there)

    async def swept(self) -> None:
        """Until a sweep has come to its end, however often the app dies at it."""
        ended = self.folder / SWEPT
        sweeps = ended.stat().st_size if ended.exists() else 0
        sweeping = None

        async def there() -> bool:
            nonlocal sweeping
            app = await self._where.here()
            if app is not sweeping:
                app.sweep()
                sweeping = app
            return ended.exists() and ended.stat().st_size > sweeps

        await until(there)

    def jobs(self) -> list[Job]:
        """What the upstream has accepted, deleted ones too."""
        return self.sora.jobs.accepted()

    async def left_over(self) -> AsyncIterator[str]:
        """What is there only while something is going on."""
        file = self.folder / "durable.sqlite"
        if file.exists():  # the cheapest to look at, and the last to come to its end
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as engine:
                instances = engine.execute("SELECT id, status FROM instances").fetchall()
            for instance, status in instances:
                if status not in FINAL:
                    yield f"orchestration {instance}, {status}"
        async for each in left_over(self.gateway, self.models, [self.owner]):
            yield each

    async def _gateway(self, running: AsyncExitStack) -> Gateway:
        """One that looks at the app's storage, and does what stories do to it."""
        gateway = composition.build(settings.load(self.settings), self.clock)
        running.push_async_callback(gateway.close)
        return gateway

    async def _live(self) -> None:
        given, story = None, self.story
        if story.before is not None:
            death = Death(story.dies_at) if story.dies_at else None
            async with self._served([death] if death else [None]):
                given = await self._tell(story.before(self))
                if death is not None:
                    await self._died()
        if story.between is not None:
            given = await story.between(self, given)
        forgotten = self._passages()
        async with self._served([*self._deaths, None]):
            await self._tell(story.act(self, given))
            await self._quiet()
        self.result.passed = self._passages()[len(forgotten) :]

    @asynccontextmanager
    async def _served(self, deaths: Sequence[Death | None]) -> AsyncIterator[None]:
        """With an app that is started again whenever it dies, as often as there are deaths; killed
        at the end.
        """
        self._over, self.result.died = False, 0
        supervisor = asyncio.create_task(self._supervise(deaths))
        try:
            yield
        except TimeoutError:
            self.result.wrong.append(f"not at its end after {PATIENCE:g} s")
        finally:
            self._over = True
            if self._where.app is not None:
                self._where.app.kill()
            await supervisor  # it may be starting one more, which must not be left behind

    async def _supervise(self, deaths: Sequence[Death | None]) -> None:
        where = self._where
        for death in deaths:
            order = Order(str(self.folder), self.settings, death, self.clock.began, self.story.later.total_seconds())
            where.app = app = await self.lab.launcher.start(order)
            if self._over:
                app.kill()
            elif app.url is not None:
                where.up.set()
            ended = await app.ended
            where.up.clear()
            if self._over:
                return
            self.result.died += 1
            await check_books(self)
            self.result.expect(ended == -signal.SIGKILL, f"the app ended with {ended}")
            await asyncio.sleep(self._pause)

    async def _tell(self, story: Awaitable[Any]) -> Any:
        try:
            return await story
        except GaveUp:
            return None

    async def _died(self) -> None:
        async def there() -> bool:
            return self.result.died > 0

        await until(there)

    async def _quiet(self) -> None:
        """Until nothing is left to do, with the sweep's help."""
        loop = asyncio.get_running_loop()
        deadline, next_sweep = loop.time() + _QUIET, loop.time() + _UNAIDED
        while await self._busy():
            if loop.time() > deadline:
                return
            if loop.time() > next_sweep and self._where.app is not None and self._where.up.is_set():
                self._where.app.sweep()
                next_sweep = loop.time() + _UNAIDED
            await asyncio.sleep(_LOOK_AGAIN)

    async def _busy(self) -> bool:
        async for _ in self.left_over():
            return True
        return False

    def _passages(self) -> list[Passed]:
        file = self.folder / "passages"
        return [msgspec.json.decode(line, type=Passed) for line in file.read_bytes().splitlines()] if file.exists() else []
