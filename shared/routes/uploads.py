"""Keeps an image as it arrives: the beginning in memory, the rest in a file without a name. So many
uploads at once cost little memory.
"""

import asyncio
from types import TracebackType
from typing import Self

from shared.errors import TooLarge
from shared.media.reference_image import LARGEST

_IN_MEMORY = 256 * 1024  # bytes of one image


class Upload:
    """The bytes of one image. Leaving its `with` drops them."""

    def __init__(self) -> None:
        from tempfile import SpooledTemporaryFile

        self._file = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by __exit__
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    async def take(self, data: bytes) -> None:
        """Add the next bytes. Raises TooLarge, and OSError if the disk is full."""
        self._size += len(data)
        if self._size > LARGEST:
            raise TooLarge(f"The reference image is larger than {LARGEST // 1024**2} MiB.", param="input_reference")
        if self._size <= _IN_MEMORY:
            self._file.write(data)
        else:
            await asyncio.to_thread(self._file.write, data)

    async def whole(self) -> bytes:
        """All bytes."""
        self._file.seek(0)
        return await asyncio.to_thread(self._file.read)
