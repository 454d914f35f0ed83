"""What a model accepts, and what it costs."""

import re
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import msgspec

from shared.dialects.dialect import EVERY_VARIANT
from shared.dialects.parameters import Parameters

ANY_SIZE = "any"  # in `prices`, the key for all sizes without a price of their own
_SIDES = range(64, 4097)  # pixels, if any size is accepted
_USUAL_SECONDS = 4  # the default of OpenAI's API, used if a range of lengths is accepted


class Capability(msgspec.Struct, frozen=True):
    """What a model accepts, and what it costs.

    `sizes` are `WIDTHxHEIGHT` in pixels, the first of them the default; with `any_size` every other
    one is accepted too. `seconds` are whole seconds: a tuple, of which the first is the default, or
    a range. `prices` are micro-dollars per second of video, by size. `per_video` is a price of the
    whole video instead, `per_gpu_second` one of a second of the server's time, of which
    `most_gpu_seconds` are reserved and at most charged. `variants` are the files of a finished
    video that callers may have. `parameters` are those beside OpenAI's own, `fps` the frames per
    second that a video has unless a parameter says otherwise. `resizes`: a reference image may have
    another size.
    """

    sizes: tuple[str, ...]
    seconds: Sequence[int]
    prices: Mapping[str, int]
    variants: tuple[str, ...] = EVERY_VARIANT
    remix: bool = True
    any_size: bool = False
    per_video: int | None = None
    per_gpu_second: int | None = None
    most_gpu_seconds: float = 0.0
    parameters: Parameters = msgspec.field(default_factory=dict)
    fps: float | None = None
    resizes: bool = False

    @property
    def usual_seconds(self) -> int:
        """The length in seconds of a video whose request names none."""
        return _USUAL_SECONDS if isinstance(self.seconds, range) and _USUAL_SECONDS in self.seconds else self.seconds[0]

    def makes(self, size: str) -> bool:
        """Whether it makes videos of this size."""
        # ASCII alone: a server may read other digits as these, and they have no price of their own.
        sides = re.fullmatch(r"([1-9]\d{1,3})x([1-9]\d{1,3})", size, re.ASCII)
        fits = sides is not None and all(int(side) in _SIDES for side in sides.groups())
        return size in self.sizes or (self.any_size and fits)

    def price(self, seconds: int, size: str, parameters: Mapping[str, Any] | None = None) -> int:
        """The full price of a video in micro-dollars, which it never exceeds."""
        asked = parameters or {}
        if self.per_gpu_second is not None:
            return ceil(self.per_gpu_second * self.most_gpu_seconds)
        if self.per_video is not None:
            return self.per_video
        frames = max(1.0, asked.get("fps", 0) / self.fps) if self.fps else 1.0
        rate = self.prices[size] if size in self.prices else self.prices[ANY_SIZE]
        return ceil(rate * seconds * frames)

    def settled(self, reserved: int, seconds: int, made_seconds: float | None, gpu_seconds: float | None) -> int:
        """What a completed video costs in micro-dollars, at most what was `reserved`.
        `made_seconds` is the length of the finished video, `gpu_seconds` how long the server took;
        None if that is not known.
        """
        if self.per_gpu_second is not None:
            return reserved if gpu_seconds is None else min(reserved, ceil(self.per_gpu_second * gpu_seconds))
        if self.per_video is not None or made_seconds is None:
            return reserved
        return min(reserved, ceil(reserved * made_seconds / seconds))
