"""Which pictures of a film a thumbnail and a sprite sheet show."""

import io
import struct
from collections.abc import Callable
from typing import Any

import av
import pytest
from PIL import Image

from shared.media import preview
from shared.media.preview import draw
from tests.fakes.films import BLUE, GREEN, RED, WHITE, playable, silent_radio, small_film

COLOURS = {"red": RED, "green": GREEN, "blue": BLUE, "white": WHITE}
UNDRAWABLE = (ValueError, av.FFmpegError)


def drawn(film: bytes, variant: str = "thumbnail", seconds: float = 60.0) -> Image.Image:
    return Image.open(io.BytesIO(draw(io.BytesIO(film), variant, seconds)))


def colour(image: Image.Image, x: int, y: int) -> str:
    """The name of the colour that a pixel is nearest to."""
    pixel = image.convert("RGB").getpixel((x, y))
    assert isinstance(pixel, tuple)
    return min(COLOURS, key=lambda name: sum(abs(a - b) for a, b in zip(pixel, COLOURS[name], strict=True)))


def colours(sheet: Image.Image) -> list[str]:
    """Of the sprites, in reading order."""
    width, height = sheet.width // 4, sheet.height // 4
    return [colour(sheet, width * x + width // 2, height * y + height // 2) for y in range(4) for x in range(4)]


KINDS = {
    "one keyframe, index last": {},
    "keyframes alone": {"every_key": True},
    "index first": {"flags": "faststart"},
    "in fragments": {"every_key": True, "flags": "frag_keyframe+empty_moov"},
    "another codec": {"codec": "mpeg4"},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_thumbnail_shows_the_middle_and_a_sprite_sheet_the_whole(kind: dict[str, Any]) -> None:
    """Four seconds of four colours: the third begins in the middle; each has four sprites."""
    film = playable(**kind)
    thumbnail, sheet = drawn(film), drawn(film, "spritesheet")
    assert (thumbnail.format, thumbnail.size, colour(thumbnail, 32, 24)) == ("WEBP", (64, 48), "blue")
    assert (sheet.format, sheet.size) == ("JPEG", (4 * 64, 4 * 48))
    assert colours(sheet) == [name for name in COLOURS for _ in range(4)]


def test_a_frame_is_shown_until_the_next_one_begins() -> None:
    """Where frames come at uneven times: here the middle is in the long second one."""
    film = playable(times=[0, 500, 8000, 9000])
    assert colour(drawn(film), 32, 24) == "green"
    assert colours(drawn(film, "spritesheet")) == ["red"] + ["green"] * 12 + ["blue"] * 2 + ["white"]


@pytest.mark.parametrize(
    ("size", "thumbnail", "sprite"),
    [((1920, 1080), (1280, 720), (320, 180)), ((1080, 1920), (720, 1280), (180, 320)), ((2048, 2), (1280, 1), (320, 1))],
)
def test_large_pictures_are_made_smaller(size: tuple[int, int], thumbnail: tuple[int, int], sprite: tuple[int, int]) -> None:
    """In their own proportions."""
    film = playable(size=size)
    assert drawn(film).size == thumbnail
    assert drawn(film, "spritesheet").size == (4 * sprite[0], 4 * sprite[1])


def test_a_film_that_lies_on_its_side_is_turned_upright() -> None:
    """As phones write them: the pixels lie, and the header has a quarter turn clockwise."""
    film = bytearray(playable())
    matrix = film.index(b"tkhd") + 4 + 40  # version 0 has 40 bytes of numbers before it
    film[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    assert drawn(bytes(film)).size == (48, 64)


def test_damage_costs_no_more_than_the_pictures_that_it_hits() -> None:
    """The rest of the film shows what it has."""
    film = bytearray(playable(every_key=True, flags="faststart"))
    with av.open(io.BytesIO(film), "r") as container:
        _, second, *_ = [(packet.pos or 0, packet.size) for packet in container.demux(video=0)]
    film[second[0] : sum(second)] = b"\xff" * second[1]
    assert colours(drawn(bytes(film), "spritesheet")) == ["red"] * 8 + ["blue"] * 4 + ["white"] * 4


def test_decoding_that_takes_too_long_shows_what_it_has_reached() -> None:
    """Rather than nothing: the only keyframe of a long film, or the last one before the moment."""
    assert colour(drawn(playable(), seconds=0.0), 32, 24) == "red"
    assert colour(drawn(playable(every_key=True), seconds=0.0), 32, 24) == "blue"


def test_a_film_is_as_long_as_its_frames() -> None:
    """Whatever the headers say: they are no part of what is played."""
    film = bytearray(playable())
    for kind, at in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20), (b"elst", 8)):
        place = film.index(kind) + 4 + at
        film[place : place + 4] = struct.pack(">I", 2**31 - 1)
    assert colour(drawn(bytes(film)), 32, 24) == "blue"


BAD: dict[str, Callable[[], bytes]] = {
    "no film": lambda: b"<html>busy</html>",
    "boxes alone": lambda: small_film(5000),
    "cut off before its index": lambda: playable()[:-100],
    "sound alone": silent_radio,
    "no frame": lambda: playable(colours=[], flags="empty_moov"),
    "a playlist": lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n",
    "a list of files": lambda: b"ffconcat version 1.0\nfile /etc/hostname\n",
    "a codec that films do not come in": lambda: playable(codec="mjpeg"),
}


@pytest.mark.parametrize("film", BAD.values(), ids=BAD)
def test_what_shows_nothing_is_refused(film: Callable[[], bytes]) -> None:
    """By an error, whose words go to the log."""
    with pytest.raises(UNDRAWABLE):
        draw(io.BytesIO(film()), "thumbnail")


def test_frames_above_the_largest_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small film may have frames of 16,384 pixels a side, of a gigabyte each."""
    film = playable(size=(66, 48))
    monkeypatch.setitem(preview._LIMITS, "max_pixels", str(64 * 48))
    with pytest.raises(UNDRAWABLE):
        draw(io.BytesIO(film), "thumbnail")
    assert drawn(playable()).size == (64, 48)
