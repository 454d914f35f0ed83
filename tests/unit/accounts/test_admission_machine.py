"""Every order of creates, steps, ends, deletions, repeated deliveries, lost answers and deaths
between any two table writes.

The tables are in memory (`test_tables` holds them against real ones). A dead process leaves
what it had written; the next one begins with that and nothing else. After every rule the counters
must say what the videos say.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from shared import gateway as composition
from shared.accounts.account import Account, recount
from shared.accounts.idempotency import read_identity
from shared.accounts.spend_lines import SPEND
from shared.config import settings as configuration
from shared.config.catalog import Catalog
from shared.errors import RequestError, StorageUnavailable
from shared.gateway import Gateway
from shared.media.requests import parse_create
from shared.media.video import GATEWAY_OWNER, Video, reversed_id
from shared.storage.blobs import Archive
from shared.storage.tables import Row, Write, WriteConflict, partition_of
from shared.upkeep.sweep import Sweep
from shared.videos.step_result import StepResult
from tests.fakes.clock import SkippingClock
from tests.fakes.orchestrations import Engine
from tests.fakes.table import Faults, FaultyTables, MemoryTable
from tests.fakes.upstream import ScriptedUpstream
from tests.fakes.world import Links

T = TypeVar("T")
Operation = Callable[[Gateway], Awaitable[T]]
Fault = tuple[str, int] | None

GATEWAY_LIMIT = 2_800_000
KEYS = (
    Account(max_budget=2_000_000),
    Account(max_budget=1_200_000, budget_duration="30m", max_parallel_requests=2, seconds_limit=40),
)

# How a video may end while its job may still run: nobody can say whether it does.
_GIVEN_UP = ("deadline_exceeded", "upstream_uncertain")
STEPS = ("submit", "check", "finish", "done")
WHICH = st.integers(0, 11)
FAULTS = st.one_of(st.none(), st.tuples(st.sampled_from(["dies", "conflict", "unavailable"]), st.integers(0, 5)))


class NoBlobs(Archive):
    """What is completed is saved already, and there is nothing to drop."""

    async def length(self, video: Video, variant: str = "video") -> int | None:
        await asyncio.sleep(0)
        return 1000

    async def drop(self, video: Video) -> None:
        await asyncio.sleep(0)

    async def drop_images(self, video: Video) -> None:
        await asyncio.sleep(0)

    async def drop_reference(self, video_id: str) -> None:
        await asyncio.sleep(0)


class Admission(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = SkippingClock()
        self.upstream = ScriptedUpstream(self.clock)
        self.links = Links(self.upstream)
        self.stored = (MemoryTable(), MemoryTable())
        given = configuration.load(
            {
                "AzureWebJobsStorage": "UseDevelopmentStorage=true",
                "AZURE_OPENAI_API_BASE": "https://example.openai.azure.com/",
                "AZURE_OPENAI_API_KEY": "upstream-secret",
            }
        )
        model = given.catalog.models[0]
        deployments = tuple(replace(each, max_running=4, creates_per_minute=30) for each in model.deployments)
        catalog = Catalog((replace(model, deployments=deployments),))
        self.settings = replace(given, catalog=catalog, max_budget=GATEWAY_LIMIT)
        self.boot()
        self.owners = [self.runner.run(self.gateway.keys.issue(each)).key_id for each in KEYS]
        self.steps: dict[str, tuple[str, StepResult | None]] = {}  # where each orchestration stands
        self.answers: dict[tuple[str, str], str] = {}  # idempotency key → the video that was answered

    def boot(self) -> None:
        """A process that knows nothing but what is stored."""
        self.faults = Faults()
        tables = FaultyTables(self.settings.storage, self.faults, inner=self.stored)
        gateway = composition.build(self.settings, self.clock, Random(1), self.links, tables)
        archive = NoBlobs(self.settings.storage, lambda: None, self.clock, 60)
        self.gateway = replace(
            gateway,
            archive=archive,
            rendering=replace(gateway.rendering, archive=archive),
            lifecycle=replace(gateway.lifecycle, archive=archive),
        )

    def teardown(self) -> None:
        self.runner.run(self.gateway.close())
        self.runner.close()

    @rule(
        owner=st.integers(0, 1),
        prompt=st.sampled_from(["A cat", "A dog"]),
        seconds=st.sampled_from([4, 8, 12]),
        key=st.sampled_from([None, None, "a", "b"]),
        fault=FAULTS,
    )
    def create(self, owner: int, prompt: str, seconds: int, key: str | None, fault: Fault) -> None:
        """A request; with a key, what was answered once is answered again."""
        owner_id = self.owners[owner]
        request = parse_create({"prompt": prompt, "seconds": seconds}, self.settings.catalog)
        identity = read_identity({"idempotency-key": key} if key else {}, request, self.clock.now())
        admitted = self.run(lambda gateway: gateway.lifecycle.start(request, owner_id, identity), fault)
        if admitted is None:
            return
        if key is not None:
            assert self.answers.setdefault((owner_id, key), admitted.video.id) == admitted.video.id
        self.steps.setdefault(admitted.video.id, ("submit", None))

    @rule(which=WHICH, fault=FAULTS)
    def step(self, which: int, fault: Fault) -> None:
        """The next step of an orchestration. One that died or raised is delivered again later."""
        for video_id in self.one(which):
            self.advance(video_id, fault)

    @rule(which=WHICH, fault=FAULTS)
    def whole_life(self, which: int, fault: Fault) -> None:
        """Several steps at once, to a good end if nothing comes between."""
        for video_id in self.one(which):
            for name in STEPS[:3]:
                if self.steps[video_id][0] == name:
                    self.advance(video_id, fault if name == "finish" else None)
                    self.upstream_goes_on("completed")

    @rule(which=WHICH, name=st.sampled_from(STEPS[:3]), fault=FAULTS)
    def duplicate(self, which: int, name: str, fault: Fault) -> None:
        """A step that an orchestration has reached or passed is delivered once more."""
        for video_id in self.one(which):
            reached, failure = self.steps[video_id]
            if STEPS.index(name) <= STEPS.index(reached):
                self.deliver(video_id, name, failure, fault)

    @rule(which=WHICH, fault=FAULTS)
    def delete(self, which: int, fault: Fault) -> None:
        """The caller gives a video up: a waiting, a running, a finished or a deleted one."""
        for video_id in self.one(which):
            self.give_up(video_id, fault)

    @rule(status=st.sampled_from(["completed", "failed", "in_progress"]))
    def upstream_goes_on(self, status: str) -> None:
        for job in self.upstream.jobs.values():
            if job["status"] not in ("completed", "failed"):
                job["status"] = status

    @rule(seconds=st.sampled_from([1, 30, 70, 1000]))
    def time_passes(self, seconds: int) -> None:
        self.clock.skip(seconds)

    @rule()
    def sweep(self) -> None:
        """Nothing runs, time passes, the repair runs: then the holds are those of the unfinished
        videos.
        """
        self.boot()
        self.clock.skip(11 * 60)
        engine = Engine()
        self.run(lambda gateway: Sweep(gateway, engine).run(), None)
        for video_id in sorted(engine.started, reverse=True):
            self.steps[video_id] = ("submit", None)
        videos = self.videos()
        for video_id in [each for each in engine.started if videos[each].finished]:
            for _ in range(20):
                self.advance(video_id, None)
                self.clock.skip(200)
        videos = self.videos()
        held = {row.key.removeprefix("hold_") for row in self.rows(GATEWAY_OWNER, "hold_")}
        unfinished = {each.id for each in videos.values() if not each.finished}
        assert held == unfinished
        assert self.account(GATEWAY_OWNER).spend == sum(each.spent for each in videos.values())

    @invariant()
    def counters_say_what_the_videos_say(self) -> None:
        for owner, limits in zip(self.owners, KEYS, strict=True):
            account = self.account(owner)
            videos = [each for each in self.videos().values() if each.owner == owner]
            assert recount(account, videos) == account
            assert limits.max_budget is not None
            assert account.reserved + account.spend <= limits.max_budget
            assert limits.max_parallel_requests is None or account.running <= limits.max_parallel_requests
            assert limits.seconds_limit is None or account.seconds_used + account.seconds_reserved <= limits.seconds_limit

    @invariant()
    def the_gateways_budget_covers_every_key(self) -> None:
        whole = self.account(GATEWAY_OWNER)
        holds = {row.key.removeprefix("hold_"): row.values["cost"] for row in self.rows(GATEWAY_OWNER, "hold_")}
        assert (whole.reserved, whole.running) == (sum(holds.values()), len(holds))
        assert whole.reserved + whole.spend <= GATEWAY_LIMIT
        unfinished = {each.id: each.cost for each in self.videos().values() if not each.finished}
        assert unfinished.items() <= holds.items(), "what is unfinished is held"

    @invariant()
    def nothing_is_admitted_and_forgotten(self) -> None:
        (model,) = self.settings.catalog.models
        noted = set(self.stored[1].keys(partition_of(model.name)))
        assert {each.id for each in self.videos().values() if not each.finished} <= noted

    @invariant()
    def money_follows_the_job(self) -> None:
        """A price is reserved for every job that has not been seen to end, also of a deleted
        video; what is charged was completed.
        """
        for video in self.videos().values():
            job = self.upstream.jobs.get(video.upstream_id or "")
            if job is not None and job["status"] not in ("completed", "failed") and video.finished:
                assert video.error_code in _GIVEN_UP, "no time-out, and its job runs on unpaid"
            if video.status == "completed":
                assert job is None or job["status"] == "completed"

    @invariant()
    def every_video_that_can_be_listed_is_listed_both_ways(self) -> None:
        for owner in self.owners:
            newest_first = {row.key for row in self.rows(owner, "video_")}
            listings = {f"video_{reversed_id(row.key[4:])}" for row in self.rows(owner, "old_")}
            shown = {each.id for each in self.videos().values() if each.owner == owner and not each.deleted}
            assert newest_first == listings == shown

    @invariant()
    def every_video_has_its_line(self) -> None:
        """An open one from before its admission; what it has cost, before it is forgotten."""
        opened = {row.key.removeprefix("open_") for row in self.rows(SPEND, "open_")}
        done = {row.key.removeprefix("done_"): row.values for row in self.rows(SPEND, "done_")}
        assert not opened & done.keys()
        for video in self.videos().values():
            assert video.id in opened or (video.finished and video.id in done)
        for video_id, values in done.items():
            video = self.videos()[video_id]
            assert (values["status"], values["cost"]) == (video.status, video.cost)

    @invariant()
    def no_video_has_two_jobs(self) -> None:
        bound = [each.upstream_id for each in self.videos().values() if each.upstream_id]
        assert len(bound) == len(set(bound))
        assert len(self.upstream.jobs) <= len(self.videos())

    def run(self, operation: Operation[T], fault: Fault) -> T | None:
        """What comes of it; None where it was refused, raised, or died with its process."""
        return self.runner.run(self._run(operation, fault))

    async def _run(self, operation: Operation[T], fault: Fault) -> T | None:
        faults = self.faults
        kind, count = fault or ("", 0)
        if kind == "dies":
            faults.dies_after = len(faults.commits) + count
        elif kind:
            faults.after = _loses(count, WriteConflict("lost") if kind == "conflict" else StorageUnavailable("lost"))
        task, death = asyncio.ensure_future(operation(self.gateway)), asyncio.ensure_future(faults.died.wait())
        await asyncio.wait({task, death}, return_when=asyncio.FIRST_COMPLETED)
        if kind == "dies":  # there or right after its last write: nobody hears of the result
            others = {task, *asyncio.all_tasks()} - {asyncio.current_task()}
            for each in others:
                each.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            self.boot()
            return None
        death.cancel()
        faults.after = lambda _: None
        try:
            return task.result()
        except (RequestError, StorageUnavailable, WriteConflict):
            return None

    def advance(self, video_id: str, fault: Fault) -> None:
        name, failure = self.steps[video_id]
        if name == "done":
            return
        outcome = self.deliver(video_id, name, failure, fault)
        if outcome is None or "again" in outcome:
            return
        following = {"submit": "check", "check": "finish", "finish": "done"}[name]
        self.steps[video_id] = ("finish", outcome) if "failed" in outcome else (following, failure)

    def give_up(self, video_id: str, fault: Fault) -> None:
        self.run(lambda gateway: gateway.lifecycle.delete(video_id), fault)

    def deliver(self, video_id: str, name: str, failure: StepResult | None, fault: Fault) -> StepResult | None:
        async def finish(gateway: Gateway) -> StepResult:
            await gateway.lifecycle.finish(video_id, failure["failed"] if failure else None)
            return {"done": True}

        operations: dict[str, Operation[StepResult]] = {
            "submit": lambda gateway: gateway.submission.submit(video_id),
            "check": lambda gateway: gateway.rendering.check(video_id),
            "finish": finish,
        }
        return self.run(operations[name], fault)

    def one(self, which: int) -> list[str]:
        """One of the videos, if there are any: by age, since ids are different in every run."""
        known = list(self.steps)
        return [known[which % len(known)]] if known else []

    def rows(self, partition: str, prefix: str) -> list[Row]:
        return [row for key, row in self.stored[0].partitions[partition].rows.items() if key.startswith(prefix)]

    def videos(self) -> dict[str, Video]:
        rows = [row for owner in self.owners for prefix in ("video_", "gone_") for row in self.rows(owner, prefix)]
        ids = [row.key.removeprefix("gone_") for row in rows]
        assert len(set(ids)) == len(ids), "a video lies in one place"
        return {video_id: row.read(Video, id=video_id) for video_id, row in zip(ids, rows, strict=True)}

    def account(self, owner: str) -> Account:
        rows = self.rows(owner, "key")
        return rows[0].read(Account) if rows else Account()


def _loses(count: int, error: Exception) -> Callable[[Sequence[Write]], None]:
    """The answer of one commit, after so many others."""
    left = [count]

    def after(_: Sequence[Write]) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise error

    return after


TestAdmission: Any = Admission.TestCase
TestAdmission.settings = settings(max_examples=80, stateful_step_count=30)
