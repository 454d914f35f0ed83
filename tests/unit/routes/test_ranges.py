"""Conditions and ranges (RFC 9110, sections 13 and 14): a case a line, then every case at once."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import PreconditionFailed, RangeNotSatisfiable
from shared.routes.ranges import described, select
from shared.storage.blobs import Stored

TAG, OTHER = '"0x8DD"', '"0x8DE"'
FILE = Stored(1000, TAG, datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC))
BEFORE, THEN, AFTER = (f"Sat, 28 Nov 2026 {hour}:00:00 GMT" for hour in (11, 12, 13))
WHOLE = (200, 0, 999)


def selected(headers: dict[str, str], method: str = "GET", file: Stored = FILE) -> tuple[int, int, int]:
    """Status, first and last byte; an error has no bytes."""
    try:
        selection = select(method, headers, file)
    except (PreconditionFailed, RangeNotSatisfiable) as error:
        return error.status, 0, -1
    return selection.status, selection.first, selection.last


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=999-999", 999, 999),
        ("bytes=500-", 500, 999),
        ("bytes=0-", 0, 999),
        ("bytes=-1", 999, 999),
        ("bytes=-300", 700, 999),
        (" bytes=1-2 ", 1, 2),
        ("Bytes=1-2", 1, 2),
        ("bytes= ,1-2, ", 1, 2),
        ("bytes=990-2000", 990, 999),
        ("bytes=990-" + "9" * 5000, 990, 999),
        ("bytes=-5000", 0, 999),
        ("bytes=-" + "9" * 5000, 0, 999),
    ],
)
def test_one_range_is_what_it_says(header: str, first: int, last: int) -> None:
    """Both ends count; the end may be left out, and so may the beginning, for the last so many
    bytes. What lies behind the end is clipped.
    """
    assert selected({"range": header}) == (206, first, last)


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-1001", "bytes=" + "9" * 5000 + "-", "bytes=-0"])
def test_a_range_behind_the_end_cannot_be_satisfied(header: str) -> None:
    """Nor can the last zero bytes. The answer says how long the file is."""
    with pytest.raises(RangeNotSatisfiable) as refusal:
        select("GET", {"range": header}, FILE)
    assert refusal.value.headers == {"content-range": "bytes */1000"}


@pytest.mark.parametrize(
    "header",
    [
        *("", "bytes", "bytes=", "bytes=-", "items=0-5", "bytes=5-1", "bytes=a-b", "bytes=0-1,5-6"),
        *("bytes=1", "bytes=0--5", "bytes=٣-٤", "0-5", "bytes 0-5", "bytes=0 - 5"),
    ],
)
def test_what_is_not_one_good_range_is_ignored(header: str) -> None:
    """Another unit, several ranges, nonsense: the whole is a right answer to all of them."""
    assert selected({"range": header}) == WHOLE


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, WHOLE),
        ({"if-match": TAG}, WHOLE),
        ({"if-match": f"{OTHER}, {TAG}"}, WHOLE),
        ({"if-match": "*"}, WHOLE),
        ({"if-match": OTHER}, (412, 0, -1)),
        ({"if-match": f"W/{TAG}"}, (412, 0, -1)),
        ({"if-match": TAG, "if-unmodified-since": BEFORE}, WHOLE),
        ({"if-unmodified-since": THEN}, WHOLE),
        ({"if-unmodified-since": BEFORE}, (412, 0, -1)),
        ({"if-unmodified-since": "yesterday"}, WHOLE),
        ({"if-none-match": TAG}, (304, 0, -1)),
        ({"if-none-match": f"W/{TAG}"}, (304, 0, -1)),
        ({"if-none-match": f"{OTHER} , {TAG}"}, (304, 0, -1)),
        ({"if-none-match": "*"}, (304, 0, -1)),
        ({"if-none-match": OTHER}, WHOLE),
        ({"if-none-match": OTHER, "if-modified-since": AFTER}, WHOLE),
        ({"if-modified-since": THEN}, (304, 0, -1)),
        ({"if-modified-since": BEFORE}, WHOLE),
        ({"if-modified-since": "0"}, WHOLE),
        ({"if-match": OTHER, "if-none-match": TAG}, (412, 0, -1)),
        ({"if-none-match": TAG, "range": "bytes=0-0"}, (304, 0, -1)),
        ({"if-match": OTHER, "range": "bytes=0-0"}, (412, 0, -1)),
        ({"if-range": TAG, "range": "bytes=0-0"}, (206, 0, 0)),
        ({"if-range": OTHER, "range": "bytes=0-0"}, WHOLE),
        ({"if-range": f"W/{TAG}", "range": "bytes=0-0"}, WHOLE),
        ({"if-range": THEN, "range": "bytes=0-0"}, (206, 0, 0)),
        ({"if-range": AFTER, "range": "bytes=0-0"}, WHOLE),
        ({"if-range": BEFORE, "range": "bytes=0-0"}, WHOLE),
        ({"if-range": OTHER, "range": "bytes=1000-"}, WHOLE),
        ({"if-range": TAG}, WHOLE),
    ],
)
def test_conditions_are_weighed_in_their_order(headers: dict[str, str], wanted: tuple[int, int, int]) -> None:
    """`If-Match`, else `If-Unmodified-Since`; `If-None-Match`, else `If-Modified-Since`; then
    `If-Range`. Where a range or a state is at stake, a weak tag proves nothing.
    """
    assert selected(headers) == wanted


@pytest.mark.parametrize("header", ["bytes=0-0", "bytes=1000-"])
def test_a_range_is_of_a_get_alone(header: str) -> None:
    """HEAD tells of the whole."""
    assert selected({"range": header}, "HEAD") == WHOLE


def test_what_is_selected_is_described() -> None:
    """Its length always, where it lies in the file, and the file's own validators."""
    always = {"accept-ranges": "bytes", "etag": TAG, "last-modified": THEN}
    part = select("GET", {"range": "bytes=-10"}, FILE)
    assert described(FILE, part) == {**always, "content-length": "10", "content-range": "bytes 990-999/1000"}
    assert described(FILE, select("HEAD", {}, FILE)) == {**always, "content-length": "1000"}
    assert described(FILE, select("GET", {"if-none-match": "*"}, FILE)) == always


@given(st.integers(0, 50), st.integers(0, 60) | st.none(), st.integers(0, 60) | st.none())
def test_every_range_is_what_slicing_gives(total: int, first: int | None, last: int | None) -> None:
    """In files of any length, empty ones too."""
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    numbers = list(range(total))
    status, start, end = selected({"range": header}, file=Stored(total, TAG, FILE.modified))
    wanted = numbers[max(total - (last or 0), 0) :] if first is None else numbers[first : total if last is None else last + 1]
    if status == 200:
        assert first is None if last is None else first is not None and last < first
    else:
        assert numbers[start : end + 1] == wanted
        assert (status == 416) == (wanted == [])


@given(
    st.dictionaries(
        st.sampled_from(["range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"]),
        st.text(max_size=20) | st.text(max_size=20).map("bytes=".__add__) | st.sampled_from([TAG, THEN]),
    )
)
def test_no_header_crashes_the_reading(headers: dict[str, str]) -> None:
    """Whatever a client sends."""
    assert selected(headers)[0] in (200, 206, 304, 412, 416)
