"""What a call costs does not grow with what has been."""

import pytest

from tests.trials.bench.history import CALLS, FILTERED, History, history

pytestmark = pytest.mark.anyio

_SMALL, _LARGE = 300, 1_500
_MOST = {
    "list, newest first": 1,
    "list, oldest first": 2,
    "list, page 2, oldest first": 2,
    # Two for the first 200 ids, and two for the next thousand; a call looks at 5,200 at most.
    **dict.fromkeys(FILTERED, 4),
    "spend logs": 103,  # a page of fifty, the deleted ones read twice
    "spend report": 4,
    # Two for each of three models, of which nobody waits for a slot: unfinished videos, and slots.
    # One for webhooks that are due, one for copies that an upstream still has; and fourteen for
    # what is done once an hour.
    "sweep": 22,
}


async def test_nothing_grows_with_history() -> None:
    """Five times the videos, five times the keys: the same requests, within the bounds."""
    small: History = await history(_SMALL, 10)
    large: History = await history(_LARGE, 50)
    fewer, more = await small.counts(), await large.counts()
    assert set(more) == set(CALLS) == set(_MOST)
    assert {name: n for name, n in more.items() if n > _MOST[name]} == {}
    grown = {name: (fewer[name], more[name]) for name in CALLS if more[name] > fewer[name]}
    # A report reads the days that it was asked for: a page more for each thousand videos in them.
    assert set(grown) <= {"spend report", *FILTERED}
