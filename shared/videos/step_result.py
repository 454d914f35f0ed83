"""The result of a step: plain JSON, because the orchestration's history stores it."""

from math import inf
from typing import Any, TypedDict


class Failure(TypedDict):
    """Why a video cannot be made. `request_id` is the vendor's id of its refusal. `message` is
    empty if the video's record has it.
    """

    code: str
    message: str
    request_id: str | None


Seen = dict[str, Any]  # a `Sighting` as JSON


class StepResult(TypedDict, total=False):
    """Has exactly one of `done`, `again` (seconds after which to run the same step again),
    `resubmit` (begin with the first step again), and `failed`. Beside `again`, `seen` is for the
    next run of the step.
    """

    done: bool
    resubmit: bool
    again: float
    seen: Seen
    failed: Failure


DONE: StepResult = {"done": True}
RESUBMIT: StepResult = {"resubmit": True}


def again(seconds: float, left: float = inf, seen: Seen | None = None) -> StepResult:
    """Run the same step again after `seconds`, but no later than when `left` seconds are over."""
    wait: StepResult = {"again": min(seconds, max(left, 1.0))}
    return {**wait, "seen": seen} if seen else wait


def failed(code: str, message: str, request_id: str | None = None) -> StepResult:
    """The video cannot be made. `code` is one of docs/errors.md or the upstream's."""
    return {"failed": {"code": code, "message": message, "request_id": request_id}}
