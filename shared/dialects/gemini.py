"""Google's OpenAI-compatible API for Veo, by its documentation of mid-2026; it was never tried.

It has its own fields for length and size, answers with the address of a finished film, and
documents no list, no deletion and no remix.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from shared.dialects.dialect import Ask, Dialect, texts_of
from shared.dialects.parameters import Parameter, Parameters
from shared.errors import InvalidRequest

_OWN_WORDS = ("duration_seconds", "aspect_ratio", "resolution")
_RESOLUTIONS = {720: "720p", 1080: "1080p", 2160: "4k"}  # by the shorter side in pixels


class Gemini(Dialect):
    name: ClassVar[str] = "gemini"
    meaning: ClassVar[str] = "Google's OpenAI layer"
    path: ClassVar[str] = "/v1beta/openai"
    default_base: ClassVar[str | None] = "https://generativelanguage.googleapis.com"
    key_names: ClassVar[tuple[str, ...]] = ("GEMINI_API_KEY",)
    needs_tls: ClassVar[bool] = True
    probe: ClassVar[str] = "/models"

    remixes: ClassVar[bool] = False
    lists: ClassVar[bool] = False
    deletes: ClassVar[bool] = False
    variants: ClassVar[tuple[str, ...]] = ("video",)
    parameters: ClassVar[Parameters] = {
        "negative_prompt": Parameter("text", most=8_000),
        "seed": Parameter("integer", 0, 2**32 - 1),
    }
    withheld: ClassVar[tuple[str, ...]] = ("last_frame", "reference_images", "extend_video_id")
    lengths: ClassVar[range | None] = range(4, 9, 2)
    fps: ClassVar[int | None] = 24

    tells_progress: ClassVar[bool] = False
    tells_address: ClassVar[bool] = True

    shared: ClassVar[bool] = True

    def form(self, model: str, ask: Ask) -> dict[str, str]:
        width, height = map(int, ask.size.split("x"))
        return {
            "model": model,
            "prompt": ask.prompt,
            "duration_seconds": str(ask.seconds),
            "aspect_ratio": "16:9" if width > height else "9:16",
            "resolution": _RESOLUTIONS.get(min(width, height), f"{min(width, height)}p"),
            **texts_of(ask.parameters),
        }

    def translated(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        told = {name: value for name, value in fields.items() if name not in _OWN_WORDS}
        if "duration_seconds" in fields:
            told.setdefault("seconds", fields["duration_seconds"])
        if "aspect_ratio" in fields or "resolution" in fields:
            told.setdefault("size", _size(fields.get("aspect_ratio", "16:9"), fields.get("resolution", "720p")))
        return told


def _size(ratio: object, resolution: object) -> str:
    """The size as OpenAI writes it (`1280x720`). Raises InvalidRequest."""
    short = {name: side for side, name in _RESOLUTIONS.items()}.get(str(resolution).lower())
    if ratio not in ("16:9", "9:16") or short is None:
        raise InvalidRequest("`aspect_ratio` must be 16:9 or 9:16, and `resolution` 720p, 1080p or 4k.", param="size")
    long = short * 16 // 9
    return f"{long}x{short}" if ratio == "16:9" else f"{short}x{long}"
