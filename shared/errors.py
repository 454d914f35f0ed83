"""Everything that can go wrong, and the two languages it is said in.

    GatewayError                  500  internal_error
    ├── ConfigurationError        500  configuration_error      the operator must mend a setting
    ├── StorageUnavailable        503  storage_unavailable      storage did not answer; try again
    ├── RequestError                   the caller can mend it
    │   ├── InvalidRequest        400  invalid_value, missing_required_parameter, …
    │   ├── Unauthenticated       401  invalid_api_key
    │   ├── PermissionDenied      403  permission_denied
    │   ├── NotFound              404  video_not_found, unknown_url
    │   ├── MethodNotAllowed      405  method_not_allowed
    │   ├── Conflict              409  video_not_completed
    │   ├── Gone                  410  content_gone
    │   ├── TooLarge              413  request_too_large
    │   ├── RangeNotSatisfiable   416  range_not_satisfiable
    │   ├── IdempotencyMismatch   422  idempotency_key_reused
    │   ├── RateLimited           429  rate_limit_exceeded, too_many_running
    │   └── BudgetExceeded        429  budget_exceeded, seconds_limit_exceeded
    └── UpstreamError             502  what the upstream answered to one of our calls
        ├── Refused                    the request itself was refused; repeating it cannot help
        │   └── Moderated              refused by moderation
        ├── Busy                       429: no job was made; wait and try again
        ├── Retired                    410, or no such deployment: this deployment is over
        ├── Denied                     401 or 403: our credentials, not the caller's
        ├── Misrouted                  404 on the route, 431: our configuration
        ├── Missing                    404 on a video or its content
        ├── Unreachable                nothing happened upstream; safe to repeat
        └── Uncertain                  a create that may have been accepted; never repeated blindly

In: `from_upstream` turns the upstream's three envelopes (and none at all) into a leaf. Out:
`envelope` turns any leaf into the OpenAI error object. No other place picks a status code.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar


class GatewayError(Exception):
    """An error with an answer: HTTP `status`, OpenAI `type` and `code`, and whether a client's
    retry can help.

    `retry_after` is in seconds. `headers` are sent with the answer. A `None` in `should_retry`
    leaves the decision to the client's own rule for the status.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str] = "internal_error"
    should_retry: ClassVar[bool | None] = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.retry_after = retry_after
        self.headers = dict(headers or {})


class ConfigurationError(GatewayError):
    """A setting is missing or wrong. The message is for the operator's log, callers see only that
    there is one.
    """

    default_code = "configuration_error"
    should_retry = False


class StorageUnavailable(GatewayError):
    status = 503
    default_code = "storage_unavailable"


class RequestError(GatewayError):
    """The caller can mend it; nothing was changed and nothing was spent."""

    status = 400
    type = "invalid_request_error"
    default_code = "invalid_request"


class InvalidRequest(RequestError):
    default_code = "invalid_value"


class Unauthenticated(RequestError):
    status = 401
    type = "authentication_error"
    default_code = "invalid_api_key"


class PermissionDenied(RequestError):
    status = 403
    type = "permission_error"
    default_code = "permission_denied"


class NotFound(RequestError):
    status = 404
    default_code = "video_not_found"


class MethodNotAllowed(RequestError):
    status = 405
    default_code = "method_not_allowed"


class Conflict(RequestError):
    """The video is not in a state that allows it. The client would retry a 409 on its own, which
    cannot help here.
    """

    status = 409
    default_code = "video_not_completed"
    should_retry = False


class Gone(RequestError):
    status = 410
    default_code = "content_gone"


class TooLarge(RequestError):
    status = 413
    default_code = "request_too_large"


class RangeNotSatisfiable(RequestError):
    status = 416
    default_code = "range_not_satisfiable"


class IdempotencyMismatch(RequestError):
    status = 422
    default_code = "idempotency_key_reused"
    should_retry = False


class RateLimited(RequestError):
    """Too many just now: waiting helps."""

    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"


class BudgetExceeded(RequestError):
    """Nothing is left: waiting a moment does not help, and the client would retry a 429 on
    its own.
    """

    status = 429
    type = "budget_exceeded"
    default_code = "budget_exceeded"
    should_retry = False


@dataclass(frozen=True)
class UpstreamReport:
    """What the upstream said, for logs and for `provider_specific_fields`. `request_id` is its
    `apim-request-id`.
    """

    status: int | None = None
    message: str = ""
    type: str | None = None
    code: str | None = None
    param: str | None = None
    request_id: str | None = None


class UpstreamError(GatewayError):
    """A call to the upstream did not succeed. The message is ours; the upstream's own words are in
    `report`.
    """

    status = 502
    should_retry = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        report: UpstreamReport | None = None,
    ) -> None:
        super().__init__(message, code=code, param=param, retry_after=retry_after)
        self.report = report or UpstreamReport()


class Refused(UpstreamError):
    default_code = "upstream_rejected"


class Moderated(Refused):
    default_code = "moderation_blocked"


class Busy(UpstreamError):
    default_code = "upstream_busy"


class Retired(UpstreamError):
    default_code = "model_retired"


class Denied(UpstreamError):
    default_code = "upstream_auth_error"


class Misrouted(UpstreamError):
    default_code = "upstream_misconfigured"


