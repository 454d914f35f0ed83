"""What guardrails say of a request."""

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """Why a guardrail blocks. `reason` is the last part of the error message to the caller."""

    category: str
    reason: str


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """A guardrail's result for a request: `passed`; `blocked`, because of a `category`; or
    `unavailable` if its service did not answer.
    """

    guardrail: str
    result: Literal["passed", "blocked", "unavailable"]
    category: str | None = None
