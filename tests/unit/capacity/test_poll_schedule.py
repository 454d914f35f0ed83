"""When to look again: seldom while a job cannot be done, closely when it may be."""

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.capacity.poll_schedule import Pace, Usual, first_look, is_about_to_end, learn, look_after, sleep_unless_woken
from shared.capacity.render_times import RenderTimes
from tests.fakes.clock import SkippingClock
from tests.fakes.table import MemoryTable

pytestmark = pytest.mark.anyio

POLL = 5.0
PACE = Pace(POLL, 0.5)
KNOWN = Usual(140.0, 40.0, jobs=50)
seconds = st.floats(0.0, 100_000.0)
usuals = st.builds(Usual, seconds, st.floats(1.0, 100_000.0), st.integers(0, 100))


def looks(render: float, usual: Usual, *, tells: bool = True, seed: int = 1) -> tuple[int, float]:
    """How often a job of `render` seconds is looked at until it is seen to be done, and how late
    that is.
    """
    random, elapsed, count, before = Random(seed), 1.0, 1, 0
    while elapsed < render:
        progress = int(100 * elapsed / render) if tells else 0
        elapsed += look_after(elapsed, progress, usual, PACE, random, moving=progress > before)
        count, before = count + 1, progress
    return count, elapsed - render


@given(
    seconds, st.integers(0, 99), st.builds(Usual, seconds, st.floats(1.0, 100_000.0), st.integers(0, 100)), st.integers(0, 99)
)
def test_a_look_is_neither_at_once_nor_out_of_sight(elapsed: float, progress: int, usual: Usual, seed: int) -> None:
    """Whatever is known, the next look comes after half of the configured pace at the soonest, a
    few minutes at the latest; of short jobs sooner, and never before the closest pace is over.
    """
    wait = look_after(elapsed, progress, usual, PACE, Random(seed))
    pace = min(POLL, usual.mean / 4) if usual.jobs else POLL
    assert max(pace / 2, PACE.closest) <= wait <= 300 * 1.1


@pytest.mark.parametrize("render", [60.0, 100.0, 140.0, 200.0, 400.0])
def test_a_job_that_tells_its_progress_is_seen_to_end_in_few_looks(render: float) -> None:
    """Also where it takes much longer or shorter than such jobs usually do."""
    found = [looks(render, KNOWN, seed=seed) for seed in range(50)]
    assert max(count for count, _ in found) <= 16
    assert sum(late for _, late in found) / 50 <= 1.1 * POLL


@pytest.mark.parametrize("render", [80.0, 140.0, 200.0])
def test_a_job_that_tells_nothing_is_looked_at_around_its_usual_time(render: float) -> None:
    """Not before a quick one of its kind would be done, and then the closer the more likely its end
    is.
    """
    count, late = looks(render, KNOWN, tells=False)
    rising, likely = min(render - 20, 120), max(render - 140, 0)  # seconds after a quick one's time, and after the usual time
    assert count <= 4 + rising / 40 * (5 + 15 / 2 * rising / 120) + likely / 40 * 20
    assert late <= 6


def test_progress_that_stands_still_is_not_believed_for_long() -> None:
    """A job that says 50 percent for ever is looked at again before as much time as has passed is
    over once more.
    """
    for elapsed in (5.0, 20.0, 70.0, 140.0, 200.0):
        assert look_after(elapsed, 50, KNOWN, PACE, Random(1)) <= elapsed * 1.1


def test_nobody_stays_away_on_a_guess() -> None:
    """Before the first job of its kind was seen, looks are at most three times the configured pace
    apart.
    """
    guess = Usual(120.0, 60.0)
    assert all(look_after(each, 0, guess, PACE, Random(1)) <= 3 * POLL * 1.1 for each in range(0, 100, 5))


def test_what_may_never_end_is_looked_at_less_and_less() -> None:
    """Long past its time a job that shows 99 percent costs a look in three quarters of a minute,
    not every few seconds.
    """
    waits = [look_after(each, 99, KNOWN, PACE, Random(1)) for each in (150.0, 600.0, 1200.0)]
    assert waits == sorted(waits)
    assert waits[0] < 2 * POLL < 40 < waits[2]