class Missing(UpstreamError):
    default_code = "upstream_video_missing"


class Unreachable(UpstreamError):
    default_code = "upstream_unavailable"


class Uncertain(UpstreamError):
    default_code = "upstream_uncertain"


# Seconds to wait after a 429 that names none: what clients in the field use for the
# creates-per-minute limit, and for the cap on running jobs, which frees up as soon as one of them
# ends.
RATE_LIMIT_WAIT = 45.0
RUNNING_CAP_WAIT = 10.0

_LONGEST_WAIT = 86_400.0
_LONGEST_TEXT = 4_000  # characters of each thing the upstream says

MODERATION_CODES = {"moderation_blocked", "content_filter", "content_policy_violation"}
_MODERATION_WORDS = ("moderation", "content policy", "content_filter", "safety system")


def read_report(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamReport:
    """Read any of the upstream's envelopes: OpenAI, APIM (no `type`), FastAPI (`detail`), or no
    JSON at all.
    """
    request_id = headers.get("apim-request-id") or headers.get("x-request-id")
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):  # not JSON, not unicode, or nested beyond reason
        return UpstreamReport(status, f"HTTP {status} without a JSON body", request_id=request_id)
    error = parsed.get("error") if isinstance(parsed, dict) else None
    if isinstance(error, dict):
        return UpstreamReport(
            status,
            _text(error.get("message")) or f"HTTP {status}",
            _text(error.get("type")),
            _text(error.get("code")),
            _text(error.get("param")),
            request_id,
        )
    detail = parsed.get("detail") if isinstance(parsed, dict) else None
    return UpstreamReport(status, _text(detail or error) or f"HTTP {status}", request_id=request_id)


def from_upstream(
    status: int, headers: Mapping[str, str], body: bytes, now: datetime, *, creating: bool, about_video: bool = False
) -> UpstreamError:
    """Classify an upstream answer that is not a 2xx.

    `creating`: the call may have made a job, so that a failure in mid-air is `Uncertain`.
    `about_video`: the path named a video, so that a plain 404 is `Missing`. The order of the tests
    follows the service's documented answers: status, then message, because `code` is often null.
    """
    report = read_report(status, headers, body)
    words = report.message.lower()
    build = _Builder(report)
    if status == 408 or status >= 500:
        return build(Uncertain if creating else Unreachable, "The upstream did not finish the request.")
    if status in (401, 403):
        return build(Denied, "The upstream refused the gateway's credentials.")
    if status == 410:
        return build(Retired, "The upstream has retired this model.")
    if status == 404:
        if "api deployment" in words or report.code == "DeploymentNotFound":
            return build(Retired, "The upstream has no such deployment; it was never made, or the model is retired.")
        if about_video and words not in ("not found", "resource not found"):
            return build(Missing, "The upstream no longer has this video.")
        return build(Misrouted, "The upstream does not know this route; check the deployment's api_base.")
    if status == 429:
        default = RUNNING_CAP_WAIT if "running tasks" in words else RATE_LIMIT_WAIT
        return build(Busy, "The upstream has no capacity just now.", retry_after=retry_after(headers, now) or default)
    if status == 400 and "upload timed out" in words:
        return build(Unreachable, "The upstream lost the reference image.", code="upload_timed_out")
    if report.code in MODERATION_CODES or any(word in words for word in _MODERATION_WORDS):
        return build(Moderated, f"The request was blocked by the upstream's moderation: {report.message}")
    if status == 431:
        return build(Misrouted, "The upstream refused the request's headers.")
    return build(Refused, f"The upstream refused the request: {report.message}")


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds from `retry-after-ms` or `retry-after` (a number or an HTTP date); None where absent,
    past or absurd.
    """
    seconds = _number(headers.get("retry-after-ms"), 1000) or _number(headers.get("retry-after"), 1)
    if seconds is None and "retry-after" in headers:
        try:
            seconds = (parsedate_to_datetime(headers["retry-after"]) - now).total_seconds()
        except (ValueError, TypeError, OverflowError):  # not a date either, one without a zone, or one no calendar has
            return None
    return seconds if seconds is not None and 0 < seconds < _LONGEST_WAIT else None


def envelope(error: GatewayError) -> dict[str, Any]:
    """The OpenAI error object; upstream errors add the upstream's own words under
    `provider_specific_fields`.
    """
    body: dict[str, Any] = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    if isinstance(error, UpstreamError):
        body["provider_specific_fields"] = asdict(error.report)
    return {"error": body}


class _Builder:
    """Makes a leaf that carries the report and the upstream's `param`."""

    def __init__(self, report: UpstreamReport) -> None:
        self.report = report

    def __call__(
        self, leaf: type[UpstreamError], message: str, *, code: str | None = None, retry_after: float | None = None
    ) -> UpstreamError:
        return leaf(message, code=code, param=self.report.param, retry_after=retry_after, report=self.report)


def _number(text: str | None, unit: int) -> float | None:
    try:
        return float(text) / unit if text else None
    except ValueError:
        return None


def _text(value: object) -> str | None:
    """What the upstream wrote, fit to be stored with a video: a bounded length, and no half of a
    surrogate pair.
    """
    return None if value is None else str(value)[:_LONGEST_TEXT].encode(errors="replace").decode()
