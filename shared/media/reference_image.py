"""Reference images: what they are by their bytes, not by what the client calls them, and whether
they fit the video.
"""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import InvalidRequest, TooLarge

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

LARGEST = 20 * 1024 * 1024  # bytes

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


def check_reference(data: bytes, size: str) -> Reference:
    """The image, upright, if it is a JPEG, PNG or WebP of exactly `size` pixels. Raises
    InvalidRequest or TooLarge.

    The upstream refuses any other pixel size. An image that is only stored on its side is turned
    first.
    """
    from PIL import Image

    if len(data) > LARGEST:
        raise TooLarge(f"The reference image is larger than {LARGEST // 1024**2} MiB.", param="input_reference")
    wanted = tuple(int(side) for side in size.split("x"))
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP"))
        # By the header alone: pixels are unpacked only where they are as many as wanted.
        if sorted(image.size) != sorted(wanted):
            raise _refusal(f"must be exactly {size} pixels, the size of the video; this one is {image.width}x{image.height}")
        image.load()
        upright = _upright(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise _refusal("is not a JPEG, PNG or WebP image that can be read") from error
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
