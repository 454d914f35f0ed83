"""What guardrails say of a request."""

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """Why a guardrail blocks. `reason` ends a sentence that says so to the caller."""

    category: str
    reason: str


class Passed(msgspec.Struct, frozen=True):
    """A guardrail that let a request through: it has looked at it (`passed`), or its service did
    not answer and the operator lets such requests through (`unavailable`).
    """

    guardrail: str
    result: Literal["passed", "unavailable"]
