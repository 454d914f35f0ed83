"""A gateway beside a simulated Azure OpenAI, in one process and on a clock that skips: what the fault matrix runs in."""

import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Literal
from uuid import uuid4

import azure.functions as func
import msgspec

from local.fault_links import TENANT, UPSTREAM_KEY, Lines, Links, SkippingClock, Tokens, UpstreamClock, Wire
from local.left_over import left_over
from local.scale_tables import CountedTables, Operations
from local.sora import Sora
from local.sora_faults import parse_fault
from local.sora_jobs import Job
from local.sora_process import listening
from shared import api, settings
from shared import gateway as composition
from shared.account import Account
from shared.catalog import Catalog, Deployment, Model
from shared.gateway import Connections, Gateway
from shared.http import respond
from shared.outcome import Outcome
from shared.settings import Settings
from shared.tables import partition_of
from shared.video import Video, new_id

MASTER_KEY = "sk-the-key-of-the-operator"
POLL_SECONDS, RECONCILE_SECONDS, QUEUE_SECONDS, DEADLINE_SECONDS = 5.0, 20.0, 900.0, 100.0
_MOST_STEPS = 400
_SECONDS, _SIZE = 4, "720x1280"

Moment = Literal["unclear", "running", "completed"]


@dataclass(frozen=True)
class Story:
    """What a video is to live through.

    faults: what goes wrong, each as `local.sora_faults` has it, or {"kind": "refuse" or "no_token", "times": …}. remix: it is made
    from another video. second: there is a second deployment, on a resource without faults. identity: tokens instead of a key.
    over: the vendor's last day for the deployment has passed. delete_when: its client deletes it then.
    """

    prompt: str
    faults: tuple[Mapping[str, Any], ...] = ()
    remix: bool = False
    second: bool = False
    identity: bool = False
    over: bool = False
    delete_when: Moment | None = None


@dataclass(frozen=True)
class Lives:
    """What became of one video.

    `jobs` is how many the upstreams accepted for it, `kept` how many of them are still there. `asked` counts the calls of each
    operation, and `request_ids` has those of the answers. `closed` is why deployments are closed at the end, `took` the seconds
    from its create to its end, `broken` what is not as it should be whatever happens upstream.
    """

    video: Video
    jobs: int
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
class _Client:
    """Whoever asked for the video. `said` is every answer, with its headers."""

    gateway: Gateway
    secret: str
    said: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    async def ask(self, status: int, method: str, path: str, body: Any = None) -> Any:
        """A request as the host would hand it to the catch-all route; it should be answered with this status."""
        headers = {"authorization": f"Bearer {self.secret}", "content-type": "application/json"}
        data = msgspec.json.encode(body) if body is not None else b""
        request = func.HttpRequest(method, f"/{path}", headers=headers, params={}, body=data)
        response = await respond(request, api.other_path, gateway=self.gateway, path=path)
        text = response.get_body().decode()
        self.said.append(f"{response.status_code} {dict(response.headers)} {text}")
        if response.status_code != status:
            self.broken.append(f"{method} {path} was answered {self.said[-1]}, not {status}")
        return msgspec.json.decode(text) if text else None


