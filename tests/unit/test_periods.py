"""Lengths of time and budget windows."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidRequest
from shared.periods import check_length, later, window

LENGTHS = ("30s", "30m", "30h", "30d", "1mo", "12mo", "1s", "999999s", "999999d", "999mo")
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis adds the zone


@pytest.mark.parametrize("text", LENGTHS)
def test_a_length_as_people_write_it_is_taken(text: str) -> None:
    """Every unit of the contract, and every length that still ends in a year the calendar has."""
    assert check_length(text, "duration") == text
    assert later(datetime(2026, 11, 22, tzinfo=UTC), text, 2).year < 9999


WRONG_TEXTS = ("", "30", "s", "0d", "-1d", "1.5h", "1 d", "1w", "1mo ", "1mo\n", "01d", "1D", "٣d")
TOO_LONG = ("1000mo", "999999mo", "9" * 5000 + "d")


@pytest.mark.parametrize("text", [*WRONG_TEXTS, *TOO_LONG, 30, None, True, 1.0, ["1d"], {"d": 1}])
def test_anything_else_is_refused(text: object) -> None:
    """A wrong unit, sign, type or size is the caller's mistake and is named; a length beyond the
    calendar is one too.
    """
    with pytest.raises(InvalidRequest) as refused:
        check_length(text, "budget_duration")
    assert refused.value.param == "budget_duration"
    assert "1mo" in refused.value.message


@pytest.mark.parametrize(
    ("start", "length", "times", "end"),
    [
        ("2026-01-31T10:00", "1mo", 1, "2026-02-28T10:00"),
        ("2024-01-31T10:00", "1mo", 1, "2024-02-29T10:00"),
        ("2026-01-31T10:00", "1mo", 2, "2026-03-31T10:00"),
        ("2026-12-31T23:59", "2mo", 1, "2027-02-28T23:59"),
        ("2024-02-29T00:00", "12mo", 1, "2025-02-28T00:00"),
        ("2026-11-22T12:00", "30d", 1, "2026-12-22T12:00"),
        ("2026-11-22T12:00", "30h", 1, "2026-11-23T18:00"),
        ("2026-11-22T12:00", "30m", 3, "2026-11-22T13:30"),
        ("2026-11-22T12:00", "30s", 1, "2026-11-22T12:00:30"),
    ],
)
def test_a_month_keeps_its_day_where_the_next_month_has_it(start: str, length: str, times: int, end: str) -> None:
    """Month ends are cut to the month's last day, and come back to the anchor's day afterwards."""
    assert later(datetime.fromisoformat(start), length, times) == datetime.fromisoformat(end)


@given(anchor=TIMES, now=TIMES, length=st.sampled_from(LENGTHS))
def test_windows_follow_each_other_without_gaps(anchor: datetime, now: datetime, length: str) -> None:
    """Every moment after the anchor lies in exactly one window; the next one begins where
    it ends.
    """
    start, end = window(anchor, length, now)
    assert anchor <= start < end
    if now >= anchor:
        assert start <= now < end
    else:
        assert start == anchor, "before the anchor it is the first"
    assert window(anchor, length, end)[0] == end
    assert window(anchor, length, end - timedelta(microseconds=1)) == (start, end)
