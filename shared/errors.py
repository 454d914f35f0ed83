"""The tree of all errors, with the status and the codes that a client sees.

    GatewayError                  500  internal_error
    ├── ConfigurationError        500  configuration_error      the operator must correct a setting
    ├── StorageUnavailable        503  storage_unavailable      storage did not answer; try again
    ├── WaitingRoomFull           503  waiting_room_full        too many calls wait on this instance
    ├── Unavailable               503  variant_unavailable      an image cannot be had just now
    ├── SignInUnavailable         503  sign_in_unavailable      a token cannot be checked just now
    ├── NotPassed                      the operator's guardrails do not let a request pass
    │   └── GuardrailUnavailable  503  guardrail_unavailable    a guardrail did not answer
    ├── RequestError                   the caller can correct it
    │   ├── InvalidRequest        400  invalid_value, missing_required_parameter, …
    │   ├── WebhookUnreachable    400  webhook_unreachable, the caller's endpoint
    │   ├── ContentBlocked        400  content_policy_violation (a NotPassed too)
    │   ├── Unauthenticated       401  invalid_api_key
    │   ├── PermissionDenied      403  permission_denied, identity_not_mapped, …
    │   ├── NotFound              404  video_not_found, unknown_url
    │   ├── MethodNotAllowed      405  method_not_allowed
    │   ├── Conflict              409  video_not_completed
    │   ├── Gone                  410  content_gone
    │   ├── PreconditionFailed    412  precondition_failed
    │   ├── RequestTimeout        408  request_timeout
    │   ├── TooLarge              413  request_too_large
    │   ├── UnsupportedMedia      415  unsupported_encoding
    │   ├── RangeNotSatisfiable   416  range_not_satisfiable
    │   ├── IdempotencyMismatch   422  idempotency_key_reused
    │   ├── RateLimited           429  rate_limit_exceeded, too_many_…
    │   └── BudgetExceeded        429  budget_exceeded, seconds_limit_exceeded
    └── UpstreamError             502  what the upstream answered to one of our calls
        ├── Refused                    the request itself was refused; repeating it cannot help
        │   └── Moderated              refused by moderation
        ├── Busy                       429: no job was made; wait and try again
        ├── Retired                    410, or no such deployment: this deployment is over
        ├── Denied                     401 or 403: our credentials, not the caller's
        ├── Misrouted                  404 on the route, 431: our configuration
        ├── Missing                    404 on a video or its content
        ├── NotAVideo                  its bytes are not a whole MP4, or not the image wanted
        ├── Unreachable                nothing happened upstream; safe to repeat
        └── Uncertain                  a create that may have been accepted; never repeated blindly

`envelope` turns any leaf into the OpenAI error object, and no other place picks a status code.
`shared/upstream/answers.py` turns an answer of the upstream into a leaf of UpstreamError.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec


class GatewayError(Exception):
    """An error that becomes an answer: HTTP `status`, OpenAI `type` and `code`, and `should_retry`,
    which tells the official client whether to retry (None leaves that to its own rule for the
    status).

    `retry_after` is in seconds. `param` names the parameter. `headers` are sent with the answer,
    `details` as `provider_specific_fields`.
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
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.retry_after = retry_after
        self.headers = dict(headers or {})
        self.details = dict(details or {})


class ConfigurationError(GatewayError):
    """A setting is missing or wrong. The message goes to the operator's log; callers only see that
    the gateway is not configured.
    """

    default_code = "configuration_error"
    should_retry = False


class StorageUnavailable(GatewayError):
    """Storage did not answer, or refused an operation. A later try may succeed."""

    status = 503
    default_code = "storage_unavailable"


class Unavailable(GatewayError):
    """An image of a finished video can neither be fetched nor drawn now."""

    status = 503
    default_code = "variant_unavailable"


class SignInUnavailable(GatewayError):
    """Whether a token is good cannot be known: the keys of its issuer are not to be had."""

    status = 503
    default_code = "sign_in_unavailable"


class WaitingRoomFull(GatewayError):
    """Too many calls wait for news on this instance."""

    status = 503
    default_code = "waiting_room_full"


class NotPassed(GatewayError):
    """The operator's guardrails do not let a request pass. `said` are the verdicts of those that
    have run, as the journal has them.
    """

    def __init__(self, message: str, *, said: Sequence[Mapping[str, Any]] = (), **told: Any) -> None:
        super().__init__(message, **told)
        self.said = said


class GuardrailUnavailable(NotPassed):
    """A guardrail could not check a request, and its `on_error` is `block`."""

    status = 503
    default_code = "guardrail_unavailable"


class RequestError(GatewayError):
    """The caller can correct the request. Nothing was changed and nothing was spent."""

    status = 400
    type = "invalid_request_error"
    default_code = "invalid_request"


class InvalidRequest(RequestError):
    default_code = "invalid_value"


class WebhookUnreachable(RequestError):
    """The caller's own endpoint did not answer a test. Not a 5xx: the gateway works."""

    default_code = "webhook_unreachable"


class ContentBlocked(NotPassed, RequestError):
    """A guardrail of the operator forbids the prompt or the image."""

    default_code = "content_policy_violation"


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
    """The video's state does not allow it. The official client would retry a 409, which cannot help
    here.
    """

    status = 409
    default_code = "video_not_completed"
    should_retry = False


class Gone(RequestError):
    status = 410
    default_code = "content_gone"


class PreconditionFailed(RequestError):
    status = 412
    default_code = "precondition_failed"
    should_retry = False


class RequestTimeout(RequestError):
    status = 408
    default_code = "request_timeout"


class UnsupportedMedia(RequestError):
    status = 415
    default_code = "unsupported_encoding"


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
    """Too many requests or running videos. Waiting helps."""

    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"


class BudgetExceeded(RequestError):
    """The budget is used up. The official client would retry a 429, which cannot help here."""

    status = 429
    type = "budget_exceeded"
    default_code = "budget_exceeded"
    should_retry = False


class UpstreamReport(msgspec.Struct, frozen=True):
    """The upstream's own words, for logs and for `provider_specific_fields`. `request_id` is its
    `apim-request-id`.
    """

    status: int | None = None
    message: str = ""
    type: str | None = None
    code: str | None = None
    param: str | None = None
    request_id: str | None = None


class UpstreamError(GatewayError):
    """A call to the upstream failed. The message is ours; the upstream's own words are in
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
        self.report = report or UpstreamReport()
        super().__init__(message, code=code, param=param, retry_after=retry_after, details=msgspec.structs.asdict(self.report))


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


class NotAVideo(UpstreamError):
    """The bytes are not a complete MP4 (cut off, another format, without index or media), or not
    the image that was asked for.
    """

    default_code = "upstream_content_invalid"


class Unreachable(UpstreamError):
    default_code = "upstream_unavailable"


class Uncertain(UpstreamError):
    default_code = "upstream_uncertain"


def envelope(error: GatewayError) -> dict[str, Any]:
    """The OpenAI error object."""
    body: dict[str, Any] = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    if error.details:
        body["provider_specific_fields"] = error.details
    return {"error": body}
