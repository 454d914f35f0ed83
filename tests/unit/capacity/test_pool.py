"""The pool on a table in memory: any interleaving of several instances keeps the limits, and turns
are fair.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from shared.capacity.pool import Pool, Slot, Wait
from shared.capacity.render_times import RenderTimes
from shared.capacity.shards import shard_of
from shared.capacity.slots import Load, Outage, State
from shared.capacity.standing import Standings
from shared.capacity.waiting_line import Queue
from shared.config.catalog import KNOWN_MODELS, Catalog, Deployment, Model
from shared.dialects.known import AZURE
from shared.media.video import Video, new_id
from shared.storage.tables import Row
from tests.fakes.clock import SkippingClock
from tests.fakes.loop import JumpingLoop
from tests.trials.scale.tables import CountedTable, Operations

pytestmark = pytest.mark.anyio

T = TypeVar("T")
Limits = list[tuple[int, int]]  # of each deployment: running at once, creates a minute


@dataclass
class Bell:
    """Hears who is woken; with `broken` nobody is."""

    heard: list[str] = field(default_factory=list)
    broken: bool = False

    async def wake(self, video_id: str) -> None:
        if self.broken:
            raise RuntimeError("404")
        self.heard.append(video_id)


@dataclass
class Yard:
    """A model on some deployments, and instances of its pool that share a table."""

    limits: Limits
    instances: int = 2
    clock: SkippingClock = field(default_factory=SkippingClock)
    table: CountedTable = field(default_factory=lambda: CountedTable(Operations(), Random(0)))

    def __post_init__(self) -> None:
        deployments = tuple(
            Deployment(f"d{number}", dialect=AZURE, model="m", base_url="", max_running=running, creates_per_minute=creates)
            for number, (running, creates) in enumerate(self.limits)
        )
        self.model = Model("a/model", KNOWN_MODELS["sora-2"], deployments)
        self.pools = [self.instance(self.model, number) for number in range(self.instances)]
        self.pool = self.pools[0]

    def instance(self, model: Model, number: int) -> Pool:
        """The pool of one instance, with its own configuration."""
        render_times = RenderTimes(self.table, self.clock, 120.0)
        return Pool(self.table, Catalog((model,)), self.clock, Random(number), render_times)

    def video(self, owner: int, prompt: str = "", source: str | None = None) -> Video:
        self.clock.skip(0.002)  # no two at the same millisecond
        now = self.clock.now()
        video_id = new_id(f"key_{owner:08x}", now)
        return Video(
            id=video_id,
            model="a/model",
            created_at=now,
            prompt=prompt or video_id,
            seconds=4,
            size="720x1280",
            cost=1,
            source_deployment=source,
            source_upstream_id=source and "job",
        )

    async def arrive(self, owner: int, priority: int = 1, source: str | None = None, prompt: str = "") -> Video:
        """A video that has entered, and asked for the first time."""
        video = self.video(owner, prompt, source)
        await self.pool.enter(self.model, video.id)
        await self.pool.acquire(self.model, video, priority)
        return video

    async def ask(self, video: Video) -> Slot | Wait | Outage:
        return await self.pool.acquire(self.model, video)

    async def first_to_start(self, videos: Iterable[Video]) -> Video | None:
        """The first of them that gets a slot, asked in this order."""
        for video in videos:
            if isinstance(await self.ask(video), Slot):
                await self.pool.answered(self.model.name, self.holder(video) or "", video.id)
                return video
        return None

    async def freed(self, video: Video) -> None:
        """The job has ended upstream."""
        await self.pool.ended(msgspec.structs.replace(video, deployment=self.holder(video)))

    async def accepted(self, video: Video) -> None:
        """The upstream has answered the create, and that is on record."""
        name = self.holder(video) or ""
        await self.pool.answered(self.model.name, name, video.id)
        await self.pool.wake_followers(msgspec.structs.replace(video, deployment=name))

    async def end(self, video: Video) -> None:
        """The video is finished, and a minute later its create no longer counts."""
        await self.pool.leave(self.model.name, video.id)
        self.clock.skip(1)

    def rows(self, prefix: str) -> list[str]:
        return [key for key in self.table.keys("a:model") if key.startswith(prefix)]

    def load(self, deployment: str) -> Load:
        row = self.table.peek("a:model", shard_of(deployment))
        return (msgspec.json.decode(row.values["state"], type=State) if row else State()).load(deployment)

    def holder(self, video: Video) -> str | None:
        """The deployment whose slot a video holds, or has been offered."""
        names = [each.name for each in self.model.deployments]
        return next((name for name in names if video.id in self.load(name).leases), None)

    def ring(self, *, broken: bool = False) -> "Bell":
        """From now on wake-ups are heard."""
        bell = Bell(broken=broken)
        for pool in self.pools:
            pool.wake_ups.go_through(bell)
        return bell


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Coroutine tests run on a loop whose time passes at once."""
    return "asyncio", {"loop_factory": JumpingLoop}


