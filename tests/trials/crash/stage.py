"""Where a crash story takes place: an upstream, a key with a client, and what a story may do to
them beside asking.
"""

import json
import secrets
import sqlite3
import time
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue.aio import QueueClient

from local.durable.protocol import timestamp
from local.simulator.dialects.dialect import ServedModel
from local.simulator.faults import parse_fault
from local.simulator.jobs import Job
from local.simulator.server import SimulatedServer
from shared import gateway as composition
from shared.accounts.commits import ACCOUNT
from shared.accounts.keys import KEYS
from shared.config import settings
from shared.gateway import Gateway
from shared.media.video import GATEWAY_OWNER
from shared.storage.tables import Delete
from shared.storage.video_store import UPKEEP
from shared.upkeep.housekeeping import IDENTITIES
from tests.fakes.issuer import Issuer, issuing
from tests.trials.crash.app import SWEPT
from tests.trials.crash.client import Client, Whereabouts, until
from tests.trials.crash.clock import FastClock
from tests.trials.crash.front import Front, front
from tests.trials.crash.lab import Lab
from tests.trials.crash.receiver import Receiver, listening
from tests.trials.crash.result import Result
from tests.trials.crash.terms import AT_THE_UPSTREAM, EVENTS, REQUESTS, UPSTREAM_KEY, Terms, app_settings

_CONTENT = 1_200_000  # bytes of a video: two blocks
_SPEED = 7.5  # a film of 4 seconds takes 8 of the matrix's


@dataclass(frozen=True)
class Stage:
    """`gateway` looks at the app's storage, and changes it where a story says so; `owner` is the
    id of the client's key. `models` are the names that clients ask for.
    """

    terms: Terms
    folder: Path
    storage: str
    clock: FastClock
    models: list[str]
    settings: dict[str, str]
    sora: SimulatedServer
    front: Front
    receiver: Receiver
    issuer: Issuer
    gateway: Gateway
    owner: str
    client: Client
    where: Whereabouts
    result: Result

    @property
    def upstream(self) -> str:
        return self.front.url

    def unconfigure(self) -> None:
        """The first model is configured no longer."""
        places = {"receiver": self.receiver.url, "issuer": self.issuer.url}
        app_settings(self.terms, self.storage, self.upstream, self.folder, self.models[1:], **places)

    def lose_orchestrations(self) -> None:
        """The engine's own storage is lost, or was emptied by hand."""
        for file in self.folder.glob("durable.sqlite*"):
            file.unlink()

    def lose_messages(self) -> int:
        """The engine calls the orchestrations running, and nothing will ever move them: so it looks
        where an instance holds messages that it no longer works on. How many messages there were.

        What is being played just now comes to nothing as well, and is let go.
        """
        with closing(sqlite3.connect(self.folder / "durable.sqlite")) as engine, engine:
            engine.execute("UPDATE instances SET owner = NULL WHERE id LIKE 'video_%'")
            lost = [engine.execute(f"DELETE FROM {table} WHERE id LIKE 'video_%'") for table in ("inbox", "outbox")]
            return sum(each.rowcount for each in lost)

    def fail_orchestrations(self) -> int:
        """All that are under way have failed, as the death of their worker makes them. How many."""
        now = timestamp(self.clock.now())
        with closing(sqlite3.connect(self.folder / "durable.sqlite")) as engine, engine:
            failed = engine.execute(
                """UPDATE instances SET status = 'Failed', updated = ?
                WHERE id LIKE 'video_%' AND status IN ('Pending', 'Running')""",
                (now,),
            )
        self.lose_messages()
        return failed.rowcount

    def fault(self, **fault: Any) -> None:
        """Arm a fault at the upstream."""
        self.sora.faults.add(parse_fault(msgspec.json.encode(fault)))

    async def accepted(self) -> None:
        """Until the upstream has accepted a create."""

        async def there() -> bool:
            return bool(self.jobs())

        await until(there)

    async def bound(self, video_id: str) -> None:
        """Until a video's record has its job, or the video has ended without one."""

        async def there() -> bool:
            entry = await self.gateway.videos.find(video_id)
            return entry is not None and (entry.video.upstream_id is not None or entry.video.finished)

        await until(there)

    async def asked(self, operation: str, times: int = 1) -> None:
        """Until the upstream was asked for this so many times."""

        async def there() -> bool:
            return sum(each.operation == operation for each in self.sora.requests) >= times

        await until(there)

    async def stands_back(self, video_id: str) -> None:
        """Until a video waits after an attempt that failed."""

        async def there() -> bool:
            entry = await self.gateway.videos.find(video_id)
            return entry is not None and entry.video.attempts > 0 and entry.video.attempted_at is None

        await until(there)

    async def at_rest(self) -> None:
        """Until the engine has brought every video's orchestration to its end."""

        async def there() -> bool:
            with closing(sqlite3.connect(self.folder / "durable.sqlite")) as engine:
                living = "SELECT count(*) FROM instances WHERE id LIKE 'video_%' AND status IN ('Pending', 'Running')"
                return bool(engine.execute(living).fetchone()[0] == 0)

        await until(there)

    async def swept(self) -> None:
        """Until a sweep has come to its end, however often the app dies at it."""
        ended = self.folder / SWEPT
        sweeps = ended.stat().st_size if ended.exists() else 0
        sweeping = None

        async def there() -> bool:
            nonlocal sweeping
            app = await self.where.here()
            if app is not sweeping:
                app.sweep()
                sweeping = app
            return ended.exists() and ended.stat().st_size > sweeps

        await until(there)

    async def put(self, **fields: Any) -> None:
        """A message that asks for a video of the client's key."""
        message = {"key_id": self.owner, "model": self.models[0], "seconds": "4", **fields}
        async with self._queue(REQUESTS) as queue:
            with suppress(ResourceExistsError):
                await queue.create_queue()
            await queue.send_message(json.dumps(message))

    async def poisoned(self) -> int:
        """How many messages start no video."""
        return len(await self._messages(REQUESTS, "-poison"))

    async def queued_events(self) -> list[str]:
        """The ids of the events in the queue of events."""
        return [json.loads(b64decode(text))["id"] for text in await self._messages(EVENTS)]

    async def _messages(self, setting: str, ending: str = "") -> list[str]:
        async with self._queue(setting, ending) as queue:
            try:
                return [message.content for message in await queue.peek_messages(32)]
            except ResourceNotFoundError:
                return []

    def _queue(self, setting: str, ending: str = "") -> QueueClient:
        return QueueClient.from_connection_string(self.storage, self.settings[setting] + ending)

    def jobs(self) -> list[Job]:
        """What the upstream has accepted, deleted ones too."""
        return self.sora.jobs.accepted()


