"""vLLM-Omni (0.30.0). It keeps its jobs in memory, and finished videos on disk until they are
deleted.

It answers a failed job with the HTTP status of its failure, and an integer as its code.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from shared.dialects.bodies import field_of
from shared.dialects.dialect import Dialect
from shared.dialects.engines import DIFFUSION, with_size
from shared.dialects.parameters import Parameter, Parameters


class HostedVllm(Dialect):
    name: ClassVar[str] = "hosted_vllm"
    meaning: ClassVar[str] = "vLLM-Omni"
    base_names: ClassVar[tuple[str, ...]] = ("HOSTED_VLLM_API_BASE",)
    key_names: ClassVar[tuple[str, ...]] = ("HOSTED_VLLM_API_KEY",)

    remixes: ClassVar[bool] = False
    stops: ClassVar[bool] = True
    resizes: ClassVar[bool] = True
    variants: ClassVar[tuple[str, ...]] = ("video",)
    parameters: ClassVar[Parameters] = {
        **DIFFUSION,
        "fps": Parameter("number", 1, 120),
        "boundary_ratio": Parameter("number", 0, 1),
        "aspect_ratio": Parameter("text", 1, 16),
        "quality": Parameter("text", choices=("lossless", "high")),
        "generate_sound": Parameter("boolean"),
        "sound_duration": Parameter("number", 0.1, 600),
    }
    withheld: ClassVar[tuple[str, ...]] = (
        *("input_references", "image_reference", "video_reference", "audio_reference", "control_reference"),
        *("source_video", "source_audio", "lora", "extra_params", "frame_interpolation_model_path"),
    )
    any_size: ClassVar[bool] = True
    lengths: ClassVar[range | None] = range(1, 61)
    fps: ClassVar[int | None] = 24

    tells_progress: ClassVar[bool] = False
    tells_prompt: ClassVar[bool] = True
    keeps_words: ClassVar[bool] = True

    forgets: ClassVar[bool] = True
    keeps_copies: ClassVar[bool] = True
    max_running: ClassVar[int] = 1
    creates_per_minute: ClassVar[int] = 60

    def translated(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return with_size(fields)

    def proves_refusal(self, status: int, body: bytes) -> bool:
        """The server's own errors are raised while it reads the request, before it records the job.
        They are known by their body: a proxy in front of it answers with another.
        """
        error = field_of(body, "error")
        own = isinstance(error, dict) and error.get("code") == status
        return status in (500, 503) and (own or isinstance(field_of(body, "detail"), str))
