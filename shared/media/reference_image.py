"""Reference images: what they are by their bytes, not by what the client calls them, and whether
they fit the video.
"""

import asyncio
import io
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.errors import InvalidRequest

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

LARGEST = 20 * 1024 * 1024  # bytes
_AT_ONCE = 2
_LONGEST_UNPACKING = 2.0  # seconds of a processor; the largest honest images take a tenth
# A progressive JPEG comes in scans of the whole picture, ten or so; each is unpacked in full.
_JPEG, _SCAN, _MOST_SCANS = b"\xff\xd8", b"\xff\xda", 100

# MPO is what some cameras write: a JPEG with more pictures behind the first.
_MEDIA_TYPES = {"JPEG": "image/jpeg", "MPO": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_SUFFIXES = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
_ORIENTATION = 0x0112  # the EXIF tag; 1 means upright


@dataclass(frozen=True)
class Reference:
    """An image that was checked: its bytes and its real media type."""

    data: bytes
    media_type: str

    @property
    def filename(self) -> str:
        """The upstream wants a name whose ending tells the type."""
        return f"reference.{_SUFFIXES[self.media_type]}"


@dataclass(frozen=True)
class ReferenceImages:
    """Checks images in threads, a few at a time: however many are sent, and whatever is in them,
    the event loop goes on, and a processor is left for it.
    """

    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def check(self, data: bytes, size: str) -> Reference:
        """The same as `check_reference`."""
        async with self._turns:
            return await asyncio.to_thread(check_reference, data, size)


def check_reference(data: bytes, size: str, seconds: float = _LONGEST_UNPACKING) -> Reference:
    """The image, upright, if it is a JPEG, PNG or WebP of exactly `size` pixels that is unpacked in
    so many seconds of a processor. Raises InvalidRequest.

    The upstream refuses any other pixel size. An image that is only stored on its side is turned
    first.
    """
    from PIL import Image

    if data.startswith(_JPEG) and data.count(_SCAN) > _MOST_SCANS:
        raise _refusal(f"has more than {_MOST_SCANS} scans: save it anew")
    wanted = tuple(int(side) for side in size.split("x"))
    try:
        image = Image.open(_Timed(data, seconds), formats=("JPEG", "PNG", "WEBP"))
        # By the header alone: pixels are unpacked only where they are as many as wanted.
        if sorted(image.size) != sorted(wanted):
            raise _refusal(f"must be exactly {size} pixels, the size of the video; this one is {image.width}x{image.height}")
        image.load()
        upright = _upright(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise _refusal("is not a JPEG, PNG or WebP image that can be read") from error
    except _TooSlow as error:
        raise _refusal("takes too long to unpack: save it anew") from error
    except Image.DecompressionBombError as error:
        raise _refusal(f"must be exactly {size} pixels, the size of the video; this one is far larger") from error
    if upright.size != wanted:
        raise _refusal(f"must be exactly {size} pixels, the size of the video; this one is {upright.width}x{upright.height}")
    media_type = _MEDIA_TYPES[image.format or ""]
    if upright is image:
        return Reference(data, media_type)
    output = io.BytesIO()
    upright.save(output, format=media_type.removeprefix("image/"), quality=95)
    return Reference(output.getvalue(), media_type)


class _TooSlow(Exception):
    """An image has used up its time."""


class _Timed(io.BytesIO):
    """The bytes of an image, as long as this thread has not worked for so many seconds on them.
    Images are read in small pieces, so that a slow one is stopped soon.
    """

    def __init__(self, data: bytes, seconds: float) -> None:
        super().__init__(data)
        self._until = time.thread_time() + seconds

    def read(self, size: int | None = -1, /) -> bytes:
        if time.thread_time() > self._until:
            raise _TooSlow
        return super().read(size)


def _upright(image: "ImageFile") -> "Image":
    """The image itself, or a turned copy where it is stored on its side or mirrored."""
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


def _refusal(what: str) -> InvalidRequest:
    return InvalidRequest(f"The reference image {what}.", code="invalid_reference", param="input_reference")
