"""Wake-ups that are lost, doubled or late, in any pattern, change but how long a video waits."""

import asyncio
from dataclasses import dataclass, field
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from shared.capacity.pool import Slot, Wait
from shared.media.video import Video
from tests.fakes.loop import JumpingLoop
from tests.unit.capacity.test_pool import Limits, Yard

_SWEEPS = 20.0, 40.0  # seconds between two looks of the sweep, which come at no fixed times
_MOST_SWEEPS = 4_000  # until everybody has had his turn, although nobody is woken any more


@dataclass
class Sleeper:
    """A video that waits until its timer fires at `until`, unless it is woken."""

    video: Video
    until: float


@dataclass
class Post:
    """Keeps every wake-up: none is delivered before the test says so, some never, some twice."""

    sent: list[str] = field(default_factory=list)

    async def wake(self, video_id: str) -> None:
        self.sent.append(video_id)


class WakeUpMachine(RuleBasedStateMachine):
    """Every video asks when it arrives, when it is woken, and when its timer fires; jobs end, the
    sweep looks, and time passes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=JumpingLoop)
        self.post = Post()
        self.sleepers: dict[str, Sleeper] = {}
        self.running: dict[str, Video] = {}
        self.asked: dict[str, Video] = {}  # of those that run: the upstream has not answered yet
        self.creates: list[tuple[str, float]] = []

    @initialize(limits=st.lists(st.tuples(st.integers(1, 2), st.integers(1, 3)), min_size=1, max_size=2))
    def begin(self, limits: Limits) -> None:
        self.yard = Yard(limits)
        for pool in self.yard.pools:
            pool.wake_ups.go_through(self.post)

    @rule(owner=st.integers(1, 3), count=st.integers(1, 3), prompt=st.sampled_from(["", "The same"]))
    def arrive(self, owner: int, count: int, prompt: str) -> None:
        for _ in range(count):
            video = self.yard.video(owner, prompt)
            self.runner.run(self.yard.pool.enter(self.yard.model, video.id))
            self._ask(video)

    @precondition(lambda self: self.post.sent)
    @rule(data=st.data())
    def a_wake_up_arrives(self, data: st.DataObject) -> None:
        """Any that was ever sent: late, in any order, and perhaps again."""
        sleeper = self.sleepers.get(data.draw(st.sampled_from(self.post.sent)))
        if sleeper is not None:
            self._ask(sleeper.video)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def an_answer_comes(self, data: st.DataObject) -> None:
        self._answer(data.draw(st.sampled_from(sorted(self.asked))))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_job_ends(self, data: st.DataObject) -> None:
        self._end(data.draw(st.sampled_from(sorted(self.running))))

    @rule()
    def the_sweep_looks(self) -> None:
        self.runner.run(self.yard.pool.hand_out(self.yard.model))

    @rule(seconds=st.sampled_from([0.5, 5.0, 21.0, 62.0, 300.0]))
    def time_passes(self, seconds: float) -> None:
        """And timers fire, those of the longest sleepers first."""
        self.yard.clock.skip(seconds)
        for each in sorted(self.sleepers.values(), key=lambda sleeper: sleeper.until):
            if each.until <= self._now():
                self._ask(each.video)

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        for each in self.yard.model.deployments if hasattr(self, "yard") else ():
            holders = [video for video in self.running.values() if video.deployment == each.name]
            made = [at for name, at in self.creates if name == each.name and at > self._now() - 60]
            assert len(holders) <= each.max_running
            assert len(made) <= each.creates_per_minute

    @invariant()
    def no_equal_creates_are_under_way(self) -> None:
        """At one deployment; at several of one resource `equal_asks` has the last word."""
        asked = [(video.deployment, video.prompt) for video in self.asked.values()]
        assert len(asked) == len(set(asked))

    def teardown(self) -> None:
        with self.runner:
            if hasattr(self, "yard"):
                self._everybody_gets_his_turn()

    def _everybody_gets_his_turn(self) -> None:
        """Although from now on every wake-up is lost."""
        random = Random(0)
        for _ in range(_MOST_SWEEPS):
            if not self.sleepers:
                return
            for video_id in sorted(self.running):
                self._end(video_id)
            self.the_sweep_looks()
            self.time_passes(random.uniform(*_SWEEPS))
            self.no_limit_is_exceeded()
        raise AssertionError(f"{len(self.sleepers)} videos never had their turn")

    def _ask(self, video: Video) -> None:
        answer = self.runner.run(self.yard.ask(video))
        if isinstance(answer, Wait):
            self.sleepers[video.id] = Sleeper(video, self._now() + answer.seconds)
            return
        assert isinstance(answer, Slot)
        name = answer.deployment.name
        self.sleepers.pop(video.id, None)
        self.running[video.id] = replace(video, deployment=name)
        self.creates.append((name, self._now()))
        self.asked[video.id] = self.running[video.id]

    def _answer(self, video_id: str) -> None:
        video = self.asked.pop(video_id)
        self.runner.run(self.yard.pool.answered(video.model, video.deployment or "", video_id))
        self.runner.run(self.yard.pool.wake_followers(video))

    def _end(self, video_id: str) -> None:
        if video_id in self.asked:
            self._answer(video_id)
        self.runner.run(self.yard.pool.ended(self.running.pop(video_id)))
        self.runner.run(self.yard.pool.leave(self.yard.model.name, video_id, ended=True))

    def _now(self) -> float:
        return self.yard.clock.now().timestamp()


TestWakeUpMachine = WakeUpMachine.TestCase
TestWakeUpMachine.settings = settings(max_examples=30, stateful_step_count=25)
