"""Times as HTTP headers tell them."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.http_dates import delay, seconds_until

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def dated(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("seconds", [-20.0, 0.0, 90.0])
def test_a_date_is_told_in_seconds_from_now(seconds: float) -> None:
    assert seconds_until(dated(seconds), NOW) == seconds


@pytest.mark.parametrize(
    "date", [None, "", "soon", "Sun, 22 Nov 2026 12:00:30", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"]
)
def test_no_date_or_one_without_a_zone_is_none(date: str | None) -> None:
    assert seconds_until(date, NOW) is None


@pytest.mark.parametrize(("told", "seconds"), [("12", 12.0), ("1.5", 1.5), (dated(90), 90.0)])
def test_a_delay_is_a_number_of_seconds_or_a_date(told: str, seconds: float) -> None:
    assert delay(told, NOW) == seconds


@pytest.mark.parametrize("told", ["", "0", "-5", "nan", "inf", "soon", dated(-90)])
def test_what_asks_for_no_future_time_is_no_delay(told: str) -> None:
    assert delay(told, NOW) is None


@given(st.text())
def test_no_text_breaks_the_reading(told: str) -> None:
    """A receiver or an upstream may send anything."""
    seconds = delay(told, NOW)
    assert seconds is None or seconds > 0