async def test_the_first_of_another_key_waits_for_nobody_twice() -> None:
    """With 500 jobs of one key waiting, another's first starts when each slot has been given out at
    most once more.
    """
    yard = Yard([(2, 100)])
    many = [await yard.arrive(1) for _ in range(500)]
    running = [video for video in many if yard.holder(video)]
    assert len(running) == 2
    waiting = [video for video in many if video not in running]
    late = await yard.arrive(2)
    for _ in range(3):
        await yard.end(running.pop(0))
        started = await yard.first_to_start([*waiting[:5], late])  # the worst order for it
        assert started is not None
        if started is late:
            break
        running.append(started)
        waiting.remove(started)
    else:
        raise AssertionError("it waited for more than one start a slot")


async def test_nobody_jumps_the_queue() -> None:
    """Who comes while somebody waits stands in line, also where a slot has just become free."""
    yard = Yard([(1, 100)])
    running, first = await yard.arrive(1), await yard.arrive(2)
    await yard.end(running)
    late = await yard.arrive(3)
    assert yard.holder(late) is None
    assert await yard.first_to_start([late, first]) == first


async def test_equals_start_in_the_order_they_came() -> None:
    """Keys whose first jobs wait for the same turn are served oldest first."""
    yard = Yard([(1, 100)])
    running = await yard.arrive(9)
    line = [await yard.arrive(owner) for owner in (5, 1, 7, 3)]
    for expected in line:
        await yard.end(running)
        started = await yard.first_to_start(reversed(line))
        assert started == expected
        running = expected


async def test_priority_three_starts_three_for_one() -> None:
    """Of forty starts thirty are its own, and at no moment is either key two of its turns
    behind.
    """
    yard = Yard([(1, 100)])
    running = await yard.arrive(9)
    line = [await yard.arrive(owner, priority) for owner, priority in [(1, 1)] * 15 + [(3, 3)] * 35]
    begun: list[str] = []
    for _ in range(40):
        await yard.end(running)
        places = yard.rows("wait_")
        line.sort(key=lambda video: next(i for i, each in enumerate(places) if place_of(video) in each))
        started = await yard.first_to_start(line)
        assert started is not None
        line.remove(started)
        begun.append(started.owner)
        running = started
        assert abs(begun.count("key_00000003") - 3 * begun.count("key_00000001")) <= 3
    assert begun.count("key_00000003") == 30


async def test_who_was_refused_is_next_again() -> None:
    """A 429 puts a job back to the head of the queue; its deployment rests, and another takes it at
    once where one is free.
    """
    yard = Yard([(1, 2)])
    first = await yard.arrive(1)
    others = [await yard.arrive(owner) for owner in (2, 3)]
    slot = await yard.ask(first)
    assert isinstance(slot, Slot)
    await yard.pool.return_slot(yard.model, first, slot.deployment, 30.0)
    assert len(yard.rows("wait_")) == 3
    assert place_of(first) in yard.rows("wait_")[0]
    wait = await yard.ask(first)
    assert isinstance(wait, Wait)
    assert (await position(yard, first), wait.seconds >= 29) == (1, True)
    yard.clock.skip(31)
    assert await yard.first_to_start([*others, first]) == first


async def test_a_refused_job_moves_to_another_deployment() -> None:
    """What one refuses, another may take at once."""
    yard = Yard([(1, 2), (1, 2)])
    video = await yard.arrive(1)
    slot = await yard.ask(video)
    assert isinstance(slot, Slot)
    await yard.pool.return_slot(yard.model, video, slot.deployment, 30.0)
    again = await yard.ask(video)
    assert isinstance(again, Slot)
    assert again.deployment != slot.deployment