@dataclass
class FaultWorld:
    """Makes videos one at a time, each with a gateway, a key and a model of its own. The faults are those of the first upstream."""

    given: Settings
    sora: Sora
    second: Sora
    upstreams: tuple[str, str]
    clock: SkippingClock
    log: Lines
    wire: Wire
    film: int = 0  # bytes of any video; the first one tells

    async def live(self, story: Story) -> Lives:
        self._forget()
        tokens = Tokens()
        async with self._gateway(story, tokens) as gateway:
            (model,) = gateway.settings.catalog.models
            issued = await gateway.keys.issue(Account())
            client = _Client(gateway, issued.secret)
            source = await self._source(gateway, model, issued.key_id) if story.remix else None
            for fault in story.faults:
                self._arm(fault, tokens)
            asked = {"prompt": story.prompt} if source else {"prompt": story.prompt, "seconds": str(_SECONDS), "size": _SIZE}
            began = self.clock.now()
            video_id = (await client.ask(200, "POST", f"v1/videos/{source.id}/remix" if source else "v1/videos", asked))["id"]
            await self._steps(client, video_id, story.delete_when)
            took = (self.clock.now() - began).total_seconds()
            if story.delete_when == "completed":
                await self._delete(client, video_id)
            entry = await gateway.ledger.find(video_id)
            assert entry is not None
            broken = [
                *client.broken,
                *await self._promises(client, entry.video),
                *await _left_over(gateway, issued.key_id, entry.video, source),
                *await self._leaks(gateway, model, issued.key_id, client, story.prompt),
            ]
            jobs = [
                job for each in (self.sora, self.second) for job in each.jobs.accepted() if not source or job.id != source.upstream_id
            ]
            kept = sum(job.deleted_at is None for job in jobs)
            closed = set((await gateway.pool.closed(model)).values())
            heard = {operation: set(ids) for operation, ids in self.wire.request_ids.items()}
            asked_for = Counter(self.wire.asked)
            return Lives(entry.video, len(jobs), kept, asked_for, heard, tokens.renewed, closed, took, broken)

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
        changed = replace(self.given, catalog=Catalog((model,)))
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
        job = Job(f"video_{uuid4().hex}", "sora-2", "sora-2", "A canary", _SECONDS, _SIZE, then, then, then + 60)
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

    async def _steps(self, client: _Client, video_id: str, delete_when: Moment | None) -> None:
        """What the orchestration does, without the engine; and the client's DELETE in the middle of it."""
        gateway, failure = client.gateway, None
        rendering = gateway.rendering
        for step in (gateway.submission.submit, rendering.check, rendering.save):
            if step == rendering.check and delete_when == "running":
                await self._delete(client, video_id)
            for _ in range(_MOST_STEPS):
                outcome: Outcome = await step(video_id)
                if "again" not in outcome:
                    break
                if delete_when == "unclear":
                    await self._delete(client, video_id)
                    delete_when = None
                await self.clock.sleep(outcome["again"])
            else:
                raise RuntimeError(f"{step.__name__} never ended")
            failure = outcome.get("failed")
            if failure:
                break
        await gateway.lifecycle.finish(video_id, failure)

    async def _delete(self, client: _Client, video_id: str) -> None:
        answer = await client.ask(200, "DELETE", f"v1/videos/{video_id}")
        if answer != {"id": video_id, "object": "video.deleted", "deleted": True}:
            client.broken.append(f"DELETE was answered {answer}")

    async def _promises(self, client: _Client, video: Video) -> list[str]:
        """Whether its client is told how it ended, and can fetch a whole video where there is one, and nothing where not."""
        there = video.status == "completed" and not video.deleted
        told = await client.ask(404 if video.deleted else 200, "GET", f"v1/videos/{video.id}")
        await client.ask(302 if there else 404 if video.deleted else 409, "GET", f"v1/videos/{video.id}/content")
        broken = []
        stored = await client.gateway.archive.length(video)
        self.film = self.film or stored or 0
        if stored != (self.film if there else None):
            broken.append(f"{stored} bytes are stored")
        reason = {"code": video.error_code, "message": video.error_message, "upstream_request_id": video.upstream_request_id}
        if not video.deleted and told["error"] != (reason if video.status == "failed" else None):
            broken.append(f"its client is told {told['error']}")
        if video.status == "failed" and not video.error_message:
            broken.append("it failed without a message")
        return broken

    async def _leaks(self, gateway: Gateway, model: Model, owner: str, client: _Client, prompt: str) -> list[str]:
        """Where a secret or an upstream's address has come out. A caller's own prompt is part of its video, and of nothing else."""
        tables = gateway.tables
        records = [
            str(row) for each in (tables.gateway.scan(owner), tables.pools.scan(partition_of(model.name))) async for row in each
        ]
        addresses = [each.removeprefix("http://") for each in self.upstreams]
        secret = (UPSTREAM_KEY, MASTER_KEY, client.secret, TENANT, *addresses)
        leaks = [f"an answer holds {word!r}: {each}" for word in secret for each in client.said if word in each]
        leaks += [f"a record holds {word!r}: {each}" for word in secret for each in records if word in each]
        leaks += [f"the log holds {word!r}: {each}" for word in (*secret, prompt) for each in self.log.lines if word in each]
        return leaks + [f"the log has an error: {each}" for each in self.log.lines if each.startswith(("ERROR", "CRITICAL"))]


class _Instant(Random):
    """Tables take no time."""

    def uniform(self, a: float, b: float) -> float:
        del a, b
        return 0.0


async def _left_over(gateway: Gateway, owner: str, *videos: Video | None) -> list[str]:
    """What should be back when a video has ended; and that no more was spent than was made."""
    made = [each for each in videos if each is not None]
    left = [f"left over: {each}" async for each in left_over(gateway, [made[0].model], [owner])]
    account = await gateway.ledger.account(owner)
    spend, cost = account.spend if account else 0, sum(each.spent for each in made)
    return left if spend == cost else [*left, f"{spend} was spent, not {cost}"]


@asynccontextmanager
async def fault_world(storage: str, folder: Path) -> AsyncIterator[FaultWorld]:
    """With the films in `folder`."""
    clock, log = SkippingClock(), Lines()
    first, second = (
        Sora(
            folder / name,
            UpstreamClock(clock),
            creates_per_minute=None,
            max_running=None,
            api_key=UPSTREAM_KEY,
            one_film=True,
        )
        for name in ("first", "second")
    )
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
            world = FaultWorld(_settings(storage, upstream), first, second, (upstream, other), clock, log, wire)
            try:
                for story in (Story("A film"), Story("A film", ({"kind": "status", "operation": "create", "status": 410},), second=True)):
                    while (await world.live(story)).end != "completed":
                        continue
                yield world
            finally:
                await wire.aclose()
    finally:
        root.removeHandler(log)
        root.setLevel(level)


def _settings(storage: str, upstream: str) -> Settings:
    given = settings.load(
        {
            "AzureWebJobsStorage": storage,
            "AZURE_OPENAI_API_BASE": upstream,
            "AZURE_OPENAI_API_KEY": UPSTREAM_KEY,
            "GATEWAY_MASTER_KEY": MASTER_KEY,
            "GATEWAY_CONFIG": str(Path(__file__).parent.parent / "config.yaml"),
        }
    )
    knobs = msgspec.structs.replace(
        given.knobs,
        poll_seconds=POLL_SECONDS,
        reconcile_seconds=RECONCILE_SECONDS,
        queue_seconds=QUEUE_SECONDS,
        deadline_seconds=DEADLINE_SECONDS,
    )
    return replace(given, knobs=knobs)
