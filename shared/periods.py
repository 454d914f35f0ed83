"""Lengths of time as key settings write them (`30d`, `1mo`), and the budget windows they make.

A window is computed from its anchor whenever it is needed, so nothing has to run when one ends.
"""

import calendar
import re
from datetime import UTC, datetime, timedelta

from shared.errors import InvalidRequest

# At most three digits of months: 999 months later is still a date, a million months are not.
_LENGTH = re.compile(r"([1-9]\d{0,5})(s|m|h|d|(?<!\d{4})mo)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def check_length(text: object, param: str) -> str:
    """Returns `text` if it is a length such as 30s, 30m, 30h, 30d or 1mo. Raises InvalidRequest."""
    if isinstance(text, str) and _LENGTH.fullmatch(text):
        return text
    raise InvalidRequest(f"`{param}` must be a length of time such as 30s, 30m, 30h, 30d or 1mo.", param=param)


def later(start: datetime, length: str, times: int = 1) -> datetime:
    """`start` plus `times` lengths. Months keep the day of the month, or take the month's last day
    if that is earlier.
    """
    match = _LENGTH.fullmatch(length)
    if match is None:
        raise ValueError(f"not a length of time: {length!r}")
    number, unit = int(match[1]) * times, match[2]
    if unit != "mo":
        return start + timedelta(seconds=number * _SECONDS[unit])
    year, month = divmod(start.year * 12 + start.month - 1 + number, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return start.replace(year=year, month=month + 1, day=day)


def window(anchor: datetime, length: str, now: datetime) -> tuple[datetime, datetime]:
    """The window that contains `now`, as (start, end) with start ≤ now < end. Before the anchor it
    is the first window.
    """
    anchor, now = anchor.astimezone(UTC), now.astimezone(UTC)
    passed = max(0, _periods(anchor, length, now))
    return later(anchor, length, passed), later(anchor, length, passed + 1)


def _periods(anchor: datetime, length: str, now: datetime) -> int:
    """The number of whole windows between anchor and now."""
    if not length.endswith("mo"):
        return int((now - anchor) // (later(anchor, length) - anchor))
    months = (now.year - anchor.year) * 12 + now.month - anchor.month
    guess = max(0, months // int(length[:-2]))
    return guess if later(anchor, length, guess) <= now else guess - 1
