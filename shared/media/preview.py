"""Draws a video's thumbnail or sprite sheet from its film.

Both are a sheet of pictures, each from the middle of its share of the film; a thumbnail is a sheet
of one. So a thumbnail shows the middle of the film, past a fade-in and away from the reference
image that many films begin with. Keyframes are not enough: most films of a few seconds have only
one, their first frame.

The film comes from an upstream, and native code decodes it. So only `preview_process` imports this
module, in a process of its own.
"""

import io
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, NamedTuple

import av
from av.container import InputContainer
from PIL import Image

_FORMAT = "mov"  # MP4 and its relatives; no playlist, and nothing else that names other files
# The codecs that films come in, and the pixels of the largest frame that can be configured.
_LIMITS = {"codec_whitelist": "h264,hevc,libdav1d,libvpx-vp9,vp9,mpeg4", "max_pixels": str(4096 * 4096)}
_LONGEST_DECODING = 8.0  # seconds of processor time


class Layout(NamedTuple):
    """`columns` times `rows` pictures, the longer side of each at most `side` pixels."""

    columns: int
    rows: int
    side: int
    encoding: str


LAYOUTS = {"thumbnail": Layout(1, 1, 1280, "WEBP"), "spritesheet": Layout(4, 4, 320, "JPEG")}


def draw(film: BinaryIO, variant: str, seconds: float = _LONGEST_DECODING) -> bytes:
    """The encoded image. Raises ValueError, or what PyAV raises, if no frame can be decoded.

    Each picture has an equal share of `seconds` of processor time. If decoding needs more, the
    picture shows the frame that was reached.
    """
    layout = LAYOUTS[variant]
    with av.open(film, "r", format=_FORMAT, options={**_LIMITS, "protocol_whitelist": "none"}) as container:
        frames = _Reel(container).frames(layout.columns * layout.rows, seconds)
        pictures = [_picture(frame, layout.side) for frame in frames]
    width, height = pictures[0].size
    sheet = Image.new("RGB", (width * layout.columns, height * layout.rows))
    for number, picture in enumerate(pictures):
        row, column = divmod(number, layout.columns)
        sheet.paste(picture, (column * width, row * height))
    output = io.BytesIO()
    sheet.save(output, format=layout.encoding, quality=85)
    return output.getvalue()


class _Reel:
    """Decodes the best video stream of a film. Times are in the stream's own unit."""

    def __init__(self, container: InputContainer) -> None:
        stream = container.streams.best("video")
        if stream is None:
            raise ValueError("The film has no video.")
        stream.codec_context.options = {**_LIMITS}
        stream.codec_context.thread_count = 1  # each thread would hold frames of its own
        self._container, self._stream = container, stream
        self._decoded = self._decode()
        self._frame: av.VideoFrame | None = None
        self._following = next(self._decoded, None)

    def frames(self, count: int, seconds: float) -> Iterator[av.VideoFrame]:
        """The frames in the middle of `count` equal parts of the film. Raises ValueError if none
        can be decoded.
        """
        begun, start, length = time.process_time(), self._stream.start_time or 0, self._stream.duration or 0
        for number in range(count):
            until = begun + seconds * (number + 1) / count
            yield self._shown_at(start + length * (2 * number + 1) // (2 * count), until)

    def _shown_at(self, moment: int, until: float) -> av.VideoFrame:
        """The last frame that begins by `moment`, or the one that is reached when this process has
        used processor time `until`.
        """
        self._skip_to(moment)
        while self._following and (self._frame is None or _begin(self._following) <= moment):
            self._frame, self._following = self._following, next(self._decoded, None)
            if time.process_time() >= until:
                break
        if self._frame is None:
            raise ValueError("The film has no frame that can be decoded.")
        return self._frame

    def _skip_to(self, moment: int) -> None:
        """Go on from the last keyframe before `moment`, unless decoding has passed it already."""
        entries = self._stream.index_entries
        found = entries.search_timestamp(moment)
        if found >= 0 and self._following and entries[found].timestamp > _begin(self._following):
            self._container.seek(moment, stream=self._stream)
            self._decoded = self._decode()
            self._following = next(self._decoded, None)

    def _decode(self) -> Iterator[av.VideoFrame]:
        for packet in self._container.demux(self._stream):
            with suppress(av.InvalidDataError):  # a damaged packet: those after it may be whole
                yield from (frame for frame in packet.decode() if isinstance(frame, av.VideoFrame))


def _begin(frame: av.VideoFrame) -> int:
    return frame.pts or 0


def _picture(frame: av.VideoFrame, side: int) -> Image.Image:
    """The frame turned upright, its longer side at most `side` pixels."""
    scale = min(1.0, side / max(frame.width, frame.height))
    width, height = (max(1, round(length * scale)) for length in (frame.width, frame.height))
    picture: Image.Image = frame.to_image(width=width, height=height, interpolation="AREA")  # type: ignore[no-untyped-call]
    return picture.rotate(frame.rotation, expand=True)
