"""A gateway beside a simulated Azure OpenAI, in one process and on a clock that skips: what the
fault matrix runs in.
"""

import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Literal
from uuid import uuid4

import msgspec
import yaml
from msgspec.structs import replace

from local.simulator.dialects.dialect import ServedModel
from local.simulator.faults import parse_fault
from local.simulator.jobs import Job
from local.simulator.process import listening
from local.simulator.server import SimulatedServer
from shared import gateway as composition
from shared.accounts.account import Account
from shared.capacity import slots
from shared.config import settings
from shared.config.catalog import Catalog, Deployment, Model
from shared.config.settings import Settings
from shared.dialects.known import AZURE
from shared.gateway import Gateway
from shared.media.video import Video, new_id
from shared.upstream.identity import Connections
from shared.videos.step_result import Seen, StepResult
from tests.fakes.clock import SkippingClock
from tests.trials.faults.checks import Client, ends_well, leaks, not_returned
from tests.trials.faults.links import TENANT, UPSTREAM_KEY, Lines, Links, Tokens, UpstreamClock, Wire
from tests.trials.scale.tables import CountedTables, Operations

MASTER_KEY = "sk-the-key-of-the-operator"
POLL_SECONDS, RECONCILE_SECONDS, QUEUE_SECONDS, DEADLINE_SECONDS = 5.0, 20.0, 900.0, 100.0
_MOST_STEPS = 400
_PACE = {"max_running": 2, "creates_per_minute": 2}  # the same for all, so that they can be compared
_SECONDS, _SIZE, _SERVED = 4, "720x1280", "sora-2"

Moment = Literal["unclear", "running", "completed"]


@dataclass(frozen=True)
class Story:
    """What a video is to live through.

    faults: what goes wrong, each as `local.simulator.faults` has it, or of kind `refuse` or
    `no_token`.
    remix: it is made from another video. second: there is a second deployment, on a resource
    without faults. identity: tokens instead of a key. over: the vendor's last day for the
    deployment has passed. delete_when: its client deletes it then.
    """

    prompt: str
    faults: tuple[Mapping[str, Any], ...] = ()
    remix: bool = False
    second: bool = False
    identity: bool = False
    over: bool = False
    delete_when: Moment | None = None
    on_unclear: Literal["fail", "retry"] = "retry"


@dataclass(frozen=True)
class Lives:
    """What became of one video.

    `jobs` is how many the upstreams accepted for it, beside those that they `lost`; `kept` is how
    many of them are still there.
    `asked` counts the calls of each operation, and `request_ids` has those of the answers. `closed`
    is why deployments are closed at the end, `took` the seconds from its create to its end,
    `broken` what is not as it should be whatever happens upstream.
    """

    video: Video
    jobs: int
    lost: int
    kept: int
    asked: Counter[str]
    request_ids: Mapping[str, set[str]]
    renewed: int
    closed: set[str]
    took: float
    broken: list[str]

    @property
    def end(self) -> str:
        """`completed`, or the code of the error."""
        return self.video.error_code or self.video.status


