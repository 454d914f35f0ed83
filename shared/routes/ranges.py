"""One byte range of a `Range` header (RFC 9110, section 14)."""

import re

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_MOST_DIGITS = 18  # of a position, enough for any file: `int` refuses thousands of them


class CannotSatisfy(Exception):
    """No byte of the range exists."""


def read_range(header: str, total: int, *, largest: int) -> tuple[int, int] | None:
    """The first and the last byte to send; None for the whole body: without a header, with another
    unit, with several ranges, or malformed.

    A range longer than `largest` bytes is shortened, which RFC 9110 allows: the client asks for the
    rest. Raises CannotSatisfy where no byte of the range lies within `total` bytes.
    """
    match = _RANGE.fullmatch(header.strip())
    if not match or match.group(1, 2) == ("", ""):
        return None
    first, last = (int(digits[:_MOST_DIGITS]) if digits else None for digits in match.groups())
    if first is None:  # `bytes=-500`: the last 500
        start, end = total - min(last or 0, total), total - 1
    elif last is not None and last < first:
        return None
    else:
        start, end = first, total - 1 if last is None else min(last, total - 1)
    if start > end:
        raise CannotSatisfy
    return start, min(end, start + largest - 1)
