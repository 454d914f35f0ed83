"""Images inside texts, as data URLs. They are decoded as they arrive, so that neither their text
nor a second copy is ever in memory.
"""

import binascii
import re
from types import TracebackType
from typing import Self

from shared.errors import InvalidRequest
from shared.routes.bodies import Text
from shared.routes.uploads import Upload

_SHORT = 16 * 1024  # bytes: a shorter text is left as it is
_LONGEST_PREFIX = 128  # bytes of `data:image/png`
_MARK = b";base64,"
# How JSON may write a character of base64; some encoders do so with `+` and `/`.
_ESCAPE = re.compile(rb"\\(?:u00([0-9A-Fa-f]{2})|(/))")
_LONGEST_ESCAPE = 6


class InlineText(Text):
    """Collects one text. A long data URL becomes an image, which does not count as text. Leaving
    its `with` drops the image.
    """

    def __init__(self, budget: list[int] | None = None) -> None:
        super().__init__(budget)
        self.image: Image | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.image is not None:
            self.image.upload.__exit__(kind, error, trace)

    async def take(self, data: bytes) -> None:
        """Raises TooLarge, or InvalidRequest for an image that is not valid base64."""
        if self.image is not None:
            await self.image.take(data)
            return
        await super().take(data)
        if len(self.bytes) > _SHORT and self.bytes.startswith(b"data:"):
            mark = self.bytes.find(_MARK, 0, _LONGEST_PREFIX + len(_MARK))
            if mark >= 0:
                self.image = Image()
                await self.image.take(bytes(self.bytes[mark + len(_MARK) :]))
                self.bytes.clear()


class Image:
    """Decodes base64 piece by piece into an upload. The text may have JSON's escapes."""

    def __init__(self) -> None:
        self.upload = Upload()
        self._rest = b""  # of a group of four, or of an escape
        self._ended = False

    async def take(self, text: bytes) -> None:
        """Raises TooLarge or InvalidRequest."""
        text = self._rest + text
        escape = text.rfind(b"\\", -_LONGEST_ESCAPE)
        cut = len(text) if escape < 0 else escape
        await self._decode(_unescaped(text[:cut]), text[cut:])

    async def whole(self) -> bytes:
        """The image. Raises InvalidRequest if its text was cut short."""
        await self._decode(_unescaped(self._rest), b"")
        if self._rest:
            raise _invalid()
        return await self.upload.whole()

    async def _decode(self, text: bytes, rest: bytes) -> None:
        groups = len(text) - len(text) % 4
        self._rest = text[groups:] + rest
        if not groups:
            return
        if self._ended or text[:groups].endswith(b"==="):
            raise _invalid()  # padding comes last, and is two at most
        self._ended = text[:groups].endswith(b"=")
        try:
            decoded = binascii.a2b_base64(text[:groups], strict_mode=True)
        except binascii.Error as error:
            raise _invalid() from error
        await self.upload.take(decoded)


def _unescaped(text: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: match[2] or bytes.fromhex(match[1].decode()), text) if b"\\" in text else text


def _invalid() -> InvalidRequest:
    return InvalidRequest("The data URL of `input_reference` is not valid base64.", param="input_reference")