async def test_the_dead_are_passed_by() -> None:
    """An offer that is not taken up lapses, and the next in the queue gets the slot; the video that
    slept is first for the slot after it.
    """
    yard = Yard([(1, 100)])
    running = await yard.arrive(9)
    dead, living, late = [await yard.arrive(owner) for owner in (1, 2, 3)]
    bell = yard.ring()
    await yard.end(running)
    assert yard.holder(dead) == "d0"
    assert isinstance(await yard.ask(living), Wait)
    yard.clock.skip(20)
    await yard.pool.hand_out(yard.model)
    assert isinstance(await yard.ask(late), Wait)
    assert bell.heard == [dead.id, living.id]
    assert isinstance(await yard.ask(living), Slot)
    await yard.end(living)
    assert isinstance(await yard.ask(dead), Slot)


async def test_a_remix_runs_where_its_source_lives() -> None:
    """It waits for that deployment although others are free, keeps nobody from those, and ends
    where its own is lost.
    """
    yard = Yard([(1, 100), (1, 100)])
    source = yard.model.deployments[1]
    running = [await yard.arrive(9, source="d1")]
    await yard.end(await yard.arrive(8, source="d0"))
    remix = await yard.arrive(1, source="d1")
    assert yard.holder(running[0]) == "d1"
    assert isinstance(await yard.ask(remix), Wait)
    other = await yard.arrive(2)
    assert await yard.ask(other) == Slot(yard.model.deployments[0])
    await yard.end(running[0])
    assert await yard.ask(remix) == Slot(source)
    await yard.pool.take_down(yard.model, source, "model_retired", 600, lost=True)
    refused = await yard.ask(await yard.arrive(3, source="d1"))
    assert isinstance(refused, Outage)
    assert refused.reason == "model_retired"
    assert await yard.ask(remix) == Slot(source)  # what runs there runs on


async def test_a_place_gets_better_and_its_sleep_shorter() -> None:
    """A video deep in the queue sleeps long; the first looks after two minutes."""
    yard = Yard([(1, 100)])
    await yard.arrive(9)
    line = [await yard.arrive(1) for _ in range(60)]
    waits = [await yard.ask(video) for video in line]
    assert all(isinstance(wait, Wait) for wait in waits)
    seconds = [wait.seconds for wait in waits if isinstance(wait, Wait)]
    assert 120 <= seconds[0] <= 132
    assert 2000 < seconds[-1] <= 48 * 3600 * 1.1
    places = [await yard.pool.standing(video) for video in line]
    assert [place.position for place in places if place] == list(range(1, 61))
    starts = [place.start for place in places if place]
    assert starts == sorted(starts)


async def test_a_place_moves_up_with_the_queue_and_one_reading_serves_everybody() -> None:
    """However many callers ask, an instance reads the queue once in five seconds; who has come
    since has no place yet.
    """
    yard = Yard([(1, 100)])
    running = await yard.arrive(9)
    line = [await yard.arrive(1) for _ in range(130)]
    assert [await position(yard, each) for each in (line[50], line[-1])] == [51, 130]
    for video in line[:10]:
        await yard.pool.leave(yard.model.name, video.id)
    late = await yard.arrive(2)
    assert [await position(yard, each) for each in (line[50], late, running)] == [51, None, None]
    yard.clock.skip(5)
    assert [await position(yard, each) for each in (line[50], line[-1], line[0])] == [42, 121, None]
    assert await position(yard, late) == 1, "another key's first video"


