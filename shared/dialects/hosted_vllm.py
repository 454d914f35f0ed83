"""vLLM-Omni (0.30.0). It keeps its jobs in memory, and finished videos on disk until they are
deleted.

It answers a failed job with the HTTP status of its failure, and an integer as its code.
"""

from typing import ClassVar

from shared.dialects.bodies import field_of
from shared.dialects.dialect import Dialect


class HostedVllm(Dialect):
    name: ClassVar[str] = "hosted_vllm"
    meaning: ClassVar[str] = "vLLM-Omni"
    base_names: ClassVar[tuple[str, ...]] = ("HOSTED_VLLM_API_BASE",)
    key_names: ClassVar[tuple[str, ...]] = ("HOSTED_VLLM_API_KEY",)

    remixes: ClassVar[bool] = False
    stops: ClassVar[bool] = True
    variants: ClassVar[tuple[str, ...]] = ("video",)

    tells_progress: ClassVar[bool] = False
    keeps_words: ClassVar[bool] = True

    forgets: ClassVar[bool] = True
    keeps_copies: ClassVar[bool] = True
    max_running: ClassVar[int] = 1
    creates_per_minute: ClassVar[int] = 60

    def proves_refusal(self, status: int, body: bytes) -> bool:
        """The server raises its own errors while it reads the request, before it records the job. A
        proxy in front of it answers with another body.
        """
        error = field_of(body, "error")
        own = isinstance(error, dict) and error.get("code") == status
        return status in (500, 503) and (own or isinstance(field_of(body, "detail"), str))
