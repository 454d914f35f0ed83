"""Reference images: what they are by their bytes, not by what the client calls them, and whether they fit the video."""

import io
from dataclasses import dataclass

from shared.errors import InvalidRequest, TooLarge

LARGEST = 20 * 1024 * 1024  # bytes

_MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
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
    """The image, upright, if it is a JPEG, PNG or WebP of exactly `size` pixels. Raises InvalidRequest or TooLarge.

    The upstream refuses any other pixel size. An image that is only stored on its side is turned first.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if len(data) > LARGEST:
        raise TooLarge(f"The reference image is larger than {LARGEST // 1024**2} MiB.", param="input_reference")
    try:
        image = Image.open(io.BytesIO(data), formats=list(_MEDIA_TYPES))
        turned = image.getexif().get(_ORIENTATION, 1) != 1
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _refusal("is not a JPEG, PNG or WebP image that can be read") from error
    media_type = _MEDIA_TYPES[image.format or ""]
    width, height = (int(side) for side in size.split("x"))
    if not turned and image.size != (width, height):
        raise _refusal(f"must be exactly {size} pixels, the size of the video; this one is {image.width}x{image.height}")
    if turned:
        if sorted(image.size) != sorted((width, height)):
            raise _refusal(f"must be exactly {size} pixels, the size of the video; this one is {image.width}x{image.height}")
        upright = ImageOps.exif_transpose(image)
        if upright.size != (width, height):
            raise _refusal(f"must be exactly {size} pixels; upright, this one is {upright.width}x{upright.height}")
        output = io.BytesIO()
        upright.save(output, format=image.format, quality=95)
        data = output.getvalue()
    return Reference(data, media_type)


def _refusal(what: str) -> InvalidRequest:
    return InvalidRequest(f"The reference image {what}.", code="invalid_reference", param="input_reference")