@dataclass
class FaultWorld:
    """Makes videos one at a time, each with a gateway, a key and a model of its own. Both upstreams
    are servers of one dialect, and the first has the faults.
    """

    given: Settings
    sora: SimulatedServer
    second: SimulatedServer
    upstreams: tuple[str, str]
    clock: SkippingClock
    log: Lines
    wire: Wire
    film: int = 0  # bytes of every video; the first one tells

    async def live(self, story: Story) -> Lives:
        self._forget()
        tokens = Tokens()
        async with self._gateway(story, tokens) as gateway:
            (model,) = gateway.settings.catalog.models
            issued = await gateway.keys.issue(Account())
            client = Client(gateway, issued.key_id, issued.secret)
            source = await self._source(gateway, model, issued.key_id) if story.remix else None
            for fault in story.faults:
                self._arm(fault, tokens)
            began = self.clock.now()
            video_id = await _ask_for(client, story.prompt, source)
            await self._steps(client, video_id, story.delete_when)
            took = (self.clock.now() - began).total_seconds()
            if story.delete_when == "completed":
                await client.delete(video_id)
            entry = await gateway.videos.find(video_id)
            assert entry is not None
            broken = await self._broken(client, entry.video, source)
            others = source.upstream_id if source else None
            jobs = [job for sora in (self.sora, self.second) for job in sora.jobs.accepted() if job.id != others]
            return Lives(
                video=entry.video,
                jobs=sum(not job.lost for job in jobs),
                lost=sum(job.lost for job in jobs),
                kept=sum(job.deleted_at is None and not job.lost for job in jobs),
                asked=self.wire.asked.copy(),
                request_ids=dict(self.wire.request_ids),
                renewed=tokens.renewed,
                closed=await self._closed(gateway, model),
                took=took,
                broken=broken,
            )

    async def _closed(self, gateway: Gateway, model: Model) -> set[str]:
        """Why deployments are closed, or were within ten minutes; none that only failed of late."""
        capacity = await gateway.pool.shards.all(model.name)
        last = (slots.last_outage(capacity.load(each), self.clock.now().timestamp()) for each in model.deployments)
        return {why.reason for why in last if why}

    async def _broken(self, client: Client, video: Video, source: Video | None) -> list[str]:
        asked = self.wire.asked.copy()
        broken = [each async for each in ends_well(client, video, self.film)]
        if self.wire.asked != asked:
            broken.append("reading a video asks the upstream")
        broken += [each async for each in not_returned(client, [video, source] if source else [video])]
        secret = (UPSTREAM_KEY, MASTER_KEY, TENANT, *(each.removeprefix("http://") for each in self.upstreams))
        broken += [each async for each in leaks(client, video, secret, self.log.lines)]
        broken += [f"the log has an error: {each}" for each in self.log.lines if each.startswith(("ERROR", "CRITICAL"))]
        return broken + client.wrong

    def _forget(self) -> None:
        for sora in (self.sora, self.second):
            sora.jobs.clear()
            sora.faults.clear()
        self.wire.reset()
        self.log.lines.clear()

    @asynccontextmanager
    async def _gateway(self, story: Story, tokens: Tokens) -> AsyncIterator[Gateway]:
        (model,) = self.given.catalog.models
        (first,) = model.deployments
        last_day = self.clock.now().date() - timedelta(days=1) if story.over else None
        first = replace(first, retires=last_day, api_key=None if story.identity else first.api_key)
        deployments: tuple[Deployment, ...] = (first,)
        if story.second:
            deployments = (first, replace(first, name="second", base_url=first.base_url.replace(*self.upstreams)))
        # Tables are new for every video, but blobs are not.
        model = replace(model, name=f"model-{secrets.token_hex(6)}", deployments=deployments)
        knobs = replace(self.given.knobs, on_unclear=story.on_unclear)
        changed = replace(self.given, catalog=Catalog((model,)), knobs=knobs)
        gateway = composition.build(
            changed, self.clock, Random(1), Links(self.wire, tokens), CountedTables(Operations(), _Instant())
        )
        try:
            yield gateway
        finally:
            await gateway.archive.close()

    async def _source(self, gateway: Gateway, model: Model, owner: str) -> Video:
        """A completed video from a while ago, here and upstream."""
        now = self.clock.now()
        then = now.timestamp() - 300
        job = Job(f"video_{uuid4().hex}", _SERVED, _SERVED, "A canary", _SECONDS, _SIZE, then, then, 60)
        self.sora.jobs.add(job)
        video = Video(
            id=new_id(owner, now - timedelta(seconds=300)),
            model=model.name,
            created_at=now - timedelta(seconds=300),
            prompt=job.prompt,
            seconds=_SECONDS,
            size=_SIZE,
            cost=model.capability.price(_SECONDS, _SIZE),
            deployment=model.deployments[0].name,
            upstream_id=job.id,
        )
        await gateway.ledger.admit(video)
        settled = await gateway.ledger.settle(video.id, status="completed", progress=100, finished_at=now)
        assert settled is not None
        return settled

    def _arm(self, fault: Mapping[str, Any], tokens: Tokens) -> None:
        if fault["kind"] == "no_token":
            tokens.missing = fault["times"] or -1
            return
        if fault["kind"] in ("refuse", "delay"):
            self.wire.spoil(fault["kind"], fault["operation"], fault["times"])
        if fault["kind"] != "refuse":
            self.sora.faults.add(parse_fault(msgspec.json.encode(fault)))

    async def _steps(self, client: Client, video_id: str, delete_when: Moment | None) -> None:
        """What the orchestration does, without the engine; and the client's DELETE in the middle of
        it.
        """
        gateway, failure = client.gateway, None
        check = gateway.rendering.check
        for step in (gateway.submission.submit, check):
            if step == check and delete_when == "running":
                await client.delete(video_id)
            seen: list[Seen] = []
            for _ in range(_MOST_STEPS):
                outcome: StepResult = await step(video_id, *seen)
                seen = [outcome["seen"]] if "seen" in outcome else []
                if "again" not in outcome:
                    break
                if delete_when == "unclear":
                    await client.delete(video_id)
                    delete_when = None
                await self.clock.sleep(outcome["again"])
            else:
                raise RuntimeError(f"{step.__name__} never ended")
            if "resubmit" in outcome:
                await self._steps(client, video_id, None)
                return
            failure = outcome.get("failed")
            if failure:
                break
        await gateway.lifecycle.finish(video_id, failure)


