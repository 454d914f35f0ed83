"""How soon a freed slot is used: short jobs, quick creates, the simulation's engine and hops."""

import asyncio
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from shared.errors import Unreachable
from shared.upstream.client import Accepted
from tests.fakes.loop import JumpingLoop
from tests.trials.scale import upstream as simulated
from tests.trials.scale.load import TRICKLE, Plan, Request
from tests.trials.scale.report import Findings
from tests.trials.scale.simulation import Simulation

_TRAVEL = 0.25  # seconds of a create to the upstream, and back
FREE = Plan(videos=20, deployments=1, keys=3, instances=2, max_running=30, creates_per_minute=1000)
QUICK = Plan(videos=21, deployments=2, keys=3, instances=2, max_running=2, creates_per_minute=1000)


def asked(count: int, render: float) -> list[Request]:
    """So many requests at once, of three keys in turn, for jobs that take so many seconds."""
    return [Request(0.01 * number, number % 3, f"Video {number}", 4, render, TRICKLE) for number in range(count)]


def simulate(requests: list[Request], plan: Plan = QUICK, *, lost_events: float = 0.0) -> Findings:
    """The whole gateway on the simulated clock, asked for exactly these."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        simulation = Simulation(replace(plan, videos=len(requests)), lambda _: None)
        simulation.asked = requests
        simulation.engine.lost_events = lost_events
        for place in simulation.places.values():
            place.renders = {each.prompt: each.render for each in requests}
        return runner.run(simulation.run())


def gaps(found: Findings, *, first: int = 0) -> list[float]:
    """Seconds from each end of a job to the next start on its deployment, where one came, without
    those of the first jobs there.
    """
    result = []
    for place in found.places:
        starts = sorted(job.accepted for job in place.jobs.values())
        ends = sorted(job.ends for job in place.jobs.values())
        most = place.deployment.max_running
        result += [start - end for end, start in zip(ends, starts[most:], strict=False)][first:]
    return result


@pytest.fixture(autouse=True)
def _quick_creates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "_CREATE", (0.02, 0.1))


def test_twenty_one_jobs_of_three_seconds_take_about_as_long_as_in_an_ideal_queue() -> None:
    """On four slots, an ideal queue takes 18 seconds. Where nobody is woken it is minutes."""
    found = simulate(asked(21, 3.0))
    assert all(life.completed for life in found.lives)
    assert found.seconds <= 26
    assert sum(place.refused for place in found.places) == 0


def test_slots_are_busy_while_somebody_waits() -> None:
    """Jobs of ten seconds: from the end of one at the upstream to the start of the next is less
    than a second, so nine tenths of the time are used. Each video is woken once.
    """
    found = simulate(asked(80, 10.0))
    later = gaps(found, first=4)  # until then nobody knows how long such a job takes
    gap = sum(later) / len(later)
    assert gap <= 1.0
    assert 10.0 / (10.0 + gap) >= 0.9
    assert found.wakes <= 1.1


@pytest.mark.parametrize("lost", [0.1, 0.4])
def test_lost_and_doubled_events_cost_waiting_time_alone(lost: float) -> None:
    """Of so large a share of the wake-ups some are lost and some come twice: every video completes,
    no limit is exceeded, and nothing is left over.
    """
    found = simulate(asked(60, 10.0), lost_events=lost)
    assert all(life.completed for life in found.lives)
    assert sum(place.refused for place in found.places) == 0
    assert max(place.most_running for place in found.places) == QUICK.max_running
    assert (found.rows_left, found.reserved, found.engine.died) == (0, 0, [])


@pytest.mark.parametrize("lost", [0.0, 0.4])
def test_equal_requests_follow_each_other_at_once_and_one_at_a_time(monkeypatch: pytest.MonkeyPatch, lost: float) -> None:
    """Half a second each, of two instances, on slots that are free all the time. Each is woken
    once; a wake-up that is lost costs time alone.
    """
    monkeypatch.setattr(simulated, "_CREATE", (_TRAVEL, _TRAVEL))
    found = simulate([replace(each, prompt="The same") for each in asked(20, 60.0)], FREE, lost_events=lost)
    (place,) = found.places
    starts = sorted(job.accepted for job in place.jobs.values())
    assert len(starts) == 20
    assert min(later - earlier for earlier, later in pairwise(starts)) >= 2 * _TRAVEL
    assert (found.rows_left, found.reserved, found.engine.died) == (0, 0, [])
    if not lost:
        assert starts[-1] <= 20 * (2 * _TRAVEL + 1.0)
        assert found.wakes <= 1.1


def test_two_hundred_equal_requests_cost_each_no_more_than_twenty() -> None:
    """Those far back do not look at those before them."""
    plan = replace(FREE, max_running=300)
    few, many = (simulate([replace(each, prompt="The same") for each in asked(count, 60.0)], plan) for count in (20, 200))
    assert many.operations.of() / 200 <= few.operations.of() / 20 + 5
    assert many.wakes <= 2


@dataclass
class Outage:
    """An upstream that refuses connections until `over`."""

    over: float

    def check(self) -> None:
        if asyncio.get_running_loop().time() < self.over:
            raise Unreachable("The upstream cannot be reached.")


def test_the_first_create_leaves_soon_after_an_upstream_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rest has long doubled to five minutes after an outage of eight; the next in line tries it
    every ten seconds.
    """
    outage = Outage(480.0)
    create = simulated.SimulatedUpstream.create

    async def refused(self: simulated.SimulatedUpstream, *given: object) -> Accepted:
        outage.check()
        return await create(self, *given)  # type: ignore[arg-type]

    async def pinged(self: simulated.SimulatedUpstream) -> None:
        outage.check()

    monkeypatch.setattr(simulated.SimulatedUpstream, "create", refused)
    monkeypatch.setattr(simulated.SimulatedUpstream, "ping", pinged, raising=False)
    found = simulate(asked(6, 10.0))
    first = min(job.accepted for place in found.places for job in place.jobs.values())
    assert 480 <= first <= 495
    assert all(life.completed for life in found.lives)
