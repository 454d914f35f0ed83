"""The arithmetic of slots, pace and turns."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.capacity import slots
from shared.capacity.slots import Lease, State
from shared.config.catalog import Deployment
from shared.dialects.known import AZURE

NOW = 1_000_000.0
WINDOW = 61.0


def place(name: str = "a", max_running: int = 2, creates_per_minute: int = 2) -> Deployment:
    return Deployment(
        name, dialect=AZURE, model="m", base_url="", max_running=max_running, creates_per_minute=creates_per_minute
    )


def start(state: State, deployment: Deployment, video_id: str, now: float, *, ask: str = "", tag: int = 0) -> None:
    slots.take(state, deployment, video_id, Lease(now, ask or video_id, tag))


def ran(state: State, deployment: Deployment, video_id: str, start_at: float, end: float) -> None:
    """A job from its create to its end."""
    start(state, deployment, video_id, start_at)
    slots.answered(state, video_id, start_at)
    slots.give_back(state, video_id, end)


def test_a_deployment_without_a_free_slot_is_not_ready() -> None:
    """And nobody can say when it will be."""
    state, a = State(), place(max_running=1, creates_per_minute=9)
    start(state, a, "v", NOW)
    assert slots.ready_at(a, state.load(a), "", NOW) is None
    assert slots.openings(state, [a], NOW) == []
    assert slots.free_slots(state, [a], NOW) == 0
    assert state.holder("v") == "a"


def test_a_create_counts_from_its_answer() -> None:
    """It may have reached the upstream as late as that, so the window begins there, and is open
    until then.
    """
    state, a = State(), place(max_running=9, creates_per_minute=1)
    start(state, a, "v", NOW)
    assert slots.ready_at(a, state.load(a), "", NOW + 100) == NOW + 100 + WINDOW
    slots.answered(state, "v", NOW + 110)
    slots.answered(state, "v", NOW + 150)  # once is enough
    assert slots.ready_at(a, state.load(a), "", NOW + 150) == NOW + 110 + WINDOW
    assert slots.ready_now(state, [a], "", NOW + 110 + WINDOW) == [a]


def test_a_create_that_was_never_answered_counts_until_its_slot_is_given_back() -> None:
    """Whatever became of it, it became before that."""
    state, a = State(), place(max_running=9, creates_per_minute=1)
    start(state, a, "v", NOW)
    assert slots.give_back(state, "v", NOW + 60) is not None
    assert slots.give_back(state, "v", NOW + 60) is None
    assert slots.ready_at(a, state.load(a), "", NOW + 60) == NOW + 60 + WINDOW


def shut(state: State, deployment: Deployment, seconds: float, *, now: float = NOW, lost: bool = False) -> None:
    slots.take_down(state.load(deployment), "denied", now, seconds, lost=lost, request_id=None)


def test_equal_requests_are_not_under_way_together() -> None:
    """Until the first is answered: then its job can no longer be taken for the other's."""
    state, a = State(), place(max_running=9, creates_per_minute=9)
    start(state, a, "v", NOW, ask="same")
    assert slots.ready_now(state, [a], "same", NOW) == []
    assert slots.ready_now(state, [a], "other", NOW) == [a]
    slots.answered(state, "v", NOW)
    assert slots.ready_now(state, [a], "same", NOW) == [a]


def test_a_deployment_that_rests_or_is_closed_has_no_free_slots() -> None:
    """Both are known to end; only a lost one is not spoken of until then."""
    state, a, b, c = State(), place("a"), place("b"), place("c")
    state.load(a).rests_until = NOW + 30
    shut(state, b, 20)
    shut(state, c, 10, lost=True)
    assert slots.free_slots(state, [a, b, c], NOW) == 0
    assert slots.openings(state, [a, b, c], NOW) == [NOW + 20] * 2 + [NOW + 30] * 2
    assert slots.outage(state.load(b), NOW) is not None
    assert slots.ready_now(state, [a, b, c], "", NOW + 30) == [a, b, c]


def test_a_refusal_that_lasts_is_lost_and_one_that_ends_is_forgotten() -> None:
    """Ten minutes of nothing but refusals; a job that was accepted in between begins them anew, and
    so does a silence.
    """
    for times, accepted, lost in (
        (range(0, 599, 65), False, False),
        (range(0, 660, 65), False, True),
        (range(0, 660, 65), True, False),
        ((0, 65, 600), False, False),
    ):
        state, a = State(), place()
        for after in times:
            shut(state, a, 60, now=NOW + after)
            if accepted and after == 130:
                ran(state, a, "v", NOW + 190, NOW + 191)
        assert slots.is_lost(state.load(a), NOW + after) == lost, (times, accepted)
        assert not slots.is_lost(state.load(a), NOW + after + 60)
        assert slots.last_outage(state.load(a), NOW + after + 600) is not None


