"""Which part of a file a request asks for, if any: conditions and byte ranges (RFC 9110, sections
13 and 14).
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

import msgspec

from shared.errors import PreconditionFailed, RangeNotSatisfiable
from shared.storage.blobs import Stored

_RANGE = re.compile(r"bytes=(?:[ \t]*,)*[ \t]*(\d*)-(\d*)[ \t]*(?:,[ \t]*)*", re.ASCII | re.IGNORECASE)
_MOST_DIGITS = 18  # of a position, enough for any file: `int` refuses thousands of them
_ETAG = re.compile(r'(W/)?("[^"]*")')


class Selection(msgspec.Struct, frozen=True):
    """What is sent of a file: status 200 or 206 with the bytes from `first` to `last`, or 304."""

    status: int
    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1


def select(method: str, headers: Mapping[str, str], file: Stored) -> Selection:
    """What a GET or a HEAD with these headers asks for.

    A range that is malformed, of another unit, or one of several is ignored, which RFC 9110 allows:
    the whole file is a right answer to each. Raises PreconditionFailed, or RangeNotSatisfiable if
    no byte of the range lies within the file.
    """
    if not _may_go_on(headers, file):
        raise PreconditionFailed("The file is another one now than `If-Match` or `If-Unmodified-Since` says.")
    whole = Selection(200, 0, file.length - 1)
    if _is_known(headers, file):
        return Selection(304, 0, -1)
    if method != "GET" or "range" not in headers or not _is_same(headers.get("if-range"), file):
        return whole
    return _ranged(headers["range"], file.length) or whole


def described(file: Stored, selection: Selection) -> dict[str, str]:
    """The headers that tell of the file and of the selected part."""
    headers = {"accept-ranges": "bytes", "etag": file.etag, "last-modified": format_datetime(file.modified, usegmt=True)}
    if selection.status != 304:
        headers["content-length"] = str(selection.length)
    if selection.status == 206:
        headers["content-range"] = f"bytes {selection.first}-{selection.last}/{file.length}"
    return headers


def _may_go_on(headers: Mapping[str, str], file: Stored) -> bool:
    if "if-match" in headers:
        return _names(headers["if-match"], file.etag, weak=False)
    before = _date(headers.get("if-unmodified-since"))
    return before is None or file.modified <= before


def _is_known(headers: Mapping[str, str], file: Stored) -> bool:
    """Whether the client has the file already."""
    if "if-none-match" in headers:
        return _names(headers["if-none-match"], file.etag, weak=True)
    since = _date(headers.get("if-modified-since"))
    return since is not None and file.modified <= since


def _is_same(validator: str | None, file: Stored) -> bool:
    """Whether the part that the client has is of this file. A weak tag never proves that."""
    return validator is None or validator.strip() == file.etag or _date(validator) == file.modified


def _names(header: str, etag: str, *, weak: bool) -> bool:
    tags = _ETAG.findall(header)
    return header.strip() == "*" or any(tag == etag and (weak or not mark) for mark, tag in tags)


def _date(header: str | None) -> datetime | None:
    """An HTTP date; None for anything else, which RFC 9110 says to ignore."""
    try:
        given = parsedate_to_datetime(header or "")
        return (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _ranged(header: str, total: int) -> Selection | None:
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
        raise RangeNotSatisfiable("The range lies outside the file.", headers={"content-range": f"bytes */{total}"})
    return Selection(206, start, end)
