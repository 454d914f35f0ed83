"""How a step of a video's life ends: plain JSON, because the orchestration's history keeps it."""

from math import inf
from typing import TypedDict


class Failure(TypedDict):
    """Why a video cannot be made. `request_id` is what the vendor knows the refusal by."""

    code: str
    message: str
    request_id: str | None


class StepResult(TypedDict, total=False):
    """Exactly one key: `done`, `again` (run the same step after so many seconds), or `failed`."""

    done: bool
    again: float
    failed: Failure


DONE: StepResult = {"done": True}


def again(seconds: float, left: float = inf) -> StepResult:
    """Not yet: run the same step again after so many seconds; when `left` seconds are over at the
    latest, for the last time.
    """
    return {"again": min(seconds, max(left, 1.0))}


def failed(code: str, message: str, request_id: str | None = None) -> StepResult:
    """The video cannot be made, for this reason."""
    return {"failed": {"code": code, "message": message, "request_id": request_id}}