@given(st.lists(st.floats(1.0, 5_000.0), min_size=1))
def test_what_is_usual_lies_among_what_was_seen(took: list[float]) -> None:
    """The mean is never outside of the jobs it was learned from, and the first job alone leaves the
    deviation open.
    """
    usual = Usual(120.0, 60.0)
    for each in took:
        usual = learn(usual, each)
    assert min(took) - 0.001 <= usual.mean <= max(took) + 0.001
    assert usual.deviation >= 1.0
    assert usual.jobs == len(took)
    assert learn(Usual(120.0, 60.0), took[0]).deviation == pytest.approx(30.0)


def test_an_odd_job_hardly_changes_what_is_usual() -> None:
    """One that takes twenty minutes puts the looks at the next ones off by no more than one that
    just is not odd.
    """
    spoilt = learn(KNOWN, 1_200.0)
    assert spoilt.mean - KNOWN.mean <= 0.1 * 3 * KNOWN.deviation + 0.001
    assert spoilt.deviation <= 1.2 * KNOWN.deviation


def test_a_few_jobs_put_no_look_off() -> None:
    """A single odd job may have made an estimate of less than five."""
    few, enough = Usual(1_000.0, 30.0, jobs=4), Usual(1_000.0, 30.0, jobs=5)
    assert first_look(1.0, few) == 0.0
    assert look_after(1.0, 0, few, PACE, Random(1)) <= 3 * POLL * 1.1
    assert first_look(1.0, enough) >= 290


def test_a_change_of_the_upstreams_pace_is_learned() -> None:
    """After some dozen jobs the mean has followed."""
    usual = KNOWN
    for _ in range(40):
        usual = learn(usual, 300.0)
    assert usual.mean == pytest.approx(300, rel=0.02)


@given(seconds, st.integers(0, 99))
def test_who_is_not_woken_looks_well_after_the_turn(until: float, seed: int) -> None:
    """More or less, so that not all look together: after two minutes, or two days at most."""
    slept = sleep_unless_woken(until, Random(seed))
    expected = min(max(until * 6.0, 120.0), 172_800.0)
    assert expected <= slept <= expected * 1.1


async def test_what_one_instance_learns_the_others_use() -> None:
    """For the same model and length, within a minute; other lengths stay a guess."""
    clock, table = SkippingClock(), MemoryTable()
    one, other = RenderTimes(table, clock, 120.0), RenderTimes(table, clock, 120.0)
    assert await other.of("a/model", 4) == Usual(120.0, 60.0)
    await one.learn("a/model", 4, 50.0)
    assert await other.of("a/model", 4) == Usual(120.0, 60.0)
    clock.skip(61)
    assert await other.of("a/model", 4) == Usual(50.0, 30.0, 1)
    assert await other.of("a/model", 8) == Usual(120.0, 60.0)


async def test_examples_learned_at_once_are_not_mixed_up() -> None:
    """Of two instances that learn at the same moment one may lose its example, and nothing else
    happens.
    """
    clock, table = SkippingClock(), MemoryTable()
    times = [RenderTimes(table, clock, 120.0) for _ in range(5)]
    await asyncio.gather(*(each.learn("m", 8, 90.0) for each in times))
    usual = await RenderTimes(table, clock, 120.0).of("m", 8)
    assert usual.mean == pytest.approx(90.0)
    assert 1 <= usual.jobs <= 5


def test_a_short_job_is_looked_at_in_its_own_time() -> None:
    """Jobs of three seconds are looked at every second, where the configured pace is five."""
    assert look_after(0.0, 0, Usual(3.0, 1.0, jobs=9), PACE, Random(1)) <= 1.1
    assert look_after(0.0, 0, Usual(3.0, 1.5), PACE, Random(1)) >= 2.5  # a guess shortens nothing


def test_only_progress_tells_that_a_job_is_about_to_end() -> None:
    """However long such a job usually takes."""
    assert is_about_to_end(98.0, 97, Usual(100.0, 20.0, jobs=50))
    assert not is_about_to_end(98.0, 80, Usual(100.0, 20.0, jobs=50))
    assert not is_about_to_end(98.0, 0, Usual(100.0, 20.0, jobs=50))


def test_a_job_that_is_late_is_looked_at_closely_only_while_it_moves() -> None:
    """Its progress is believed for as long as there is any; one that stands still may never end."""
    late = {moving: look_after(900.0, 99, KNOWN, PACE, Random(1), moving=moving) for moving in (True, False)}
    assert late[True] < 7
    assert late[False] > 30
