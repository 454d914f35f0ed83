"""SGLang's diffusion server (0.5.23). It keeps its jobs in memory and finished videos on disk.

Its jobs do not show their prompt. It stores a create's `model` unchecked and returns it. So the
gateway adds the video's id to `model`, and finds the job by it.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from shared.dialects.bodies import field_of
from shared.dialects.dialect import Ask, Dialect
from shared.dialects.engines import DIFFUSION, with_size
from shared.dialects.parameters import Parameter, Parameters


class SGLang(Dialect):
    name: ClassVar[str] = "sglang"
    meaning: ClassVar[str] = "SGLang"
    base_names: ClassVar[tuple[str, ...]] = ("SGLANG_API_BASE",)
    key_names: ClassVar[tuple[str, ...]] = ("SGLANG_API_KEY",)

    remixes: ClassVar[bool] = False
    variants: ClassVar[tuple[str, ...]] = ("video",)
    parameters: ClassVar[Parameters] = {
        **DIFFUSION,
        "fps": Parameter("integer", 1, 120),
        "max_sequence_length": Parameter("integer", 1, 8192),
        "enable_teacache": Parameter("boolean"),
        "enable_upscaling": Parameter("boolean"),
        "upscaling_scale": Parameter("integer", 1, 8),
        "output_quality": Parameter("text", choices=("maximum", "high", "medium", "low", "default")),
        "output_compression": Parameter("integer", 0, 100),
    }
    withheld: ClassVar[tuple[str, ...]] = (
        *("reference_url", "video_reference", "video_url", "video_path", "output_path", "diffusers_kwargs", "extra_params"),
        *("frame_interpolation_model_path", "upscaling_model_path", "perf_dump_path"),
    )
    any_size: ClassVar[bool] = True
    lengths: ClassVar[range | None] = range(1, 61)
    fps: ClassVar[int | None] = 24

    tells_address: ClassVar[bool] = True

    forgets: ClassVar[bool] = True
    keeps_copies: ClassVar[bool] = True
    max_running: ClassVar[int] = 1
    creates_per_minute: ClassVar[int] = 60

    def form(self, model: str, ask: Ask) -> dict[str, str]:
        return super().form(self.mark(model, ask.video_id), ask)

    def translated(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return with_size(fields)

    def mark(self, model: str, video_id: str) -> str:
        return f"{model}#{video_id}"

    def proves_refusal(self, status: int, body: bytes) -> bool:
        """After its scheduler has ended, the server answers like this before it reads a request."""
        return status == 503 and isinstance(field_of(body, "error"), str)
