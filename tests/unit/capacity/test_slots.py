"""The arithmetic of slots, pace and turns."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from shared.capacity import slots
from shared.capacity.slots import Lease, Load, State
from shared.config.catalog import Deployment
from shared.dialects.known import AZURE

NOW = 1_000_000.0
WINDOW = 61.0


def place(name: str = "a", max_running: int = 2, creates_per_minute: int = 2) -> Deployment:
    return Deployment(
        name, dialect=AZURE, model="m", base_url="", max_running=max_running, creates_per_minute=creates_per_minute
    )


def start(load: Load, video_id: str, now: float, *, ask: str = "", offered: bool = False) -> None:
    load.leases[video_id] = Lease(now, ask or video_id, 0, offered=offered)


def ran(load: Load, video_id: str, start_at: float, end: float) -> None:
    """A job from its create to its end."""
    start(load, video_id, start_at)
    slots.answered(load, video_id, start_at)
    slots.give_back(load, video_id, end)


def test_a_deployment_without_a_free_slot_has_no_opening() -> None:
    """Nobody can say when the job in it will end."""
    load, a = Load(), place(max_running=1, creates_per_minute=9)
    start(load, "v", NOW)
    assert slots.openings(a, load, NOW) == []


def test_a_create_counts_from_its_answer() -> None:
    """It may have reached the upstream as late as that, so the window begins there, and is open
    until then.
    """
    load, a = Load(), place(max_running=9, creates_per_minute=1)
    start(load, "v", NOW)
    assert slots.openings(a, load, NOW + 100)[0] == NOW + 100 + WINDOW
    slots.answered(load, "v", NOW + 110)
    slots.answered(load, "v", NOW + 150)  # once is enough
    assert slots.openings(a, load, NOW + 150)[0] == NOW + 110 + WINDOW
    assert slots.openings(a, load, NOW + 110 + WINDOW)[0] == NOW + 110 + WINDOW


def test_a_create_that_was_never_answered_counts_until_its_slot_is_given_back() -> None:
    """Whatever became of it, it became before that."""
    load, a = Load(), place(max_running=9, creates_per_minute=1)
    start(load, "v", NOW)
    assert slots.give_back(load, "v", NOW + 60) is not None
    assert slots.give_back(load, "v", NOW + 60) is None
    assert slots.openings(a, load, NOW + 60)[0] == NOW + 60 + WINDOW


def test_an_offer_that_nobody_took_up_is_no_create() -> None:
    """It counts for the time that it was made for, and not any more when it is given back."""
    load, a = Load(), place(max_running=2, creates_per_minute=1)
    start(load, "v", NOW + 30, offered=True)
    assert slots.openings(a, load, NOW) == [NOW + 30 + WINDOW]
    slots.give_back(load, "v", NOW)
    assert slots.openings(a, load, NOW) == [NOW, NOW + WINDOW]


def test_an_offer_is_taken_up_when_the_pace_allows() -> None:
    """Creates that were answered since count, and offers for an earlier time. Not at all while the
    deployment rests or is down.
    """
    load, a = Load(), place(max_running=3, creates_per_minute=1)
    start(load, "v", NOW, offered=True)
    start(load, "w", NOW + 1, offered=True)
    assert slots.may_create_at(a, load, "v", NOW) == NOW
    assert slots.may_create_at(a, load, "w", NOW) == NOW + WINDOW
    load.leases["w"].offered = False
    assert slots.may_create_at(a, load, "v", NOW + 1) == NOW + 1 + WINDOW
    slots.answered(load, "w", NOW + 2)
    assert slots.may_create_at(a, load, "v", NOW + 3) == NOW + 2 + WINDOW
    slots.rest(load, NOW + 3, 5)
    assert slots.may_create_at(a, load, "v", NOW + 4) is None


def test_an_offer_lapses_after_twenty_seconds() -> None:
    """Counted from the time that it was made for. A slot that was taken up never does."""
    load = Load()
    start(load, "taken", NOW)
    start(load, "offered", NOW + 30, offered=True)
    assert [[each for each in load.leases if slots.lapsed(load.leases[each], NOW + after)] for after in (50, 51)] == [
        [],
        ["offered"],
    ]


def shut(load: Load, seconds: float, *, now: float = NOW, lost: bool = False) -> None:
    slots.take_down(load, "denied", now, seconds, lost=lost, request_id=None)


def test_a_deployment_that_rests_or_is_down_is_offered_to_nobody() -> None:
    """Its openings are known all the same, unless it is lost."""
    a, resting, down, lost = place(), Load(rests_until=NOW + 30), Load(), Load()
    shut(down, 20)
    shut(lost, 10, lost=True)
    assert [slots.open_soon(a, load, NOW) for load in (resting, down, lost)] == [[], [], []]
    assert [slots.openings(a, load, NOW) for load in (resting, down, lost)] == [[NOW + 30] * 2, [NOW + 20] * 2, []]
    assert [slots.open_soon(a, load, NOW + 30)[0] for load in (resting, down, lost)] == [NOW + 30] * 3


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
        load = Load()
        for after in times:
            shut(load, 60, now=NOW + after)
            if accepted and after == 130:
                ran(load, "v", NOW + 190, NOW + 191)
        assert slots.is_lost(load, NOW + after) == lost, (times, accepted)
        assert not slots.is_lost(load, NOW + after + 60)
        assert slots.last_outage(load, NOW + after + 600) is not None


def test_what_is_gone_for_hours_is_not_opened_by_a_lesser_refusal() -> None:
    """Of two creates under way together, one is told that the model is retired, and the other only
    that it may not.
    """
    load = Load()
    shut(load, 6 * 3600, lost=True)
    shut(load, 60, now=NOW + 1)
    assert slots.is_lost(load, NOW + 3600)


def test_every_free_slot_has_an_opening_and_a_taken_one_has_none() -> None:
    """Creates of the last minute put it off, and so does the create that takes the slot before."""
    load, a = Load(), place(max_running=4, creates_per_minute=2)
    start(load, "v", NOW - 9)
    slots.answered(load, "v", NOW - 8)
    assert slots.openings(a, load, NOW) == [NOW, NOW - 8 + WINDOW, NOW + WINDOW]
    start(load, "w", NOW)
    assert slots.openings(a, load, NOW + 1) == [NOW - 8 + WINDOW, NOW + 1 + WINDOW]


def test_a_deployment_that_was_not_reached_may_be_tried_while_it_rests() -> None:
    """That it answers ends the rest, and not the count of its failures; a rest that the upstream
    asked for stands.
    """
    a, cut_off, busy = place(), Load(), Load()
    slots.rest(cut_off, NOW, None, unreachable=True)
    slots.rest(busy, NOW, 30)
    assert [slots.is_unreachable(each, NOW) for each in (cut_off, busy)] == [True, False]
    for load in (cut_off, busy):
        slots.reached(load, NOW + 1)
    assert [bool(slots.open_soon(a, load, NOW + 1)) for load in (cut_off, busy)] == [True, False]
    assert (cut_off.failures, slots.is_unreachable(cut_off, NOW + 1)) == (1, False)


def test_a_deployment_that_fails_rests_for_longer_each_time() -> None:
    """Up to five minutes, until a job of it is accepted; who says for how long is believed."""
    load = Load()
    rests = []
    for _ in range(9):
        slots.rest(load, NOW, None)
        rests.append(load.rests_until - NOW)
    assert rests == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    ran(load, "v", NOW + 300, NOW + 301)
    assert load.failures == 0
    slots.rest(load, NOW + 301, 7.0)
    assert load.rests_until == NOW + 308


def tagged(state: State, owner: str, priority: int = 1) -> int:
    """The next tag of a key, which is noted."""
    state.rounds[owner] = slots.next_tag(state.round, state.rounds.get(owner), priority)
    return state.rounds[owner]


def started(state: State, video_id: str, tag: int) -> None:
    slots.take(state, "a", video_id, Lease(NOW, "", tag))


def order(state: State, arrivals: list[tuple[str, int]]) -> list[str]:
    """The keys in the order in which their jobs start, when all have arrived."""
    tags = [(tagged(state, owner, priority), number, owner) for number, (owner, priority) in enumerate(arrivals)]
    return [owner for _, _, owner in sorted(tags)]


def test_keys_take_turns() -> None:
    """However many jobs one has."""
    assert order(State(), [("a", 1)] * 500 + [("b", 1)] * 2)[:4] == ["a", "b", "a", "b"]


def test_a_key_that_comes_late_begins_where_the_queue_stands() -> None:
    """It is not behind what others have asked for, and not paid for the time that it was away."""
    state = State()
    tags = [tagged(state, "a") for _ in range(500)]
    for tag in tags[:100]:
        started(state, f"v{tag}", tag)
    late = [tagged(state, "b") for _ in range(3)]
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
    state = State()
    for number in range(1000):
        started(state, f"v{number}", tagged(state, f"key {number}"))
        started(state, f"w{number}", tagged(state, "steady"))
    assert len(state.rounds) <= 2


def test_a_create_is_remembered_as_long_as_it_matters() -> None:
    """The list does not grow with the videos that were made."""
    load = Load()
    for number in range(200):
        ran(load, f"v{number}", NOW + 31 * number, NOW + 31 * number + 30)
    assert len(load.creates) <= 2


def test_an_estimate_follows_from_place_and_turnover() -> None:
    """The slower of the pace of creates and the turnover of slots decides; lost deployments count
    for nothing.

    Where nothing is open, it begins with the first that will be.
    """
    a, b, one, two = place("a"), place("b"), Load(), Load()
    slow, quick = 240.0, 10.0

    def estimate(run_seconds: float) -> float:
        return slots.estimated_start([(a, one), (b, two)], 3, run_seconds, NOW)

    assert estimate(slow) == NOW + 4 * slow / 4
    assert estimate(quick) == NOW + 4 * 60 / 4
    one.rests_until = two.rests_until = NOW + 500
    assert estimate(slow) == NOW + 500 + 4 * slow / 4
    one.rests_until = two.rests_until = 0
    shut(two, 1000, lost=True)
    assert estimate(slow) == NOW + 4 * slow / 2
    shut(one, 1000, lost=True)
    assert estimate(slow) == NOW + 3600


def test_a_stored_outage_is_read_by_its_old_name() -> None:
    """Rows that were written before hold it as `closing`, and so do those that are written now."""
    stored = b'{"loads":{"a":{"closing":{"reason":"denied","since":1.0,"until":%d}}}}' % (NOW + 9)
    state = msgspec.json.decode(stored, type=State)
    assert slots.outage(state.load("a"), NOW) is not None
    assert b'"closing":{' in msgspec.json.encode(state)
