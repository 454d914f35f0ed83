"""One run: a client's story, an app that dies where it is told to and is started again, until all
is quiet.
"""

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from random import Random
from typing import Any

import msgspec

from local.durable.protocol import FINAL
from shared.videos.watch import WATCHES
from tests.trials.crash.app import Order
from tests.trials.crash.check import check, check_books
from tests.trials.crash.client import PATIENCE, GaveUp, until
from tests.trials.crash.lab import Lab
from tests.trials.crash.points import Death, Passed
from tests.trials.crash.result import Result
from tests.trials.crash.stage import Stage, stage
from tests.trials.crash.story import Story
from tests.trials.left_over import left_over

_QUIET = 30.0  # seconds until nothing may be left to do any more
_UNAIDED = 1.2  # seconds before the sweep looks for the first time, and then between its looks
_LOOK_AGAIN = 0.05


async def run(lab: Lab, story: Story, death: Death | None, seed: int) -> Result:
    """Tell the story. Seed 0 is the plain run: one death, and a client that tries again."""
    random = Random(f"{story.name} {death} {seed}")
    deaths = [death] if death else []
    if seed and death and random.random() < 0.5:  # and once more, while it recovers
        deaths.append(Death(None, random.randint(1, 12)))
    patient = story.dies_at is None and (seed == 0 or random.random() < 0.5)
    pause = random.uniform(0, 0.3) if seed else 0.0
    async with stage(lab, story, patient=patient) as set_up:
        await _Run(lab, story, set_up, deaths, pause).live()
        left = [each async for each in _left_over(set_up)]
        await check(set_up, left)
        if story.check is not None:
            set_up.result.wrong += await story.check(set_up)
    return set_up.result


class _Run:
    """The app's lives on a stage: `deaths` are those of the last part, `pause` the seconds from a
    death to the next start.
    """

    def __init__(self, lab: Lab, story: Story, set_up: Stage, deaths: Sequence[Death], pause: float) -> None:
        self._lab, self._story, self._stage = lab, story, set_up
        self._deaths, self._pause = deaths, pause
        self._over = False
        self._result = set_up.result
        self._where = set_up.where

    async def live(self) -> None:
        """Every part of the story, to the end of all work."""
        given, story = None, self._story
        if story.before is not None:
            death = Death(story.dies_at) if story.dies_at else None
            async with self._served([death] if death else [None]):
                given = await _tell(story.before(self._stage))
                if death is not None:
                    await self._died()
        if story.between is not None:
            given = await story.between(self._stage, given)
        earlier = self._passages()
        async with self._served([*self._deaths, None]):
            await _tell(story.act(self._stage, given))
            await self._quiet()
        self._result.passed = self._passages()[len(earlier) :]

    @asynccontextmanager
    async def _served(self, deaths: Sequence[Death | None]) -> AsyncIterator[None]:
        """With an app that is started again whenever it dies, as often as there are deaths; killed
        at the end.
        """
        self._over, self._result.died = False, 0
        supervisor = asyncio.create_task(self._supervise(deaths))
        try:
            yield
        except TimeoutError:
            self._result.wrong.append(f"not at its end after {PATIENCE:g} s")
        finally:
            self._over = True
            if self._where.app is not None:
                self._where.app.kill()
            await supervisor  # it may be starting one more, which must not be left behind

    async def _supervise(self, deaths: Sequence[Death | None]) -> None:
        where, clock, later = self._where, self._stage.clock, self._story.later.total_seconds()
        for death in deaths:
            order = Order(str(self._stage.folder), self._stage.settings, death, clock.began, later, self._story.wakes)
            where.app = app = await self._lab.launcher.start(order)
            if self._over:
                app.kill()
            elif app.url is not None:
                where.up.set()
            ended = await app.ended
            where.up.clear()
            if self._over:
                return
            self._result.died += 1
            await check_books(self._stage)
            self._result.expect(ended == -signal.SIGKILL, f"the app ended with {ended}")
            await asyncio.sleep(self._pause)

    async def _died(self) -> None:
        async def there() -> bool:
            return self._result.died > 0

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
        async for _ in _left_over(self._stage):
            return True
        return any(_in_engine(self._stage))  # a sweep may have summoned a courier while the tables were read

    def _passages(self) -> list[Passed]:
        file = self._stage.folder / "passages"
        return [msgspec.json.decode(line, type=Passed) for line in file.read_bytes().splitlines()] if file.exists() else []


async def _tell(part: Awaitable[Any]) -> Any:
    try:
        return await part
    except GaveUp:
        return None


async def _left_over(set_up: Stage) -> AsyncIterator[str]:
    """What is there only while something is going on."""
    for each in _in_engine(set_up):  # the cheapest to look at, and the last to come to its end
        yield each
    async for each in left_over(set_up.gateway, set_up.models, [set_up.owner]):
        yield each


def _in_engine(set_up: Stage) -> Iterator[str]:
    """What the engine is at."""
    file = set_up.folder / "durable.sqlite"
    if not file.exists():
        return
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as engine:
            instances = engine.execute("SELECT id, status FROM instances").fetchall()
            working = engine.execute("SELECT id, name FROM outbox WHERE kind = 'activity'").fetchall()
    except sqlite3.OperationalError as error:  # a new engine is making its tables
        yield f"an engine that says: {error}"
        return
    for instance, status in instances:
        if status not in FINAL and instance not in WATCHES:
            yield f"orchestration {instance}, {status}"
    for instance, name in working:  # also of an orchestration that was terminated
        if instance not in WATCHES:
            yield f"activity {name} of {instance}"
