"""Whole MP4s, cut ones, and what only pretends to be one."""

from itertools import pairwise
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import NotAVideo
from shared.media.mp4 import Mp4Check
from tests.fakes.films import box, small_film

INDEX_LAST, INDEX_FIRST, FRAGMENTS = "use_metadata_tags", "faststart", "frag_keyframe+empty_moov"


def recorded(folder: Path, flags: str) -> bytes:
    """Half a second of real H.264, laid out as `movflags` say."""
    file = folder / "film.mp4"
    with av.open(str(file), "w", options={"movflags": flags}) as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(8):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    return file.read_bytes()


@pytest.fixture(params=[INDEX_LAST, INDEX_FIRST, FRAGMENTS])
def film(request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
    return recorded(tmp_path, request.param)


def check(*chunks: bytes) -> int:
    """The length of a whole MP4. Raises NotAVideo."""
    reader = Mp4Check()
    for chunk in chunks:
        reader.feed(chunk)
    reader.finish()
    return reader.length


def verdict(*chunks: bytes) -> str:
    try:
        return f"whole, {check(*chunks)} bytes"
    except NotAVideo as error:
        return error.message


def boundaries(data: bytes) -> list[int]:
    """Where the top-level boxes begin, and where the last one ends."""
    places = [0]
    while places[-1] < len(data):
        places.append(places[-1] + int.from_bytes(data[places[-1] : places[-1] + 4], "big"))
    return places


def test_real_films_are_whole(film: bytes) -> None:
    """With the index before or after the media, or in fragments."""
    assert check(film) == len(film)


def test_a_film_may_arrive_byte_by_byte(film: bytes) -> None:
    """No chunk needs to hold a header."""
    assert check(*(film[at : at + 1] for at in range(len(film)))) == len(film)


def test_a_film_that_ends_inside_a_box_is_refused(film: bytes) -> None:
    """Wherever it was cut."""
    whole_boxes = boundaries(film)
    for end in range(len(film)):
        if end not in whole_boxes:
            assert "cut short" in verdict(film[:end]), end


@pytest.mark.parametrize("flags", [INDEX_LAST, INDEX_FIRST])
def test_a_film_that_ends_before_its_last_needed_box_is_refused(tmp_path: Path, flags: str) -> None:
    """A cut right between two boxes leaves no torn box: then the index or the media is missing.

    What stands behind the last needed box is padding. A film in fragments, cut between two of them,
    is a shorter whole film, and so is one whose last box is said to go on to the end: there only
    the length that the server promised can tell, which the archive compares.
    """
    film = recorded(tmp_path, flags)
    kinds = {film[at + 4 : at + 8]: after for at, after in pairwise(boundaries(film))}
    needed = max(kinds[b"moov"], kinds[b"mdat"])
    for end in boundaries(film):
        assert verdict(film[:end]).startswith("whole") == (end >= needed), end


PIECES = st.sampled_from(
    [
        small_film(20),
        box(b"ftyp", b"isom"),
        box(b"moov", b"index"),
        box(b"mdat", b"media"),
        box(b"free"),
        b"\0\0\0\1mdat" + (20).to_bytes(8, "big") + b"long",
        b"\0\0\0\1mdat" + (3).to_bytes(8, "big"),
        b"\0\0\0\0mdat",
        b"\0\0\0\7free",
        b"<!doctype html><html>",
        b"\0\0\0",
    ]
)
FILMS = st.lists(PIECES, max_size=5).map(b"".join) | st.binary(max_size=60)


@settings(max_examples=300)
@given(FILMS, st.data())
def test_the_verdict_does_not_depend_on_the_chunks(data: bytes, draw: st.DataObject) -> None:
    """Any split of the same bytes gives the same answer."""
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    chunks = [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]
    assert b"".join(chunks) == data
    told = [each if "cut short" not in each else "cut short" for each in (verdict(data), verdict(*chunks))]
    assert told[0] == told[1]


def test_the_layouts_differ(tmp_path: Path) -> None:
    """So that the tests above mean something."""
    order = [recorded(tmp_path, flags) for flags in (INDEX_LAST, INDEX_FIRST, FRAGMENTS)]
    assert [each.index(b"moov") < each.index(b"mdat") for each in order] == [False, True, True]
    assert [each.count(b"moof") > 0 for each in order] == [False, False, True]


MEDIA, INDEX, TYPE = box(b"mdat", b"media"), box(b"moov", b"index"), box(b"ftyp", b"isom")
LONG = b"\0\0\0\1mdat" + (16 + 5).to_bytes(8, "big") + b"media"
TO_THE_END = b"\0\0\0\0mdat" + b"media"


@pytest.mark.parametrize(
    "data",
    [
        TYPE + INDEX + MEDIA,
        TYPE + MEDIA + INDEX,
        TYPE + box(b"free") + INDEX + MEDIA + box(b"free", b"\0" * 9),
        TYPE + LONG + INDEX,
        TYPE + INDEX + LONG,
        TYPE + INDEX + TO_THE_END,
        TYPE + INDEX + b"\0\0\0\0mdat",
        TYPE + INDEX + b"\0\0\0\1mdat" + (16).to_bytes(8, "big"),
    ],
)
def test_sizes_come_in_three_forms(data: bytes) -> None:
    """32 bits, 64 bits, and to the end of the file; a box may be empty."""
    assert check(data) == len(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "lacks"),
        (b"\0\0\0", "cut short"),
        (b"<!doctype html><title>502</title>", "not an MP4"),
        (b'{"error":{"message":"no"}}', "not an MP4"),
        (b"\x1a\x45\xdf\xa3\0\0\0\0webm", "not an MP4"),
        (INDEX + TYPE + MEDIA, "not an MP4"),
        (TYPE, "lacks"),
        (TYPE + INDEX, "lacks"),
        (TYPE + MEDIA, "lacks"),
        (TYPE + TO_THE_END + INDEX, "lacks"),
        (b"\0\0\0\0ftyp" + INDEX + MEDIA, "lacks"),
        (TYPE + INDEX + MEDIA + b"\0\0\0\7free", "damaged"),
        (TYPE + INDEX + b"\0\0\0\1mdat" + (15).to_bytes(8, "big"), "damaged"),
        (TYPE + INDEX + LONG[:12], "cut short"),
        (TYPE + INDEX + LONG[:-1], "cut short"),
        (TYPE + INDEX + MEDIA + b"\0", "cut short"),
        (TYPE + INDEX + (2**31).to_bytes(4, "big") + b"mdat", "cut short"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, said: str) -> None:
    """Cut short, another format, damaged, or without a part that every film has."""
    assert said in verdict(data)


def test_another_format_is_refused_at_its_first_box() -> None:
    """Without reading a gigabyte of it."""
    with pytest.raises(NotAVideo):
        Mp4Check().feed(b"<html>..")
