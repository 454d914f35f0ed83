"""`python -m shared.media.preview_process VARIANT LENGTH`: a process that draws one image and
can do nothing else.

Native code decodes here what comes from an upstream. So the process has no secrets in its
environment, may open no file and no connection, and has limits of memory and processor time. If it
crashes, nothing else does.

It asks for parts of the film, which has LENGTH bytes, on its output, and gets them on its input. A
question is an `ASK`: the first byte, and the number of bytes. If that number is 0, the image
follows instead, and the first number is its length in bytes.
"""

import io
import sys
from struct import Struct
from typing import BinaryIO

ASK = Struct(">QL")
LARGEST_PART = 256 * 1024  # bytes: enough for most keyframes
_MEMORY = 1024 * 1024 * 1024  # bytes of addresses: frames of 4096 x 4096 pixels take half of it
_PROCESSOR = 20  # seconds


class Parts(io.RawIOBase):
    """The film as a file, whose parts are asked for on one stream and arrive on another."""

    def __init__(self, asks: BinaryIO, answers: BinaryIO, length: int) -> None:
        self._asks, self._answers, self._length = asks, answers, length
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: "memoryview", /) -> int:  # type: ignore[override]
        count = min(len(buffer), LARGEST_PART, max(0, self._length - self._at))
        if count:
            self._asks.write(ASK.pack(self._at, count))
            self._asks.flush()
            buffer[:count] = self._answers.read(count)
            self._at += count
        return count


def main() -> None:
    """Draw and send the image. If `draw` raises, the last line of the error output says what."""
    from shared.media.preview import draw

    variant, length = sys.argv[1:]
    _confine()
    film = io.BufferedReader(Parts(sys.stdout.buffer, sys.stdin.buffer, int(length)), LARGEST_PART)
    image = draw(film, variant)
    sys.stdout.buffer.write(ASK.pack(len(image), 0) + image)


def _confine() -> None:
    """Limit what this process may do. Only Linux has all of these limits; on other systems the
    gateway runs only for its developers.
    """
    if sys.platform != "linux":
        return
    import os
    import resource

    # Python would import these when they are needed, but then no file can be opened any more.
    import av.subtitles.codeccontext
    import av.subtitles.stream  # noqa: F401
    from PIL import Image

    Image.init()
    for limit, most in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_CPU, _PROCESSOR),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 3),  # three are open already
    ):
        resource.setrlimit(limit, (most, most))
    os.nice(10)  # requests are served before this


if __name__ == "__main__":
    main()
