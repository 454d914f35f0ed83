"""Google's OpenAI layer for Veo, as its documentation has it (mid-2026; nobody here has tried it).

It takes length and size in its own words, names the address of a finished film, and documents no
list, no deletion and no remix.
"""

from typing import ClassVar

from shared.dialects.dialect import Ask, Dialect

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

    tells_progress: ClassVar[bool] = False
    tells_address: ClassVar[bool] = True

    def form(self, model: str, ask: Ask) -> dict[str, str]:
        width, height = map(int, ask.size.split("x"))
        return {
            "model": model,
            "prompt": ask.prompt,
            "duration_seconds": str(ask.seconds),
            "aspect_ratio": "16:9" if width > height else "9:16",
            "resolution": _RESOLUTIONS.get(min(width, height), f"{min(width, height)}p"),
        }
