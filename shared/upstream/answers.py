"""Turns an upstream's answer that is not a 2xx into a leaf of UpstreamError.

The upstream has three envelopes for its errors, and some answers have none.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.errors import (
    Busy,
    Denied,
    Misrouted,
    Missing,
    Moderated,
    Refused,
    Retired,
    Uncertain,
    Unreachable,
    UpstreamError,
    UpstreamReport,
)
from shared.http_dates import delay
from shared.upstream.masking import Mask

# Seconds to wait after a 429 without `retry-after`: values that clients in the field use for the
# limit on creates per minute, and for the limit on running jobs, which is over as soon as one ends.
RATE_LIMIT_WAIT = 45.0
RUNNING_CAP_WAIT = 10.0

_LONGEST_WAIT = 86_400.0
_OPEN = Mask()  # knows no deployment's secrets
_LONGEST_TEXT = 4_000  # characters of each text from the upstream
_LONGEST_ID = 200  # characters of the vendor's id of an answer

_MODERATION_CODES = {"moderation_blocked", "content_filter", "content_policy_violation"}
_MODERATION_WORDS = ("moderation", "content policy", "content_filter", "safety system", "guardrail", "usage guidelines")


def is_moderation(code: str | None, message: str) -> bool:
    """Whether moderation refused a request or failed a job, by its code or its words."""
    return code in _MODERATION_CODES or any(word in message.lower() for word in _MODERATION_WORDS)


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """The vendor's id of an answer, for its support."""
    told = headers.get("apim-request-id") or headers.get("x-request-id")
    return None if told is None else told[:_LONGEST_ID]


def read_report(status: int, headers: Mapping[str, str], body: bytes, mask: Mask = _OPEN) -> UpstreamReport:
    """Read any of the upstream's envelopes: OpenAI, APIM (no `type`), FastAPI (`detail`), or no
    JSON. `mask` removes addresses and secrets from its texts.
    """
    request_id = request_id_of(headers)
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):  # not JSON, not unicode, or nested beyond reason
        return UpstreamReport(status, f"HTTP {status} without a JSON body", request_id=request_id)
    error = parsed.get("error") if isinstance(parsed, dict) else None
    if isinstance(error, dict):
        return UpstreamReport(
            status,
            _text(error.get("message"), mask) or f"HTTP {status}",
            _text(error.get("type"), mask),
            _text(error.get("code"), mask),
            _text(error.get("param"), mask),
            request_id,
        )
    detail = parsed.get("detail") if isinstance(parsed, dict) else None
    return UpstreamReport(status, _text(detail or error, mask) or f"HTTP {status}", request_id=request_id)


def from_upstream(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
    *,
    creating: bool,
    about_video: bool = False,
    mask: Mask = _OPEN,
) -> UpstreamError:
    """Classify an upstream answer that is not a 2xx.

    `creating`: the call may have made a job, so a failure without a clear answer is `Uncertain`.
    `about_video`: the path names a video, so a 404 is `Missing`. The tests follow the service's
    documented answers, by status, then by message, because `code` is often null.
    """
    build = _Builder(read_report(status, headers, body, mask))
    if status == 408 or status >= 500:
        return build(Uncertain if creating else Unreachable, "The upstream did not finish the request.")
    if status in (401, 403) or "api key not valid" in build.words:
        return build(Denied, "The upstream refused the gateway's credentials.")
    if status in (404, 410):
        return _not_there(build, status, about_video=about_video)
    if status == 429:
        default = RUNNING_CAP_WAIT if "running tasks" in build.words else RATE_LIMIT_WAIT
        return build(Busy, "The upstream has no capacity just now.", retry_after=retry_after(headers, now) or default)
    return _refusal(build, status)


def _not_there(build: "_Builder", status: int, *, about_video: bool) -> UpstreamError:
    """The error of a 404 or 410: the model, the deployment, the video or the route is missing."""
    if status == 410:
        return build(Retired, "The upstream has retired this model.")
    if "api deployment" in build.words or build.report.code == "DeploymentNotFound":
        return build(Retired, "The upstream has no such deployment; it was never made, or the model is retired.")
    if about_video and build.words not in ("not found", "resource not found"):
        return build(Missing, "The upstream no longer has this video.")
    return build(Misrouted, "The upstream does not know this route; check the deployment's api_base.")


def _refusal(build: "_Builder", status: int) -> UpstreamError:
    """The error of another 4xx: the upload, the content, the headers or a value is refused."""
    if status == 400 and "upload timed out" in build.words:
        return build(Unreachable, "The upstream lost the reference image.", code="upload_timed_out")
    if is_moderation(build.report.code, build.words):
        return build(Moderated, f"The request was blocked by the upstream's moderation: {build.report.message}")
    if status == 431:
        return build(Misrouted, "The upstream refused the request's headers.")
    return build(Refused, f"The upstream refused the request: {build.report.message}")


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds from `retry-after-ms` or `retry-after` (a number or an HTTP date). None if absent,
    past, or a day or more.
    """
    seconds = _milliseconds(headers.get("retry-after-ms", "")) or delay(headers.get("retry-after", ""), now)
    return seconds if seconds is not None and 0 < seconds < _LONGEST_WAIT else None


class _Builder:
    """Makes a leaf of UpstreamError with the report and the upstream's `param`. `words` is the
    message in small letters.
    """

    def __init__(self, report: UpstreamReport) -> None:
        self.report = report
        self.words = report.message.lower()

    def __call__(
        self, leaf: type[UpstreamError], message: str, *, code: str | None = None, retry_after: float | None = None
    ) -> UpstreamError:
        return leaf(message, code=code, param=self.report.param, retry_after=retry_after, report=self.report)


def _milliseconds(text: str) -> float | None:
    """A number of milliseconds, in seconds; None if it is no number."""
    try:
        return float(text) / 1000
    except ValueError:
        return None


def _text(value: object, mask: Mask) -> str | None:
    """A text from the upstream that can be stored with a video: masked, at most `_LONGEST_TEXT`
    characters, without lone surrogates.
    """
    if value is None:
        return None
    return mask(str(value))[:_LONGEST_TEXT].encode(errors="replace").decode()
