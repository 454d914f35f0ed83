"""What guardrails say of a request."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """Why a guardrail blocks. `reason` ends a sentence that says so to the caller."""

    category: str
    reason: str


@dataclass(frozen=True)
class Passed:
    """A guardrail that let a request through: it has looked at it (`passed`), or its service did
    not answer and the operator lets such requests through (`unavailable`).
    """

    guardrail: str
    result: Literal["passed", "unavailable"]
