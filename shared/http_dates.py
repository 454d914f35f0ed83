"""Times as HTTP headers tell them (RFC 9110, sections 5.6.7 and 10.2.3)."""

from datetime import datetime
from email.utils import parsedate_to_datetime

_LONGEST = 1e9  # seconds, thirty years: a longer delay is taken for a mistake


def seconds_until(date: str | None, now: datetime) -> float | None:
    """Seconds from now to an HTTP date, negative if it is past. None if there is no date, or one
    without a zone.
    """
    try:
        return (parsedate_to_datetime(date or "") - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None


def delay(retry_after: str, now: datetime) -> float | None:
    """Seconds to wait by a `Retry-After`, which is a number of seconds or an HTTP date. None if it
    is neither, or not in the future.
    """
    try:
        seconds: float | None = float(retry_after)
    except ValueError:
        seconds = seconds_until(retry_after, now)
    return seconds if seconds is not None and 0 < seconds < _LONGEST else None
