"""The simulator's films: they play, have the size and length asked for, and show what they were
made of.
"""

import asyncio
from io import BytesIO
from pathlib import Path

import av
import pytest
from PIL import Image, ImageChops

from local.simulator.film import SPRITESHEET, THUMBNAIL, VIDEO, Scene, Studio, pad_with_free_box, pictures, shoot
from shared.media.mp4 import Mp4Check
from tests.fakes.simulator import colour_at, duration, picture

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("size", "seconds"),
    [((720, 1280), 4), ((1280, 720), 4), ((1024, 1792), 4), ((1792, 1024), 4), ((128, 72), 8), ((128, 72), 12)],
)
def test_a_film_has_exactly_the_size_and_length_asked_for(tmp_path: Path, size: tuple[int, int], seconds: int) -> None:
    """PyAV finds an H.264 stream of that many pixels, and every one of its frames can be
    decoded.
    """
    shoot(Scene("A cat", size, seconds), tmp_path)
    with av.open(str(tmp_path / VIDEO), "r") as container:
        assert container.duration == seconds * 1_000_000
        (stream,) = container.streams
        assert isinstance(stream, av.VideoStream)
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", *size)
        assert sum(1 for _ in container.decode(stream)) == stream.frames


def test_the_index_comes_before_the_media(tmp_path: Path) -> None:
    """A player can start before the whole film has arrived."""
    shoot(Scene("A cat", (1280, 720), 4), tmp_path)
    film = (tmp_path / VIDEO).read_bytes()
    assert 0 < film.index(b"moov") < film.index(b"mdat")


def test_the_pictures_move_and_the_prompt_decides_them() -> None:
    """Neither two frames of a film nor the same frame of two films are alike."""
    first, second, *_ = pictures(Scene("A cat", (1280, 720), 4))
    other, *_ = pictures(Scene("A dog", (1280, 720), 4))
    assert ImageChops.difference(first, second).getbbox()
    assert ImageChops.difference(first, other).getbbox()


def test_the_prompt_is_drawn() -> None:
    """Over the same background, another prompt makes another picture, and both have white letters
    on a dark panel.
    """
    background = picture((720, 1280), colour="blue")
    cat, *_ = pictures(Scene("A cat", (720, 1280), 4, background))
    dog, *_ = pictures(Scene("A dog", (720, 1280), 4, background))
    changed = ImageChops.difference(cat, dog).getbbox()
    assert changed is not None
    levels = cat.crop(changed).convert("L").tobytes()
    assert min(levels) < 40
    assert max(levels) > 200


@pytest.mark.parametrize("prompt", ["x" * 32_000, "word " * 6_000, "\n\t \0", "漢字かな交じり文 🎬", "-"])
def test_any_prompt_can_be_drawn(prompt: str) -> None:
    """Very long, unbroken, blank and foreign prompts leave most of the picture visible."""
    green = picture((1280, 720), colour="lime")
    frame, *_ = pictures(Scene(prompt, (1280, 720), 4, green))
    assert frame.getpixel((640, 5)) == (0, 255, 0)


def test_a_reference_image_is_the_first_picture(tmp_path: Path) -> None:
    """It is seen where it was, and drifts away later; the thumbnail comes from the same frames."""
    reference = Image.new("RGB", (1280, 720), "red")
    reference.paste("blue", (0, 0, 640, 720))
    encoded = BytesIO()
    reference.save(encoded, "PNG")
    scene = Scene("A cat", (1280, 720), 4, encoded.getvalue())
    frames = list(pictures(scene))
    assert frames[0].getpixel((100, 50)) == (0, 0, 255)
    assert frames[0].getpixel((1200, 50)) == (255, 0, 0)
    assert frames[len(frames) // 2].getpixel((100, 50)) == (255, 0, 0)
    shoot(scene, tmp_path)
    with Image.open(tmp_path / THUMBNAIL) as thumbnail:
        red, _, blue = colour_at(thumbnail, 100, 50)
    assert red > 200 > blue


def test_thumbnail_and_sprite_sheet_are_a_webp_and_a_jpeg(tmp_path: Path) -> None:
    """The sheet holds eight pictures, each a quarter as wide and as high."""
    shoot(Scene("A cat", (720, 1280), 4), tmp_path)
    with Image.open(tmp_path / THUMBNAIL) as thumbnail, Image.open(tmp_path / SPRITESHEET) as sheet:
        assert (thumbnail.format, thumbnail.size) == ("WEBP", (720, 1280))
        assert (sheet.format, sheet.size) == ("JPEG", (4 * 180, 2 * 320))


async def test_a_film_is_made_once(tmp_path: Path) -> None:
    """Callers at the same moment and later ones get the same file, also from a new studio."""
    scene = Scene("A cat", (1280, 720), 4)
    studio = Studio(tmp_path)
    first, second = await asyncio.gather(studio.film("a", scene), studio.film("a", scene))
    made = (first / VIDEO).stat()
    again = await Studio(tmp_path).film("a", scene)
    assert first == second == again
    assert ((again / VIDEO).stat().st_ino, (again / VIDEO).stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    studio.discard("a")
    assert not first.exists()


async def test_a_draft_left_by_a_killed_process_is_made_anew(tmp_path: Path) -> None:
    """Half a film is never shown."""
    (tmp_path / "a.draft").mkdir()
    (tmp_path / "a.draft" / VIDEO).write_bytes(b"half")
    folder = await Studio(tmp_path).film("a", Scene("A cat", (1280, 720), 4))
    assert b"moov" in (folder / VIDEO).read_bytes()
    assert [each.name for each in folder.parent.iterdir()] == ["a"]


def test_a_padded_film_still_plays(tmp_path: Path) -> None:
    """It has exactly the wanted length, all its boxes are whole, and its duration is unchanged."""
    shoot(Scene("A cat", (1280, 720), 4), tmp_path)
    body, zeros = pad_with_free_box((tmp_path / VIDEO).read_bytes(), 5_000_000)
    padded = body + bytes(zeros)
    assert len(padded) == 5_000_000
    check = Mp4Check()
    check.feed(padded)
    check.finish()
    assert duration(padded) == 4


@pytest.mark.parametrize("short", [0, 99, 100, 107])
def test_a_film_without_room_for_a_box_is_left_alone(short: int) -> None:
    """A box header takes eight bytes: less cannot be filled."""
    assert pad_with_free_box(bytes(100), short) == (bytes(100), 0)
