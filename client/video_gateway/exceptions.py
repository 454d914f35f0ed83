"""What a call may raise: the `openai` package's classes, or subclasses of them.

Code that catches `openai.BadRequestError` catches ours as well. Every class has `status_code`,
`code`, `param` and `request_id`; the last three are None where no answer came.

    APIError
    ├── APIConnectionError                 500  no answer
    │   └── Timeout                        408  no answer in time
    └── APIStatusError
        ├── BadRequestError                400
        │   └── ContentPolicyViolationError
        ├── AuthenticationError            401  also where no key is configured
        ├── PermissionDeniedError          403
        ├── NotFoundError                  404
        ├── ConflictError                  409
        ├── UnprocessableEntityError       422
        ├── RateLimitError                 429
        └── InternalServerError            500 and above
            └── ServiceUnavailableError    503
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
from openai import (
    APIError,
    APIStatusError,
    BadRequestError,
    ConflictError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
)

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIStatusError",
    "AuthenticationError",
    "BadRequestError",
    "ConflictError",
    "ContentPolicyViolationError",
    "IncompleteDownload",
    "InternalServerError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "ServiceUnavailableError",
    "Timeout",
    "UnprocessableEntityError",
]

_CONTENT_POLICY = {"content_policy_violation", "content_filter", "moderation_blocked"}


class AuthenticationError(openai.AuthenticationError):
    """The key or token was refused, or there is none: then nothing was sent."""

    def __init__(self, message: str, *, response: Any = None, body: object = None) -> None:
        if response is not None:
            super().__init__(message, response=response, body=body)
            return
        Exception.__init__(self, message)
        self.message, self.body, self.status_code = message, body, 401
        self.code, self.param, self.type, self.request_id = "invalid_api_key", None, None, None


class ContentPolicyViolationError(BadRequestError):
    """The prompt or the reference image was blocked; nothing was charged."""


class ServiceUnavailableError(InternalServerError):
    """The service cannot answer just now; the same call may work later."""


class APIConnectionError(openai.APIConnectionError):
    """The server could not be reached, or the connection broke."""

    status_code = 500
    request_id = None


class Timeout(openai.APITimeoutError, APIConnectionError):
    """The server did not answer in time."""

    status_code = 408


class IncompleteDownload(APIConnectionError):
    """A download ended before its length, and could not be resumed."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)
        self.message, self.body, self.code, self.param, self.type = message, None, None, None, None


@contextmanager
def translated() -> Iterator[None]:
    """Turn the official client's errors into this module's, with their cause kept."""
    try:
        yield
    except openai.APITimeoutError as error:
        raise Timeout(request=error.request) from error
    except openai.APIConnectionError as error:
        if isinstance(error, APIConnectionError):
            raise
        raise APIConnectionError(message=error.message, request=error.request) from error
    except openai.APIStatusError as error:
        kind = _kind_of(error)
        if kind is None or isinstance(error, kind):
            raise
        raise kind(error.message, response=error.response, body=error.body) from error


def _kind_of(error: APIStatusError) -> "type[APIStatusError] | None":
    if isinstance(error, openai.AuthenticationError):
        return AuthenticationError
    if error.status_code == 503:
        return ServiceUnavailableError
    if isinstance(error, BadRequestError) and error.code in _CONTENT_POLICY:
        return ContentPolicyViolationError
    return None
