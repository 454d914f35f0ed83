"""Checks whether a stream of bytes is a complete MP4, without keeping it.

An ISO base media file (ISO/IEC 14496-12) is a sequence of boxes: a 32-bit size, a four-letter type,
then the content. Size 1 means that a 64-bit size follows; size 0 means "to the end of the file". A
file that was cut off ends inside a box.
"""

from shared.errors import NotAVideo


class Mp4Check:
    """Takes every chunk by `feed()`, then `finish()`. Both raise NotAVideo. Keeps one box header in
    memory.
    """

    _SHORT, _LONG = 8, 16
    _NEEDED = frozenset({b"ftyp", b"moov", b"mdat"})  # file type, index, media

    def __init__(self) -> None:
        self.length = 0
        self._header = b""
        self._skip = 0
        self._open_ended = False
        self._missing = set(self._NEEDED)

    def feed(self, chunk: bytes) -> None:
        """Check the next bytes of the stream, which may end anywhere in a box."""
        self.length += len(chunk)
        view = memoryview(chunk)
        while view and not self._open_ended:
            if self._skip:
                passed = min(self._skip, len(view))
                self._skip -= passed
                view = view[passed:]
                continue
            wanted = self._LONG if self._header[:4] == b"\0\0\0\1" else self._SHORT
            taken = min(wanted - len(self._header), len(view))
            self._header += bytes(view[:taken])
            view = view[taken:]
            self._read_header()

    def _read_header(self) -> None:
        header = self._header
        if len(header) < self._SHORT:
            return
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if b"ftyp" in self._missing and kind != b"ftyp":
            raise NotAVideo("The upstream's content is not an MP4 file.")
        if size == 1:
            if len(header) < self._LONG:
                return
            size = int.from_bytes(header[8:16], "big")
        self._missing.discard(kind)
        self._header = b""
        if size == 0:
            self._open_ended = True
        elif size < len(header):
            raise NotAVideo("The upstream's content has a damaged MP4 box.")
        else:
            self._skip = size - len(header)

    def finish(self) -> None:
        """Check that the stream may end here."""
        if self._skip or self._header:
            raise NotAVideo(f"The upstream's content was cut short after {self.length} bytes.")
        if self._missing:
            raise NotAVideo("The upstream's content lacks a part that every MP4 has: its index or its media.")
