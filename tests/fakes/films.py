"""The smallest things that are real MP4s, and films that can be played."""

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import NamedTemporaryFile

import av
from PIL import Image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def box(kind: bytes, content: bytes = b"") -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def small_film(padding: int = 0) -> bytes:
    """The boxes every MP4 has, with `padding` bytes of media."""
    return box(b"ftyp", b"isom\0\0\2\0isomiso2") + box(b"moov", b"\0" * 32) + box(b"mdat", b"\0" * padding)


def playable(
    colours: Sequence[tuple[int, int, int]] = (RED, GREEN, BLUE, WHITE),
    size: tuple[int, int] = (64, 48),
    *,
    times: Sequence[int] | None = None,
    every_key: bool = False,
    flags: str = "",
    codec: str = "libx264",
) -> bytes:
    """A film of one frame of each colour, a second apart, or beginning at `times` in milliseconds.
    Only the first is a keyframe, or else each. `flags` are those of FFmpeg's `movflags`.
    """
    with NamedTemporaryFile(suffix=".mp4") as file:  # `faststart` reads it again
        _shoot(file.name, colours, size, times=times, every_key=every_key, flags=flags, codec=codec)
        return Path(file.name).read_bytes()


def _shoot(
    path: str,
    colours: Sequence[tuple[int, int, int]],
    size: tuple[int, int],
    *,
    times: Sequence[int] | None,
    every_key: bool,
    flags: str,
    codec: str,
) -> None:
    with av.open(path, "w", options={"movflags": flags} if flags else {}) as container:
        stream = container.add_stream(codec, rate=1)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size = 1 if every_key else 250
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, colour in enumerate(colours):
            frame = av.VideoFrame.from_image(Image.new("RGB", size, colour))  # type: ignore[no-untyped-call]
            frame.pts = times[number] if times else number * 1000
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def silent_radio() -> bytes:
    """An MP4 with sound and no picture."""
    film = io.BytesIO()
    with av.open(film, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        assert isinstance(stream, av.AudioStream)
        for number in range(8):
            frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            frame.sample_rate, frame.pts = 8000, number * 1024
            frame.planes[0].update(bytes(frame.planes[0].buffer_size))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return film.getvalue()
