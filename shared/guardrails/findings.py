"""What guardrails say of a request."""

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """Why a guardrail blocks. `reason` ends a sentence that says so to the caller."""

    category: str
    reason: str


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a guardrail said of a request: it has looked at it and lets it through (`passed`), it
    blocks it, for what it found in a `category`, or its service did not answer (`unavailable`).
    """

    guardrail: str
    result: Literal["passed", "blocked", "unavailable"]
    category: str | None = None
