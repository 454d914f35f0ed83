"""One byte range of a `Range` header (RFC 9110, section 14)."""

import re

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


class CannotSatisfy(Exception):
    """The range begins after the end."""


def read_range(header: str, total: int, *, largest: int) -> tuple[int, int] | None:
    """First and last byte to send, or None for the whole: no header, another unit, several ranges,
    or nonsense.

    A range that is longer than `largest` bytes is cut short, which RFC 9110 allows; the client asks
    for the rest. Raises CannotSatisfy.
    """
    match = _RANGE.fullmatch(header.strip())
    if not match or match.group(1, 2) == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last[:18]), total)
        start, end = total - length, total - 1
    else:
        start, end = int(first[:18]), min(int(last[:18]) if last else total - 1, total - 1)
        if last and int(last[:18]) < int(first[:18]):
            return None
    if start >= total or end < start:
        raise CannotSatisfy
    return start, min(end, start + largest - 1)
