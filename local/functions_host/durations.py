"""Durations as host.json writes them: .NET's `[d.]hh:mm:ss[.fffffff]`."""

import re

_DURATION = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2}(?:\.\d{1,7})?)")


def seconds(duration: str) -> float:
    """`"00:01:30"` is 90.0. Raises ValueError for anything else than such a duration."""
    parts = _DURATION.fullmatch(duration)
    if parts is None:
        raise ValueError(f"{duration!r} is not a duration like 00:00:30")
    days, hours, minutes, rest = parts.groups(default="0")
    return ((int(days) * 24 + int(hours)) * 60 + int(minutes)) * 60 + float(rest)