def test_what_is_gone_for_hours_is_not_opened_by_a_lesser_refusal() -> None:
    """Of two creates under way together, one is told that the model is retired, and the other only
    that it may not.
    """
    state, a = State(), place()
    shut(state, a, 6 * 3600, lost=True)
    shut(state, a, 60, now=NOW + 1)
    assert slots.is_lost(state.load(a), NOW + 3600)


def test_every_free_slot_has_an_opening_and_a_taken_one_has_none() -> None:
    """Creates of the last minute put it off, and so does the create that takes the slot before."""
    state, a = State(), place(max_running=4, creates_per_minute=2)
    start(state, a, "v", NOW - 9)
    slots.answered(state, "v", NOW - 8)
    assert slots.openings(state, [a], NOW) == [NOW, NOW - 8 + WINDOW, NOW + WINDOW]
    start(state, a, "w", NOW)
    assert slots.openings(state, [a], NOW + 1) == [NOW - 8 + WINDOW, NOW + 1 + WINDOW]


def test_a_deployment_that_was_not_reached_may_be_tried_while_it_rests() -> None:
    """That it answers ends the rest, and not the count of its failures; a rest that the upstream
    asked for stands.
    """
    state, a, b = State(), place("a"), place("b")
    slots.rest(state.load(a), NOW, None, unreachable=True)
    slots.rest(state.load(b), NOW, 30)
    assert [slots.is_unreachable(state.load(each), NOW) for each in (a, b)] == [True, False]
    slots.reached(state.load(a), NOW + 1)
    slots.reached(state.load(b), NOW + 1)
    assert slots.ready_now(state, [a, b], "", NOW + 1) == [a]
    assert (state.load(a).failures, slots.is_unreachable(state.load(a), NOW + 1)) == (1, False)


def test_a_deployment_that_fails_rests_for_longer_each_time_and_the_others_come_first() -> None:
    """Up to five minutes, until a job of it is accepted; who says for how long is believed."""
    state, a, b = State(), place("a", max_running=9, creates_per_minute=9), place("b")
    rests = []
    for _ in range(9):
        slots.rest(state.load(a), NOW, None)
        rests.append(state.load(a).rests_until - NOW)
    assert rests == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert slots.ready_now(state, [a, b], "", NOW + 300) == [b, a]
    ran(state, a, "v", NOW + 300, NOW + 301)
    assert slots.ready_now(state, [a, b], "", NOW + 301) == [a, b]
    slots.rest(state.load(b), NOW, 7.0)
    assert state.load(b).rests_until == NOW + 7


def test_the_first_in_line_take_the_free_slots() -> None:
    """As many as there are slots, and nobody behind them."""
    state, a, b = State(), place("a", creates_per_minute=9), place("b", max_running=1, creates_per_minute=9)
    ran(state, a, "v", NOW - 9, NOW)
    ran(state, b, "w", NOW - 9, NOW)
    assert [slots.may_start(state, [a, b], index, NOW) for index in range(5)] == [True, True, True, False, False]


def test_a_slot_that_nobody_takes_is_passed_on() -> None:
    """After 20 seconds to one more, after 40 to three, so that sleepers and the dead do not keep a
    slot idle.
    """
    state, a = State(), place(max_running=1, creates_per_minute=9)
    ran(state, a, "v", NOW - 50, NOW)

    def may_start(after: float) -> int:
        return sum(slots.may_start(state, [a], index, NOW + after) for index in range(100))

    assert [may_start(after) for after in (0, 19, 20, 39, 40, 60, 80)] == [1, 1, 2, 2, 4, 8, 16]
    start(state, a, "w", NOW + 80)
    assert may_start(90) == 0