@asynccontextmanager
async def stage(lab: Lab, terms: Terms, *, patient: bool) -> AsyncIterator[Stage]:
    """A new stage in a lab; at the end, only what the next one could stumble over is taken away."""
    tag, folder, clock, result, where = (
        secrets.token_hex(5),
        lab.next_folder(),
        FastClock(time.time(), terms.hurry),
        Result(),
        Whereabouts(),
    )
    models = [f"{name}-{tag}" for name, _ in zip(("model", "spare"), terms.prices, strict=False)]
    async with AsyncExitStack() as running:
        sora = _upstream(lab, terms, clock)
        place = await running.enter_async_context(front(sora))
        receiver = await running.enter_async_context(listening(terms.listens or ()))
        issuer = running.enter_context(issuing())
        issuer.now = clock.now
        told = app_settings(terms, lab.storage, place.url, folder, models, receiver=receiver.url, issuer=issuer.url)
        gateway = composition.build(settings.load(told), clock)
        running.push_async_callback(gateway.close)
        others = {row.key async for row in gateway.tables.gateway.scan(KEYS)}
        await _forget_spend(gateway)
        issued = await gateway.keys.issue(terms.account)
        # Loopback without TLS: reading the certificates would take longer than some of the stories.
        http = await running.enter_async_context(httpx.AsyncClient(timeout=30, trust_env=False, verify=False))
        client = Client(http, issued.secret, models[0], tag, where, patient, result)
        yield Stage(
            terms,
            folder,
            lab.storage,
            clock,
            models,
            told,
            sora,
            place,
            receiver,
            issuer,
            gateway,
            issued.key_id,
            client,
            where,
            result,
        )
        await _clear(gateway, others, sora.jobs.accepted())


def _upstream(lab: Lab, terms: Terms, clock: FastClock) -> SimulatedServer:
    first, second = AT_THE_UPSTREAM
    sora = SimulatedServer(
        lab.folder / "sora",
        clock,
        _SPEED,
        terms.dialect,
        creates_per_minute=terms.pace,
        max_running=terms.max_running,
        api_key=UPSTREAM_KEY,
        models={first: ServedModel(first, terms.retired), second: ServedModel(second)},
        one_film=True,
    )
    sora.jobs.clear()
    sora.workshop.content_bytes = _CONTENT
    return sora


async def _forget_spend(gateway: Gateway) -> None:
    """The whole gateway's account of the runs before."""
    keys = gateway.tables.gateway
    spent = await keys.get(GATEWAY_OWNER, ACCOUNT)
    if spent is not None:
        await keys.commit(GATEWAY_OWNER, Delete(spent))


async def _clear(gateway: Gateway, others: set[str], jobs: list[Job]) -> None:
    """Take away the new keys and the claims on jobs, so that later sweeps need not look at them;
    and the time up to which a sweep ahead of the clock has dropped records of requests.
    """
    keys = gateway.tables.gateway
    noted = await keys.get(UPKEEP, IDENTITIES)
    if noted is not None:
        await keys.commit(UPKEEP, Delete(noted))
    async for row in keys.scan(KEYS):
        if row.key not in others:
            await keys.commit(KEYS, Delete(row))
    made = [datetime.fromtimestamp(job.created_at, UTC) for job in jobs]
    for day in {(moment + timedelta(hours=hours)).date() for moment in made for hours in (-1, 1)}:
        await gateway.claims.drop(day)
