"""A gateway beside a simulated Azure OpenAI, in one process and on a clock that skips: what the fault matrix runs in."""

import asyncio
import logging
import secrets
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import azure.functions as func
import httpx
import msgspec

from local.left_over import left_over
from local.scale_tables import CountedTables, Operations
from local.sora import Sora
from local.sora_faults import parse_fault
from local.sora_process import listening
from shared import api, settings
from shared import gateway as composition
from shared.account import Account
from shared.catalog import Catalog
from shared.gateway import Connections, Gateway
from shared.http import respond
from shared.video import Video

UPSTREAM_KEY = "the-key-of-the-upstream"
POLL_SECONDS, RECONCILE_SECONDS, QUEUE_SECONDS, DEADLINE_SECONDS = 5.0, 20.0, 120.0, 100.0
READ_SECONDS = 0.2  # of real time: how long the gateway's client waits for the upstream to say something
_HURRY = 0.02  # real seconds for each second that the upstream pauses
_MOST_STEPS = 300


@dataclass
class SkippingClock:
    """Implements `shared.clock.Clock` for the gateway: whoever sleeps is at once at the end of it."""

    _now: datetime = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += timedelta(seconds=max(seconds, 0))
        await asyncio.sleep(0)


@dataclass
class _UpstreamClock:
    """The same time for the upstream, whose pauses are real and short: the gateway has to wait them out."""

    clock: SkippingClock

    def now(self) -> datetime:
        return self.clock.now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds * _HURRY)


class _Doors(httpx.AsyncBaseTransport):
    """The way to the upstream. Calls of the operation that is `closed` go to a port where nobody listens, so many `times`."""

    def __init__(self) -> None:
        self._inner = httpx.AsyncHTTPTransport()
        self.closed: str | None = None
        self.times: int | None = 1
        self.refused: Counter[str] = Counter()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._nobody = free.getsockname()[1]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        operation = _operation(request)
        if self.closed == operation and (self.times is None or self.refused[operation] < self.times):
            self.refused[operation] += 1
            request.url = request.url.copy_with(port=self._nobody)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _operation(request: httpx.Request) -> str:
    last = request.url.path.rsplit("/", 1)[-1]
    if last in ("content", "videos"):
        return {"GET": "list", "POST": "create"}[request.method] if last == "videos" else "content"
    return {"GET": "get", "DELETE": "delete"}[request.method]


class _Links(Connections):
    def __init__(self, doors: _Doors) -> None:
        super().__init__(None)
        self._http = httpx.AsyncClient(transport=doors, timeout=httpx.Timeout(5, read=READ_SECONDS))


class _Instant(Random):
    """Tables take no time."""

    def uniform(self, a: float, b: float) -> float:
        del a, b
        return 0.0


