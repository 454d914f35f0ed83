"""Checks reference images by their bytes, not by the media type that the client names: format, size
in pixels, and the cost of unpacking them.
"""

import asyncio
import io
import time
from typing import TYPE_CHECKING, Literal

import msgspec

from shared.errors import InvalidRequest
from shared.media.remote_image import RemoteImages, invalid_reference

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

Fit = Literal["exact", "cover", "contain"]

LARGEST = 20 * 1024 * 1024  # bytes
_COPY_PIXELS = 1_000_000  # of a smaller copy
_MOST_PIXELS = 32_000_000  # those of a phone's camera; unpacked they take at most 128 MB
_LONGEST_SIDE = 16_384  # pixels: scaling an image takes memory by the length of its sides
_AT_ONCE = 2  # images that are checked at the same time
_LONGEST_UNPACKING = 2.0  # seconds of processor time; the largest ordinary images take a tenth
# A progressive JPEG has about ten scans of the whole picture, and each takes as long to unpack as
# the whole picture of another JPEG.
_JPEG, _SCAN, _MOST_SCANS = b"\xff\xd8", b"\xff\xda", 100
_MOST_SCANNED = 12 * _MOST_PIXELS  # pixels of all scans together

# MPO, which some cameras write, is a JPEG followed by more pictures.
_MEDIA_TYPES = {"JPEG": "image/jpeg", "MPO": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_SUFFIXES = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
_ORIENTATION = 0x0112  # the EXIF tag; 1 means upright


class Reference(msgspec.Struct, frozen=True):
    """An image that was checked: its bytes and its actual media type."""

    data: bytes
    media_type: str

    @property
    def filename(self) -> str:
        """A file name with the ending of the type, which the upstream requires."""
        return f"reference.{_SUFFIXES[self.media_type]}"


class ReferenceImages(msgspec.Struct, frozen=True):
    """Fetches images that are given by their address, and checks images in threads. Only two are
    checked at a time, so that expensive ones leave processor time for the event loop.
    """

    remote: RemoteImages
    _turns: asyncio.Semaphore = msgspec.field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def check(self, image: bytes | str, size: str, fit: Fit = "exact") -> Reference:
        """`check_reference` of bytes or of an https:// address. Also raises TooLarge."""
        data = image if isinstance(image, bytes) else await self.remote.fetch(image, LARGEST)
        async with self._turns:
            return await asyncio.to_thread(check_reference, data, size, fit)


def check_reference(data: bytes, size: str, fit: Fit = "exact", seconds: float = _LONGEST_UNPACKING) -> Reference:
    """The image, turned upright and, by `fit`, made to have the video's size: `cover` fills it and
    cuts off what is too much, `contain` shows all of it between black bars.

    Raises InvalidRequest unless it is a JPEG, PNG or WebP that unpacks within `seconds` of
    processor time, and for `exact` has exactly `size` pixels: the upstream refuses any other size,
    and does not follow the orientation of a stored image.
    """
    image, upright = _unpacked(data, size, fit, seconds)
    media_type = _MEDIA_TYPES[image.format or ""]
    if upright.size != _pixels(size):
        upright = _fitted(upright, size, fit)
    if upright is image:
        return Reference(data, media_type)
    output = io.BytesIO()
    upright.save(output, format=media_type.removeprefix("image/"), quality=95)
    return Reference(output.getvalue(), media_type)


def _pixels(size: str) -> tuple[int, int]:
    width, height = (int(side) for side in size.split("x"))
    return width, height


def _fitted(image: "Image", size: str, fit: Fit) -> "Image":
    """The image in exactly this size; without transparency, which no video has."""
    from PIL import ImageOps

    opaque = image.convert("RGB")
    return ImageOps.fit(opaque, _pixels(size)) if fit == "cover" else ImageOps.pad(opaque, _pixels(size))


def _unpacked(data: bytes, size: str, fit: Fit, seconds: float) -> "tuple[ImageFile, Image]":
    """The image as it is stored, and turned upright. Raises InvalidRequest."""
    from PIL import Image

    wanted = _pixels(size)
    try:
        image = Image.open(_Timed(data, seconds), formats=("JPEG", "PNG", "WEBP"))
        # This reads the header alone: pixels are unpacked only if the size may be right.
        if fit == "exact" and image.size not in (wanted, wanted[::-1]):
            raise _wrong_size(size, f"{image.width}x{image.height}")
        _check_cost(image.width, image.height, data)
        image.load()
        upright = _upright(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise invalid_reference("is not a JPEG, PNG or WebP image that can be read") from error
    except _TooSlow as error:
        raise invalid_reference("takes too long to unpack: save it anew") from error
    except Image.DecompressionBombError as error:
        raise _too_many_pixels() from error
    if fit == "exact" and upright.size != wanted:
        raise _wrong_size(size, f"{upright.width}x{upright.height}")
    return image, upright


def _check_cost(width: int, height: int, data: bytes) -> None:
    """Refuse an image that is too expensive to unpack. The scans of a JPEG are limited here, since
    `_Timed` cannot stop a small file: it is read in one piece. Raises InvalidRequest.
    """
    pixels = width * height
    if pixels > _MOST_PIXELS:
        raise _too_many_pixels()
    if max(width, height) > _LONGEST_SIDE:
        raise invalid_reference(f"has a side of more than {_LONGEST_SIDE:,} pixels")
    scans = data.count(_SCAN) if data.startswith(_JPEG) else 1
    if scans > _MOST_SCANS or scans * pixels > _MOST_SCANNED:
        raise invalid_reference("has too many scans: save it anew")


class _TooSlow(Exception):
    """Unpacking the image has used up its time."""


class _Timed(io.BytesIO):
    """The bytes of an image. Reading raises _TooSlow once this thread has used `seconds` of
    processor time; images are read in small pieces, so a slow one is stopped soon.
    """

    def __init__(self, data: bytes, seconds: float) -> None:
        super().__init__(data)
        self._until = time.thread_time() + seconds

    def read(self, size: int | None = -1, /) -> bytes:
        if time.thread_time() > self._until:
            raise _TooSlow
        return super().read(size)


def _upright(image: "ImageFile") -> "Image":
    """The image itself, or a turned copy if its EXIF orientation is not upright."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(image.getexif().get(_ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def smaller_copy(data: bytes, most: int) -> bytes:
    """A checked image as it is, or, if it has more than `most` bytes, a JPEG copy of at most a
    million pixels. `most` is a megabyte or more, which such a copy does not reach.
    """
    from PIL import Image

    if len(data) <= most:
        return data
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = min(1.0, (_COPY_PIXELS / (image.width * image.height)) ** 0.5)
    copy = image.resize((int(image.width * scale), int(image.height * scale)))
    output = io.BytesIO()
    copy.save(output, format="JPEG", quality=90)
    return output.getvalue()


def _too_many_pixels() -> InvalidRequest:
    return invalid_reference(f"has more than {_MOST_PIXELS // 10**6} million pixels")


def _wrong_size(wanted: str, found: str) -> InvalidRequest:
    return invalid_reference(f"must be exactly {wanted} pixels, the size of the video; this one is {found}")