async def test_a_slow_reading_of_one_models_queue_holds_up_no_other() -> None:
    """Nor is it done twice by those who wait for it."""
    go = asyncio.Event()
    reads: list[str] = []
    nobody: list[Row] = []

    class HeldUp(Queue):
        async def places(self, model_name: str, page: int | None = None, select: Sequence[str] = ()) -> AsyncIterator[Row]:
            reads.append(model_name)
            if model_name == "slow":
                await go.wait()
            for row in nobody:
                yield row

    yard = Yard([(1, 100)])
    pool, quick = yard.pool, yard.model
    standings = Standings(HeldUp(yard.table, yard.clock), pool.shards, pool.render_times, yard.clock)
    slow = [asyncio.create_task(standings.waiting(Model("slow", quick.capability, ()))) for _ in range(3)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await standings.waiting(quick) == 0
    assert not any(each.done() for each in slow)
    go.set()
    await asyncio.gather(*slow)
    assert reads == ["slow", quick.name]


async def test_leaving_twice_frees_once() -> None:
    """Whoever ends a video, and however often: one slot, one place, one note."""
    yard = Yard([(1, 100)])
    running, waiting = await yard.arrive(1), await yard.arrive(2)
    for video in (waiting, waiting, running, running):
        await asyncio.gather(*(pool.leave(yard.model.name, video.id) for pool in yard.pools))
    assert (yard.rows("video_"), yard.rows("wait_"), yard.load("d0").leases) == ([], [], {})


async def test_a_restarted_submit_keeps_its_slot() -> None:
    """Asking again with a slot in hand gives the same one, on every instance."""
    yard = Yard([(2, 100)])
    video = await yard.arrive(1)
    slots = [await pool.acquire(yard.model, video) for pool in yard.pools]
    assert slots == [Slot(yard.model.deployments[0])] * 2
    assert list(yard.load("d0").leases) == [video.id]


async def position(yard: Yard, video: Video) -> int | None:
    standing = await yard.pool.standing(video)
    return standing.position if standing else None


def place_of(video: Video) -> str:
    """The end of its place's key: the id's digits turned round."""
    return "".join("fedcba9876543210"[int(digit, 16)] for digit in video.id.removeprefix("video_"))


@dataclass
class Life:
    """What the machine knows of one video. `accepted` and `ends` are moments at the upstream."""

    video: Video
    priority: int
    deployment: str | None = None
    accepted: float | None = None
    answered: bool = False
    dead: bool = False
    has_asked: bool = False

    @property
    def waits(self) -> bool:
        return self.has_asked and self.deployment is None and self.accepted is None


class PoolMachine(RuleBasedStateMachine):
    """Any order of arrivals, looks from several instances at once, refusals, crashes and ends."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=JumpingLoop)
        self.lives: dict[str, Life] = {}
        self.accepts: dict[str, list[float]] = {}

    def teardown(self) -> None:
        self.runner.close()

    @initialize(limits=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=3))
    def begin(self, limits: Limits) -> None:
        """The third instance has not yet read a configuration with the newest deployment."""
        self.yard = Yard(limits, instances=3)
        former = replace(self.yard.model, deployments=self.yard.model.deployments[:2])
        self.models = [self.yard.model, self.yard.model, former]
        self.yard.pools[2] = self.yard.instance(former, 2)
        self.yard.ring()

    @rule(owner=st.integers(1, 4), same=st.booleans(), remix=st.booleans(), count=st.integers(1, 4))
    def arrive(self, owner: int, same: bool, remix: bool, count: int) -> None:
        async def all_at_once() -> None:
            source = "d0" if remix else None
            videos = [self.yard.video(owner, "the same" if same else "", source) for _ in range(count)]
            for video in videos:
                self.lives[video.id] = Life(video, 3 if owner == 3 else 1)
            await asyncio.gather(*(self.yard.pool.enter(self.yard.model, video.id) for video in videos))
            await asyncio.gather(*(self._look(self.lives[video.id], number) for number, video in enumerate(videos)))

        self._run(all_at_once())

    @rule(seed=st.integers(0, 1000))
    def everybody_looks(self, seed: int) -> None:
        lives = [life for life in self.lives.values() if not life.dead and life.deployment is None]
        Random(seed).shuffle(lives)

        async def look() -> None:
            await asyncio.gather(*(self._look(life, seed + number) for number, life in enumerate(lives)))

        self._run(look())

    @precondition(lambda self: self.asking())
    @rule(data=st.data())
    def the_upstream_accepts(self, data: st.DataObject) -> None:
        """At any time between slot and answer."""
        life = data.draw(st.sampled_from(self.asking()))
        deployment = self.yard.model.deployment(life.deployment or "")
        assert deployment is not None
        now = life.accepted = self._now()
        running = [each for each in self.lives.values() if each.deployment == deployment.name and each.accepted is not None]
        assert len(running) <= deployment.max_running
        made = self.accepts.setdefault(deployment.name, [])
        made.append(now)
        assert sum(each > now - 60 for each in made) <= deployment.creates_per_minute

    @precondition(lambda self: self.accepted())
    @rule(data=st.data())
    def the_answer_arrives(self, data: st.DataObject) -> None:
        life = data.draw(st.sampled_from(self.accepted()))
        self._run(self._pool(data).answered("a/model", life.deployment or "", life.video.id))
        life.answered = True

    @precondition(lambda self: self.asking())
    @rule(data=st.data(), rest=st.sampled_from([None, 0.0, 10.0, 300.0]))
    def the_upstream_refuses(self, data: st.DataObject, rest: float | None) -> None:
        life = data.draw(st.sampled_from(self.asking()))
        deployment = self.yard.model.deployment(life.deployment or "")
        assert deployment is not None
        tag = self.yard.load(deployment.name).leases[life.video.id].tag
        self._run(self._pool(data).return_slot(self.yard.model, life.video, deployment, rest))
        life.deployment = None
        assert f"wait_{tag:015d}_{place_of(life.video)}" in self.yard.rows("wait_")

    @precondition(lambda self: self.lives)
    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        """Done, deleted while it waits, or given up while it is asked for: whoever says so, and
        twice.
        """
        life = data.draw(st.sampled_from(list(self.lives.values())))
        if life.accepted is None and life.deployment is not None:
            return  # an unclear create is looked for first
        del self.lives[life.video.id]

        async def leave() -> None:
            await asyncio.gather(*(pool.leave("a/model", life.video.id) for pool in self.yard.pools))

        self._run(leave())

    @precondition(lambda self: self.lives)
    @rule(data=st.data(), dead=st.booleans())
    def dies_or_comes_back(self, data: st.DataObject, dead: bool) -> None:
        life = data.draw(st.sampled_from(list(self.lives.values())))
        life.dead = dead or (life.accepted is not None and life.deployment is None)

    @rule(data=st.data(), seconds=st.sampled_from([10.0, 300.0]), lost=st.booleans())
    def closes(self, data: st.DataObject, seconds: float, lost: bool) -> None:
        deployment = data.draw(st.sampled_from(self.yard.model.deployments))
        self._run(self._pool(data).take_down(self.yard.model, deployment, "denied", seconds, lost=lost))

    @rule(data=st.data())
    def fails(self, data: st.DataObject) -> None:
        self._run(self._pool(data).rest(self.yard.model, data.draw(st.sampled_from(self.yard.model.deployments))))

    @precondition(lambda self: any(life.answered and life.deployment for life in self.lives.values()))
    @rule(data=st.data())
    def the_job_ends(self, data: st.DataObject) -> None:
        """Its slot is free, while the video is still unfinished; said twice."""
        life = data.draw(st.sampled_from([each for each in self.lives.values() if each.answered and each.deployment]))

        async def end() -> None:
            video = msgspec.structs.replace(life.video, deployment=life.deployment)
            await asyncio.gather(*(pool.ended(video) for pool in self.yard.pools))

        self._run(end())
        life.deployment, life.dead = None, True  # it asks for no slot any more

    @rule(data=st.data())
    def the_sweep_hands_out(self, data: st.DataObject) -> None:
        instance = data.draw(st.integers(0, 2))
        self._run(self.yard.pools[instance].hand_out(self.models[instance]))

    @rule(seconds=st.sampled_from([0.5, 5.0, 20.0, 59.0, 62.0]))
    def time_passes(self, seconds: float) -> None:
        self.yard.clock.skip(seconds)

    @invariant()
    def the_books_are_right(self) -> None:
        if not hasattr(self, "yard"):
            return
        assert self.yard.rows("video_") == sorted(self.lives)
        places = {key.rpartition("_")[2] for key in self.yard.rows("wait_")}
        waiting = {life.video.id for life in self.lives.values() if place_of(life.video) in places}
        assert len(waiting) == len(self.yard.rows("wait_"))
        offered = set[str]()
        for deployment in self.yard.model.deployments:
            leases = self.yard.load(deployment.name).leases
            assert len(leases) <= deployment.max_running
            holders = {life.video.id for life in self.lives.values() if life.deployment == deployment.name}
            assert {video_id for video_id, lease in leases.items() if not lease.offered} == holders
            mine = {video_id for video_id, lease in leases.items() if lease.offered}
            assert not mine & (offered | waiting)  # a video that waits has a place or an offer, and one of them
            offered |= mine
        assert waiting | offered == {life.video.id for life in self.lives.values() if life.waits}

    async def _look(self, life: Life, number: int) -> None:
        instance = number % len(self.yard.pools)
        source = life.video.source_deployment
        turn = await self.yard.pools[instance].acquire(self.models[instance], life.video, life.priority)
        life.has_asked = life.has_asked or not isinstance(turn, Outage)
        if isinstance(turn, Slot):
            assert source in (None, turn.deployment.name)
            life.deployment = turn.deployment.name

    def asking(self) -> list[Life]:
        return [life for life in self.lives.values() if life.deployment is not None and life.accepted is None]

    def accepted(self) -> list[Life]:
        return [life for life in self.lives.values() if life.accepted is not None and not life.answered]

    def _pool(self, data: st.DataObject) -> Pool:
        return data.draw(st.sampled_from(self.yard.pools))

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def _now(self) -> float:
        return self.yard.clock.now().timestamp()


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=25, stateful_step_count=30)