@pytest.mark.parametrize("kept_by", ["pace", "rest", "closed"])
def test_patience_begins_when_the_slot_can_be_used(kept_by: str) -> None:
    """A deployment that had to wait was not idle."""
    state, a = State(), place(max_running=1, creates_per_minute=1)
    ran(state, a, "v", NOW - 100 if kept_by != "pace" else NOW - 1, NOW)
    load = state.load(a)
    open_from = {"pace": NOW - 1 + WINDOW, "rest": NOW + 50, "closed": NOW + 50}[kept_by]
    if kept_by == "rest":
        load.rests_until = open_from
    if kept_by == "closed":
        shut(state, a, 50)
    assert not slots.may_start(state, [a], 0, open_from - 1)
    assert slots.may_start(state, [a], 0, open_from)
    assert not slots.may_start(state, [a], 1, open_from + 19)
    assert slots.may_start(state, [a], 1, open_from + 20)


def order(state: State, arrivals: list[tuple[str, int]]) -> list[str]:
    """The keys in the order in which their jobs start, when all have arrived."""
    tags = [(slots.tag_for(state, owner, priority), number, owner) for number, (owner, priority) in enumerate(arrivals)]
    return [owner for _, _, owner in sorted(tags)]


def test_keys_take_turns() -> None:
    """However many jobs one has."""
    assert order(State(), [("a", 1)] * 500 + [("b", 1)] * 2)[:4] == ["a", "b", "a", "b"]


def test_a_key_that_comes_late_begins_where_the_queue_stands() -> None:
    """It is not behind what others have asked for, and not paid for the time that it was away."""
    state, a = State(), place(max_running=10_000)
    tags = [slots.tag_for(state, "a", 1) for _ in range(500)]
    for tag in tags[:100]:
        start(state, a, f"v{tag}", NOW, tag=tag)
    late = [slots.tag_for(state, "b", 1) for _ in range(3)]
    assert tags[99] == late[0] < tags[100] == late[1]


@given(st.integers(1, slots.HIGHEST_PRIORITY), st.integers(1, slots.HIGHEST_PRIORITY), st.integers(1, 60))
def test_priority_is_a_share(p: int, q: int, starts: int) -> None:
    """Of any number of starts, two keys that always wait have theirs in the ratio of their
    priorities, give or take one job.
    """
    begun = order(State(), [("p", p)] * 700 + [("q", q)] * 700)[:starts]
    assert abs(begun.count("p") - starts * p / (p + q)) <= 1 + max(p, q) / (p + q)


def test_the_state_forgets_keys_that_have_had_their_turn() -> None:
    """It holds the keys that wait, not all that ever came."""
    state, a = State(), place(max_running=10_000)
    for number in range(1000):
        tag = slots.tag_for(state, f"key {number}", 1)
        start(state, a, f"v{number}", NOW, tag=tag)
        tag = slots.tag_for(state, "steady", 1)
        start(state, a, f"w{number}", NOW, tag=tag)
    assert len(state.rounds) <= 2


def test_a_create_is_remembered_as_long_as_it_matters() -> None:
    """The list does not grow with the videos that were made."""
    state, a = State(), place()
    for number in range(200):
        ran(state, a, f"v{number}", NOW + 31 * number, NOW + 31 * number + 30)
    assert len(state.load(a).creates) <= 7


def test_an_estimate_follows_from_place_and_turnover() -> None:
    """The slower of the pace of creates and the turnover of slots decides; lost deployments count
    for nothing.

    Where nothing is open, it begins with the first that will be.
    """
    state, a, b = State(), place("a"), place("b")
    slow, quick = 240.0, 10.0
    assert slots.estimated_start(state, [a, b], 3, slow, NOW) == NOW + 4 * slow / 4
    assert slots.estimated_start(state, [a, b], 3, quick, NOW) == NOW + 4 * 60 / 4
    state.load(a).rests_until = state.load(b).rests_until = NOW + 500
    assert slots.estimated_start(state, [a, b], 3, slow, NOW) == NOW + 500 + 4 * slow / 4
    state.load(a).rests_until = state.load(b).rests_until = 0
    shut(state, b, 1000, lost=True)
    assert slots.estimated_start(state, [a, b], 3, slow, NOW) == NOW + 4 * slow / 2
    shut(state, a, 1000, lost=True)
    assert slots.estimated_start(state, [a, b], 3, slow, NOW) == NOW + 3600


def test_a_stored_outage_is_read_by_its_old_name() -> None:
    """Rows that were written before hold it as `closing`, and so do those that are written now."""
    stored = b'{"loads":{"a":{"closing":{"reason":"denied","since":1.0,"until":%d}}}}' % (NOW + 9)
    state = msgspec.json.decode(stored, type=State)
    assert slots.outage(state.load(place("a")), NOW) is not None
    assert b'"closing":{' in msgspec.json.encode(state)
