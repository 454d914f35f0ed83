"""The rules of `Range` (RFC 9110, section 14), one test each."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.routes.ranges import CannotSatisfy, read_range

TOTAL = 1000


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
    ],
)
def test_one_range_is_what_it_says(header: str, first: int, last: int) -> None:
    """Both ends count; the end may be left out, and so may the beginning, for the last so many
    bytes.
    """
    assert read_range(header, TOTAL, largest=TOTAL) == (first, last)


@pytest.mark.parametrize("header", ["bytes=990-2000", "bytes=990-" + "9" * 30])
def test_an_end_behind_the_end_is_clipped(header: str) -> None:
    """Players ask for more than there is."""
    assert read_range(header, TOTAL, largest=TOTAL) == (990, 999)


@pytest.mark.parametrize("header", ["bytes=-5000", "bytes=-" + "9" * 30])
def test_a_suffix_longer_than_the_file_is_the_file(header: str) -> None:
    """The last 5000 bytes of 1000 are all of them."""
    assert read_range(header, TOTAL, largest=TOTAL) == (0, 999)


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-1001", "bytes=" + "9" * 30 + "-", "bytes=-0"])
def test_a_range_behind_the_end_cannot_be_satisfied(header: str) -> None:
    """Nor can the last zero bytes."""
    with pytest.raises(CannotSatisfy):
        read_range(header, TOTAL, largest=TOTAL)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-5", "bytes=-5"])
def test_nothing_of_an_empty_file_can_be_asked_for(header: str) -> None:
    """There is no first byte."""
    with pytest.raises(CannotSatisfy):
        read_range(header, 0, largest=TOTAL)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "items=0-5",
        "bytes=5-1",
        "bytes=a-b",
        "bytes=0-1,5-6",
        "bytes=1",
        "bytes=0--5",
        "bytes=٣-٤",
        "0-5",
    ],
)
def test_what_is_not_one_good_range_is_ignored(header: str) -> None:
    """No header, another unit, several ranges, nonsense: the whole is a right answer to all of
    them.
    """
    assert read_range(header, TOTAL, largest=TOTAL) is None


def test_a_long_range_is_cut_short() -> None:
    """The client asks for the rest."""
    assert read_range("bytes=100-", TOTAL, largest=10) == (100, 109)
    assert read_range("bytes=100-104", TOTAL, largest=10) == (100, 104)


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(0, 60) | st.none(), st.integers(0, 60) | st.none(), st.integers(1, 20))
def test_every_answer_lies_within_the_file(total: int, first: int | None, last: int | None, largest: int) -> None:
    """And is exactly what slicing gives, as far as one piece goes."""
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    numbers = list(range(total))
    end = total if last is None else last + 1
    wanted = numbers[max(total - (last or 0), 0) :] if first is None else numbers[first:end]
    try:
        found = read_range(header, total, largest=largest)
    except CannotSatisfy:
        assert wanted == []
        return
    if found is None:
        assert (first, last) == (None, None) or (first is not None and last is not None and last < first)
        return
    assert wanted[:largest] == numbers[found[0] : found[1] + 1]


@settings(deadline=None)
@given(st.text(max_size=20).map("bytes=".__add__) | st.text(max_size=20), st.integers(0, 100))
def test_no_header_crashes_the_reading(header: str, total: int) -> None:
    """Whatever a client sends."""
    try:
        found = read_range(header, total, largest=7)
    except CannotSatisfy:
        return
    assert found is None or 0 <= found[0] <= found[1] < total
