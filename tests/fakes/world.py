"""A whole gateway for a test: real tables and blobs, a scripted upstream, time that skips."""

import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from random import Random
from typing import Any

import httpx
import msgspec

from shared import gateway as composition
from shared.accounts.account import Account
from shared.config import settings
from shared.config.catalog import Catalog, Model
from shared.config.entra import Entra
from shared.config.guardrail import Guardrail
from shared.config.guardrails import read_guardrails
from shared.config.settings import Settings
from shared.config.sinks import read_sinks
from shared.config.telemetry import TelemetrySettings
from shared.gateway import Gateway
from shared.media.requests import CreateRequest, parse_create
from shared.media.video import Video
from shared.routes import paths
from shared.upstream.identity import Connections
from shared.videos.step_result import Seen, StepResult
from shared.videos.steps import Step
from tests.fakes.asking import Reply, ask, request
from tests.fakes.clock import SkippingClock
from tests.fakes.receivers import SETTINGS, Receivers
from tests.fakes.servers import ServerWithDialect
from tests.fakes.table import Faults, FaultyTables, MemoryTable
from tests.fakes.upstream import ScriptedUpstream

MASTER = "sk-1234"
# Storage has the real time, and takes no signature that has ended by it: the world's is another.
_KNOBS: dict[str, Any] = {"url_seconds": 20 * 365 * 24 * 60 * 60}


class Links(Connections):
    """Connections whose only way out is the scripted upstream, and `issuer`, where there is one."""

    def __init__(self, upstream: ScriptedUpstream, issuer: str | None = None) -> None:
        super().__init__(None)
        real = {issuer: httpx.AsyncHTTPTransport()} if issuer else {}
        self._http = httpx.AsyncClient(transport=upstream.transport(), mounts=real)

    async def token(self, scope: str, *, renew: bool = False) -> str:
        """One that says what it is for."""
        del renew
        return f"token for {scope}"


@dataclass
class World:
    """`owner` is a key of its own, `model` a model of its own."""

    gateway: Gateway
    clock: SkippingClock
    upstream: ScriptedUpstream
    owner: str
    model: Model
    secret: str
    faults: Faults
    receivers: Receivers
    others: list[Gateway] = field(default_factory=list)

    def another(self) -> Gateway:
        """One more instance of the gateway: the same storage, clock and upstream, and nothing
        remembered.
        """
        tables = self.gateway.tables
        assert isinstance(tables, FaultyTables)
        same = FaultyTables(tables.storage, self.faults, inner=tables.inner)
        links = Links(self.upstream, _issuer_of(self.gateway.settings.entra))
        gateway = composition.build(self.gateway.settings, self.clock, Random(2), links, same)
        self.others.append(gateway)
        return gateway

    def with_entra(self, entra: Entra) -> Gateway:
        """One more instance, with other callers by tokens."""
        changed = msgspec.structs.replace(self.gateway.settings, entra=entra)
        return replace(self, gateway=msgspec.structs.replace(self.gateway, settings=changed)).another()

    def with_model(self, *models: Model, fallbacks: Mapping[str, tuple[str, ...]] | None = None) -> "World":
        """The same world after the operator has changed the configuration to these models; the
        first is `model`.
        """
        tables = self.gateway.tables
        assert isinstance(tables, FaultyTables)
        same = FaultyTables(tables.storage, self.faults, inner=tables.inner)
        changed = msgspec.structs.replace(self.gateway.settings, catalog=Catalog(models, fallbacks))
        gateway = composition.build(changed, self.clock, Random(3), Links(self.upstream), same)
        self.others.append(gateway)
        return replace(self, gateway=gateway, model=models[0])

    async def send(
        self,
        method: str,
        path: str,
        *,
        secret: str | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        gateway: Gateway | None = None,
    ) -> Reply:
        """A request, the operator's by default, as the host would hand it to the catch-all route.
        `body` may be bytes.
        """
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {"authorization": f"Bearer {MASTER if secret is None else secret}", "content-type": "application/json"}
        sent |= headers or {}
        return await ask(request(method, data, sent, query, path=path), paths.other_path, gateway or self.gateway)

    def request(self, **fields: Any) -> CreateRequest:
        return parse_create({"prompt": "A cat", "seconds": "4", **fields}, self.gateway.settings.catalog)

    async def start(self, **fields: Any) -> Video:
        return (await self.gateway.lifecycle.start(self.request(**fields), self.owner)).video

    async def account(self) -> Account:
        account = await self.gateway.ledger.account(self.owner)
        assert account is not None
        return account

    async def video(self, video_id: str) -> Video:
        entry = await self.gateway.videos.find(video_id)
        assert entry is not None
        return entry.video

    async def stored(self, video: Video) -> bytes:
        """The bytes that are stored of it."""
        archive = self.gateway.archive
        file = await archive.stored(video)
        assert file is not None
        return b"".join([piece async for piece in await archive.read(video, file, 0, file.length - 1)])

    async def submitted(self, video_id: str) -> StepResult:
        """The outcome of submitting, once it is no longer to try again."""
        for _ in range(2000):
            outcome = await self.gateway.submission.submit(video_id)
            if "again" not in outcome:
                return outcome
            await self.clock.sleep(outcome["again"])
        raise AssertionError("it was never submitted")

    async def live(self, video_id: str, *, rounds: int = 400) -> Video:
        """What the orchestration does, without the engine: each step until it no longer
        says again.
        """
        failure = None
        for step in (self.gateway.submission.submit, self.gateway.rendering.check, self.gateway.rendering.save):
            outcome = await self._outcome(step, video_id, rounds)
            if "resubmit" in outcome:
                return await self.live(video_id, rounds=rounds)
            failure = outcome.get("failed")
            if failure:
                break
        await self.gateway.lifecycle.finish(video_id, failure)
        return await self.video(video_id)

    async def delivered(self, seconds: float = 0.0) -> None:
        """What the couriers do in so many seconds, without the engine: deliver, and wait until more
        is due.
        """
        couriers, until = self.gateway.couriers, self.clock.now() + timedelta(seconds=seconds)
        while waits := [wait for name in couriers.destinations if (wait := await couriers.deliver(name)) is not None]:
            if self.clock.now() + timedelta(seconds=min(waits)) > until:
                return
            await self.clock.sleep(min(waits))

    async def _outcome(self, step: Step, video_id: str, rounds: int) -> StepResult:
        seen: list[Seen] = []
        for _ in range(rounds):
            outcome = await step(video_id, *seen)
            seen = [outcome["seen"]] if "seen" in outcome else []
            if "again" not in outcome:
                return outcome
            await self.clock.sleep(outcome["again"])
        raise AssertionError("a step never ended")