class _Lines(logging.Handler):
    """Everything that is logged, as text."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@dataclass
class Lives:
    """What became of one video. `asked` counts the calls of each operation, `left` is what was not returned."""

    video: Video
    jobs: int
    asked: dict[str, int]
    left: list[str]
    leaked: list[str]

    @property
    def end(self) -> str:
        """`completed`, or the code of the error."""
        return self.video.error_code or self.video.status


@dataclass
class FaultWorld:
    """Makes videos one at a time, each with a gateway, a key and a model of its own."""

    storage: str
    sora: Sora
    upstream: str
    clock: SkippingClock
    log: _Lines
    doors: _Doors = field(default_factory=_Doors)

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[Gateway]:
        given = settings.load(
            {
                "AzureWebJobsStorage": self.storage,
                "AZURE_OPENAI_API_BASE": self.upstream,
                "AZURE_OPENAI_API_KEY": UPSTREAM_KEY,
                "GATEWAY_MASTER_KEY": "sk-the-key-of-the-operator",
                "GATEWAY_CONFIG": str(Path(__file__).parent.parent / "config.yaml"),
            }
        )
        (model,) = given.catalog.models
        model = replace(model, name=f"model-{secrets.token_hex(6)}")
        knobs = msgspec.structs.replace(
            given.knobs,
            poll_seconds=POLL_SECONDS,
            reconcile_seconds=RECONCILE_SECONDS,
            queue_seconds=QUEUE_SECONDS,
            deadline_seconds=DEADLINE_SECONDS,
        )
        changed = replace(given, catalog=Catalog((model,)), knobs=knobs)
        tables = CountedTables(Operations(), _Instant())
        gateway = composition.build(changed, self.clock, Random(1), _Links(self.doors), tables)
        try:
            yield gateway
        finally:
            await gateway.archive.close()

    async def live(self, prompt: str, *, delete_when: str | None = None, armed: dict[str, Any] | None = None) -> Lives:
        """Make a video, and delete it when it is `running` or `completed`; `armed` is a fault that is armed beforehand."""
        self.sora.jobs.clear()
        self.sora.faults.clear()
        self.sora.requests.clear()
        self.doors.closed = None
        self.doors.refused.clear()
        self.log.lines.clear()
        if armed is not None:
            self._arm(dict(armed))
        async with self.gateway() as gateway:
            issued = await gateway.keys.issue(Account())
            video_id, answers = await self._create(gateway, issued.secret, prompt)
            await self._steps(gateway, video_id, issued.secret, delete_when, answers)
            entry = await gateway.ledger.find(video_id)
            assert entry is not None
            answers.append(await _send(gateway, issued.secret, "GET", f"v1/videos/{video_id}"))
            asked = Counter(request.operation for request in self.sora.requests) + self.doors.refused
            left = await _left_over(gateway, issued.key_id, entry.video)
            return Lives(entry.video, len(self.sora.jobs.accepted()), asked, left, self._leaks(answers, prompt))

    def _arm(self, fault: dict[str, Any]) -> None:
        if fault["kind"] == "refuse":
            self.doors.closed, self.doors.times = fault["operation"], fault["times"]
        else:
            self.sora.faults.add(parse_fault(msgspec.json.encode(fault)))

    async def _create(self, gateway: Gateway, secret: str, prompt: str) -> tuple[str, list[str]]:
        answer = await _send(gateway, secret, "POST", "v1/videos", {"prompt": prompt, "seconds": "4"})
        return str(msgspec.json.decode(answer)["id"]), [answer]

    async def _steps(self, gateway: Gateway, video_id: str, secret: str, delete_when: str | None, answers: list[str]) -> None:
        """What the orchestration does, without the engine; and the client's DELETE in the middle or at the end of it."""
        rendering, failure = gateway.rendering, None

        async def delete() -> None:
            answers.append(await _send(gateway, secret, "DELETE", f"v1/videos/{video_id}"))

        for step in (gateway.submission.submit, rendering.check, rendering.save):
            if step == rendering.check and delete_when == "running":
                await delete()
            for _ in range(_MOST_STEPS):
                outcome = await step(video_id)
                if "again" not in outcome:
                    break
                await self.clock.sleep(outcome["again"])
            else:
                raise RuntimeError(f"{step.__name__} never ended")
            failure = outcome.get("failed")
            if failure:
                break
        await gateway.lifecycle.finish(video_id, failure)
        if delete_when == "completed":
            await delete()

    def _leaks(self, answers: list[str], prompt: str) -> list[str]:
        """Where the key, the upstream's address or the prompt has come out. A caller's own prompt is part of its video."""
        leaks = [f"an answer holds {word!r}" for word in (UPSTREAM_KEY, self.upstream) if any(word in each for each in answers)]
        for word in (UPSTREAM_KEY, self.upstream, prompt):
            leaks += [f"the log holds {word!r}: {line}" for line in self.log.lines if word in line]
        return leaks


@asynccontextmanager
async def fault_world(storage: str, folder: Path) -> AsyncIterator[FaultWorld]:
    """With the films in `folder`."""
    clock, log = SkippingClock(), _Lines()
    sora = Sora(folder, _UpstreamClock(clock), creates_per_minute=None, max_running=None, api_key=UPSTREAM_KEY, one_film=True)
    # As the app itself does when it makes its client, which here is another one.
    links = Connections(None)
    links.http()
    await links.close()
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(log)
    root.setLevel(logging.INFO)  # what a Functions worker keeps
    try:
        async with listening(sora) as upstream:
            world = FaultWorld(storage, sora, upstream, clock, log)
            try:
                while (await world.live("A film that is drawn now")).end != "completed":
                    continue  # the upstream goes on drawing it after nobody waited any longer
                yield world
            finally:
                await world.doors.aclose()
    finally:
        root.removeHandler(log)
        root.setLevel(level)


async def _send(gateway: Gateway, secret: str, method: str, path: str, body: Any = None) -> str:
    """A request as the host would hand it to the catch-all route; the answer's headers and body as text."""
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    data = msgspec.json.encode(body) if body is not None else b""
    request = func.HttpRequest(method, f"/{path}", headers=headers, params={}, body=data)
    response = await respond(request, api.other_path, gateway=gateway, path=path)
    return str(response.get_body().decode())


async def _left_over(gateway: Gateway, owner: str, video: Video) -> list[str]:
    """What should be back when a video has ended; and that no more was spent than it cost."""
    left = [f"left over: {each}" async for each in left_over(gateway, [video.model], [owner])]
    account = await gateway.ledger.account(owner)
    spend = account.spend if account else 0
    return left if spend == video.spent else [*left, f"{spend} was spent, not {video.spent}"]
