"""Reference images: of every kind people send, whole and broken."""

import io
import struct
import time
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageColor, ImageOps

from shared.errors import InvalidRequest
from shared.media.reference_image import check_reference

# What Pillow says about damaged EXIF data. The app refuses the image or does without the data;
# there is nothing to mend.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.*")

SIZE = "48x32"
SIDEWAYS, MIRRORED, UPSIDE_DOWN = 6, 2, 3


def picture(size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Four fields of colour, so that every way of turning it looks different."""
    image = Image.new("RGB", size, (200, 30, 30))
    half = (size[0] // 2, size[1] // 2)
    image.paste((30, 200, 30), (half[0], 0, size[0], half[1]))
    image.paste((30, 30, 200), (0, half[1], half[0], size[1]))
    return image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


def oriented(image: Image.Image, kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, kind, exif=exif)


def corners(data: bytes) -> list[tuple[int, ...]]:
    """The colours near the four corners, rounded to what survives JPEG."""
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        places = [(4, 4), (width - 5, 4), (4, height - 5), (width - 5, height - 5)]
        found = image.convert("RGB")
        pixels = [found.getpixel(place) for place in places]
    return [tuple(level > 115 for level in pixel) for pixel in pixels if isinstance(pixel, tuple)]


def with_scans(data: bytes, repeated: int) -> bytes:
    """A progressive JPEG whose last scan comes so many times again."""
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * (repeated + 1) + data[-2:]


def refusal(data: bytes, size: str = SIZE) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        check_reference(data, size)
    assert raised.value.param == "input_reference"
    return raised.value


KINDS = [
    ("JPEG", "image/jpeg", "reference.jpg"),
    ("PNG", "image/png", "reference.png"),
    ("WEBP", "image/webp", "reference.webp"),
]


@pytest.mark.parametrize(("kind", "media_type", "filename"), KINDS)
def test_an_upright_image_of_the_right_size_stays_as_it_is(kind: str, media_type: str, filename: str) -> None:
    """Byte for byte; its type is found in the bytes, and the upstream gets a name to match."""
    data = encoded(picture(), kind)
    reference = check_reference(data, SIZE)
    assert (reference.data, reference.media_type, reference.filename) == (data, media_type, filename)


def test_a_camera_that_writes_several_pictures_into_a_jpeg_is_no_surprise() -> None:
    """The format is called MPO; every reader of JPEG sees the first picture."""
    data = encoded(picture(), "MPO", save_all=True, append_images=[picture()])
    assert check_reference(data, SIZE).media_type == "image/jpeg"
    turned = encoded(picture((32, 48)), "MPO", save_all=True, append_images=[picture()], exif=b"Exif\0\0" + _exif(SIDEWAYS))
    assert corners(check_reference(turned, SIZE).data) == corners(encoded(picture((32, 48)).rotate(-90, expand=True), "PNG"))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("JPEG", mode) for mode in ("L", "1", "CMYK")] + [("PNG", mode) for mode in ("L", "1", "P", "LA", "RGBA", "I;16")],
)
@pytest.mark.parametrize("orientation", [1, SIDEWAYS])
def test_every_colour_mode_is_taken(kind: str, mode: str, orientation: int) -> None:
    """Grey, palettes, transparency, print colours: upright or to be turned."""
    data = oriented(Image.new(mode, (48, 32) if orientation == 1 else (32, 48)), kind, orientation)
    with Image.open(io.BytesIO(check_reference(data, SIZE).data)) as checked:
        assert checked.size == (48, 32)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "media_type", "_"), KINDS)
def test_an_image_that_is_stored_on_its_side_is_turned(kind: str, media_type: str, _: str, orientation: int) -> None:
    """Phones do that; what counts is what a person sees. The copy keeps its type and needs no more
    turning.
    """
    stored = picture((32, 48)) if orientation > 4 else picture()
    data = oriented(stored, kind, orientation)
    reference = check_reference(data, SIZE)
    assert reference.media_type == media_type
    with Image.open(io.BytesIO(data)) as image:
        seen = ImageOps.exif_transpose(image)
    assert corners(reference.data) == corners(encoded(seen, "PNG"))
    with Image.open(io.BytesIO(reference.data)) as image:
        assert (image.size, image.getexif().get(0x0112, 1)) == ((48, 32), 1)


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_an_orientation_that_means_nothing_means_upright(orientation: int) -> None:
    """Some cameras write 0."""
    data = oriented(picture(), "JPEG", orientation)
    assert check_reference(data, SIZE).data == data


@pytest.mark.parametrize(("size", "shown"), [((32, 48), "32x48"), ((48, 33), "48x33"), ((1, 1), "1x1"), ((96, 64), "96x64")])
def test_another_size_is_refused_with_both(size: tuple[int, int], shown: str) -> None:
    """The commonest mistake of all: the message says what is wanted and what came."""
    error = refusal(encoded(picture(size), "PNG"))
    assert SIZE in error.message
    assert shown in error.message


def test_an_image_that_only_fits_lying_down_is_refused() -> None:
    """The right pixels, but turned they stand upright."""
    assert "32x48" in refusal(oriented(picture(), "JPEG", SIDEWAYS)).message


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_formats_are_refused(kind: str) -> None:
    """Even where Pillow could read them."""
    assert "JPEG, PNG or WebP" in refusal(encoded(picture(), kind)).message


@pytest.mark.parametrize("data", [b"", b"hello", b"<svg/>", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    """Whatever its name or its first bytes promise."""
    refusal(data)


@pytest.mark.parametrize("orientation", [1, SIDEWAYS])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_that_was_cut_short_is_refused(kind: str, orientation: int) -> None:
    """Wherever it was cut: nothing is spent on half a picture."""
    image = picture((480, 320) if orientation == 1 else (320, 480))
    data = oriented(image, kind, orientation)
    for part in (0.1, 0.3, 0.5, 0.7, 0.9):
        refusal(data[: int(len(data) * part)], "480x320")


@given(st.data(), st.sampled_from(["JPEG", "PNG", "WEBP"]), st.sampled_from([1, SIDEWAYS, MIRRORED, UPSIDE_DOWN]))
def test_no_damage_crashes_the_check(data: st.DataObject, kind: str, orientation: int) -> None:
    """It passes or it is refused, wherever the bytes were changed."""
    whole = bytearray(oriented(picture((32, 48) if orientation == SIDEWAYS else (48, 32)), kind, orientation))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        check_reference(bytes(whole), SIZE)
    except InvalidRequest as error:
        assert error.code == "invalid_reference"


def test_a_small_file_with_many_pixels_is_never_unpacked() -> None:
    """80 million pixels in 120 bytes: refused by what the header says, where unpacking would find
    that the rest is missing.
    """
    error = refusal(_png_header(9_000, 9_000))
    assert "9000x9000" in error.message


def test_a_picture_of_a_billion_pixels_is_refused() -> None:
    """Pillow itself stops at such a header."""
    assert "million pixels" in refusal(_png_header(40_000, 40_000)).message


@pytest.mark.parametrize("repeated", [2_000, 20_000])
def test_a_picture_of_thousands_of_scans_is_refused_at_once(repeated: int) -> None:
    """Each scan is unpacked in full, so that 100 kB would take seconds; honest ones have ten."""
    picture_of_scans = with_scans(encoded(picture((1280, 720)), "JPEG", progressive=True), repeated)
    before = time.thread_time()
    assert "scans" in refusal(picture_of_scans, "1280x720").message
    assert time.thread_time() - before < 0.5
    assert check_reference(encoded(picture((1280, 720)), "JPEG", progressive=True), "1280x720")


def test_the_larger_a_picture_the_fewer_scans_it_may_have() -> None:
    """One that is made to fit may be large, and each scan of it takes long."""
    large = encoded(Image.new("L", (5600, 5600)), "JPEG", progressive=True)
    with pytest.raises(InvalidRequest) as raised:
        check_reference(with_scans(large, 20), "48x32", "cover")
    assert "scans" in raised.value.message
    assert check_reference(large, "48x32", "cover")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_is_made_to_fit(kind: str) -> None:
    """`cover` fills the video and cuts the sides off; `contain` shows everything, between bars."""
    wide = Image.new("RGB", (96, 32), "lime")
    wide.paste("red", (0, 0, 24, 32))
    for fit, corner, centre in (("cover", "lime", "lime"), ("contain", "black", "lime")):
        data = check_reference(encoded(wide, kind), "48x32", fit).data  # type: ignore[arg-type]
        with Image.open(io.BytesIO(data)) as fitted:
            assert (fitted.size, fitted.format) == ((48, 32), kind)
            assert near(fitted.convert("RGB").getpixel((2, 1)), corner)
            assert near(fitted.convert("RGB").getpixel((30, 16)), centre)


def near(found: object, name: str) -> bool:
    assert isinstance(found, tuple)
    return all(abs(one - other) < 40 for one, other in zip(found, ImageColor.getrgb(name), strict=False))


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "CMYK", "I;16"])
def test_an_image_of_any_mode_is_made_to_fit(mode: str) -> None:
    """A palette, transparency, print colours and deep grey."""
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert check_reference(encoded(Image.new(mode, (30, 90)), kind), SIZE, "contain").media_type == f"image/{kind.lower()}"


def test_an_image_is_turned_before_it_is_made_to_fit() -> None:
    """A photograph that is stored on its side covers what it would cover upright."""
    turned = oriented(Image.new("RGB", (32, 48), "red"), "JPEG", 6)
    assert check_reference(turned, SIZE, "cover").data != turned


def test_an_image_of_countless_pixels_is_refused_by_its_header() -> None:
    """Also where it may have any size."""
    with pytest.raises(InvalidRequest, match="million pixels"):
        check_reference(_png_header(30_000, 30_000), SIZE, "cover")


def test_a_long_thin_image_is_refused_by_its_header() -> None:
    """Scaling it would take memory by its length."""
    with pytest.raises(InvalidRequest, match="a side of more than"):
        check_reference(_png_header(1, 30_000_000), SIZE, "cover")


def test_an_image_that_takes_too_long_is_given_up() -> None:
    """Whatever makes it slow: here nine hundred thousand empty comments, each of which is read."""
    data = encoded(picture(), "JPEG")
    slow = data[:2] + b"\xff\xfe\0\2" * 900_000 + data[2:]
    before = time.thread_time()
    with pytest.raises(InvalidRequest, match="too long"):
        check_reference(slow, SIZE, seconds=0.1)
    assert time.thread_time() - before < 0.5


def _png_header(width: int, height: int) -> bytes:
    """A PNG that ends where its pixels should begin."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes().removeprefix(b"Exif\0\0")