@asynccontextmanager
async def world(
    storage: str,
    *,
    knobs: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    budget: int | None = None,
    guardrails: Sequence[dict[str, Any]] = (),
    server: type[ScriptedUpstream] = ScriptedUpstream,
    sinks: Sequence[str] = (),
    telemetry: TelemetrySettings | None = None,
    entra: Entra | None = None,
    real_tables: bool = True,
    **deployment: Any,
) -> AsyncIterator[World]:
    """A gateway with one model on one deployment and one key; `knobs`, the key's `limits` and the
    deployment's may be set, the `budget` of the whole gateway in micro-dollars, the `guardrails` as
    config.yaml has them, the kind of `server` that answers, the logging providers that are told
    (`sinks`), who gets `telemetry`, and whose tokens callers may send (`entra`).

    Its tables are its own: nobody else counts against it, and who looks at all there is sees what
    the test made. They are those of the account, or behave as these do (`MemoryTable`).
    """
    clock = SkippingClock()
    upstream, receivers = server(clock), Receivers()
    if sinks:
        upstream.before(receivers.answer)
    given = _told(storage)
    model = _of_its_own(given.catalog.models[0], server, deployment)
    changed = msgspec.structs.replace(
        given,
        catalog=Catalog((model,)),
        knobs=msgspec.structs.replace(given.knobs, **(_KNOBS | (knobs or {}))),
        max_budget=budget,
        guardrails=read_guardrails(msgspec.convert(guardrails, list[Guardrail]), {}),
        sinks=read_sinks(sinks, sinks, SETTINGS),
        telemetry=telemetry,
        entra=entra,
    )
    faults = Faults()
    inner = None if real_tables else (MemoryTable(), MemoryTable())
    tables = FaultyTables(changed.storage, faults, prefix=f"t{secrets.token_hex(8)}", inner=inner)
    gateway = composition.build(changed, clock, Random(1), Links(upstream, _issuer_of(entra)), tables)
    try:
        issued = await gateway.keys.issue(Account(**(limits or {})))
        it = World(gateway, clock, upstream, issued.key_id, model, issued.secret, faults, receivers)
        yield it
        for each in it.others:
            await each.close()
    finally:
        await gateway.close()


def _issuer_of(entra: Entra | None) -> str | None:
    return entra.authority if entra else None


@cache
def _told(storage: str) -> Settings:
    return settings.load(
        {
            "AzureWebJobsStorage": storage,
            "AZURE_OPENAI_API_BASE": "https://example.openai.azure.com/",
            "AZURE_OPENAI_API_KEY": "upstream-secret",
            "GATEWAY_MASTER_KEY": MASTER,
        }
    )


def _of_its_own(model: Model, server: type[ScriptedUpstream], deployment: Mapping[str, Any]) -> Model:
    """The model with a name and a resource of its own: equal requests at one resource wait for each
    other, whoever asks.
    """
    own = {
        "base_url": f"https://example.openai.azure.com/{secrets.token_hex(6)}/openai/v1",
        **_of_dialect(server),
        **deployment,
    }
    deployments = tuple(msgspec.structs.replace(each, **own) for each in model.deployments)
    dialect = deployments[0].dialect
    able = msgspec.structs.replace(
        model.capability,
        remix=dialect.remixes,
        parameters=dialect.parameters,
        fps=dialect.fps,
        resizes=dialect.resizes,
    )
    return msgspec.structs.replace(model, name=f"model-{secrets.token_hex(6)}", capability=able, deployments=deployments)


def _of_dialect(server: type[ScriptedUpstream]) -> dict[str, Any]:
    """What the configuration of a deployment of this kind of server says by default."""
    if not issubclass(server, ServerWithDialect):
        return {}
    spoken = server.dialect
    return {
        "dialect": spoken,
        "base_url": f"http://gpu-{secrets.token_hex(6)}.internal:8000{spoken.path}",
        "max_running": spoken.max_running,
        "creates_per_minute": spoken.creates_per_minute,
        "delete_after_saving": spoken.keeps_copies,
        "remakes_lost_jobs": spoken.forgets,
        "shared": spoken.shared,
    }