async def _ask_for(client: Client, prompt: str, source: Video | None) -> str:
    if source is not None:
        answer = await client.ask(200, "POST", f"v1/videos/{source.id}/remix", {"prompt": prompt})
    else:
        answer = await client.ask(200, "POST", "v1/videos", {"prompt": prompt, "seconds": str(_SECONDS), "size": _SIZE})
    return str(answer["id"])


class _Instant(Random):
    """Tables take no time."""

    def uniform(self, a: float, b: float) -> float:
        del a, b
        return 0.0


@asynccontextmanager
async def fault_world(storage: str, folder: Path, dialect: str = AZURE.name) -> AsyncIterator[FaultWorld]:
    """With the films in `folder`."""
    clock, log = SkippingClock(), Lines()
    first, second = (_server(folder / name, clock, dialect) for name in ("first", "second"))
    (folder / "second" / "films").symlink_to(folder / "first" / "films")
    # As the app itself does when it makes its client, which here is another one.
    links = Connections(None)
    links.http()
    await links.close()
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(log)
    root.setLevel(logging.INFO)  # what a Functions worker keeps
    try:
        async with listening(first) as upstream, listening(second) as other:
            wire = Wire(upstream)
            world = FaultWorld(
                _settings(storage, upstream, folder, dialect), first, second, (upstream, other), clock, log, wire
            )
            try:
                world.film = (await world.live(Story("A film that is drawn now"))).video.bytes or 0
                yield world
            finally:
                await wire.aclose()
    finally:
        root.removeHandler(log)
        root.setLevel(level)


def _server(folder: Path, clock: SkippingClock, dialect: str) -> SimulatedServer:
    return SimulatedServer(
        folder,
        UpstreamClock(clock),
        dialect=dialect,
        creates_per_minute=None,
        max_running=None,
        api_key=UPSTREAM_KEY,
        models={_SERVED: ServedModel(_SERVED)},
        one_film=True,
    )


def _settings(storage: str, upstream: str, folder: Path, dialect: str) -> Settings:
    entry = {
        "model_name": "films",
        "params": {"model": f"{dialect}/{_SERVED}", "api_base": upstream, "api_key": UPSTREAM_KEY, **_PACE},
        "model_info": {"sizes": [_SIZE], "seconds": [_SECONDS], "output_cost_per_video_per_second": 0.1},
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump({"model_list": [entry]}))
    given = settings.load(
        {"AzureWebJobsStorage": storage, "GATEWAY_MASTER_KEY": MASTER_KEY, "GATEWAY_CONFIG": str(file)},
    )
    knobs = replace(
        given.knobs,
        poll_seconds=POLL_SECONDS,
        reconcile_seconds=RECONCILE_SECONDS,
        queue_seconds=QUEUE_SECONDS,
        deadline_seconds=DEADLINE_SECONDS,
        log_prompts=False,  # a prompt in the log is a leak here
    )
    return replace(given, knobs=knobs)
