"""A whole gateway for a test: real tables and blobs, a scripted upstream, time that skips."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import httpx
import msgspec

from shared import gateway as composition
from shared import settings
from shared.account import Account
from shared.catalog import Catalog, Model
from shared.gateway import Connections, Gateway
from shared.schema import CreateRequest, parse_create
from shared.video import Video
from tests.clock import SkippingClock
from tests.upstream import ScriptedUpstream


class _Links(Connections):
    """Connections whose only way out is the scripted upstream."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        super().__init__(None)
        self._http = httpx.AsyncClient(transport=upstream.transport())


@dataclass
class World:
    """`owner` is a key of its own and `model` a model of its own, so that tests share storage and nothing in it."""

    gateway: Gateway
    clock: SkippingClock
    upstream: ScriptedUpstream
    owner: str
    model: Model
    secret: str

    def request(self, **fields: Any) -> CreateRequest:
        return parse_create({"prompt": "A cat", "seconds": "4", **fields}, self.gateway.settings.catalog)

    async def start(self, **fields: Any) -> Video:
        return (await self.gateway.lifecycle.start(self.request(**fields), self.owner)).video

    async def account(self) -> Account:
        account = await self.gateway.ledger.account(self.owner)
        assert account is not None
        return account

    async def video(self, video_id: str) -> Video:
        entry = await self.gateway.ledger.find(video_id)
        assert entry is not None
        return entry.video

    async def live(self, video_id: str, *, rounds: int = 200) -> Video:
        """What the orchestration does, without the engine: each step until it no longer says again."""
        lifecycle = self.gateway.lifecycle
        failure = None
        for step in (lifecycle.submit, lifecycle.check, lifecycle.save):
            for _ in range(rounds):
                outcome = await step(video_id)
                if "again" not in outcome:
                    break
                await self.clock.sleep(outcome["again"])
            else:
                raise AssertionError(f"{step.__name__} never ended")
            failure = outcome.get("failed")
            if failure:
                break
        await lifecycle.finish(video_id, failure)
        return await self.video(video_id)


@asynccontextmanager
async def world(
    storage: str, *, knobs: dict[str, Any] | None = None, limits: dict[str, Any] | None = None, **deployment: Any
) -> AsyncIterator[World]:
    """A gateway with one model on one deployment and one key; `knobs`, the key's `limits` and the deployment's may be set."""
    clock = SkippingClock()
    upstream = ScriptedUpstream(clock)
    given = settings.load(
        {
            "AzureWebJobsStorage": storage,
            "AZURE_OPENAI_API_BASE": "https://example.openai.azure.com/",
            "AZURE_OPENAI_API_KEY": "upstream-secret",
            "GATEWAY_MASTER_KEY": "sk-1234",
        }
    )
    (model,) = given.catalog.models
    deployments = tuple(replace(each, **deployment) for each in model.deployments)
    model = replace(model, name=f"model-{secrets.token_hex(6)}", deployments=deployments)
    changed = replace(given, catalog=Catalog((model,)), knobs=msgspec.structs.replace(given.knobs, **knobs or {}))
    gateway = composition.build(changed, clock, Random(1), _Links(upstream))
    try:
        issued = await gateway.keys.issue(Account(**(limits or {})))
        yield World(gateway, clock, upstream, issued.key_id, model, issued.secret)
    finally:
        await gateway.close()
