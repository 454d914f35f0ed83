"""Translates a Request to a Call and an Answer to a Reply: authentication, the body's fields, and
the error object.

A handler takes a `Call`, and returns an `Answer` or raises. How requests arrive and replies are
sent is in `web`.
"""

import asyncio
import json
import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared import gateway as composition
from shared.accounts.keys import Caller
from shared.errors import ConfigurationError, GatewayError, InvalidRequest, PermissionDenied, TooLarge, envelope
from shared.gateway import Gateway
from shared.routes.forms import read_form
from shared.videos.orchestration import Orchestrations

logger = logging.getLogger("gateway")

_LARGEST_BODY = 32 * 1024 * 1024  # bytes: a reference image of 20 MiB, in base64, and the rest
# The most values in a JSON body, counted by the characters that separate them. The longest prompt
# of nothing but commas has a third of them.
_MOST_VALUES = 100_000
_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_BRACKETED = re.compile(r"(\w+)\[([^\[\]]*)\]")


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    """These bytes, one piece after the other."""
    for piece in given:
        yield piece


@dataclass(frozen=True)
class Request:
    """One request. Header names are in lower case; several values of one name are joined by commas,
    and empty query parameters are left out.

    `parts` are the route's parameters. `body` can be read once, and raises ConnectionError where
    the caller disconnects before its end. `origin` is the address by which the caller reaches the
    gateway, such as `https://gateway.example`.
    """

    method: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    body: AsyncIterator[bytes] = field(default_factory=pieces)
    origin: str = ""


@dataclass(frozen=True)
class Answer:
    """What a handler returns. A `body` that is an asynchronous iterator is sent in pieces as they
    come; any other that is not bytes is sent as JSON.
    """

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"


@dataclass(frozen=True)
class Reply:
    """What is sent for an Answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes | AsyncIterator[bytes]


@dataclass(frozen=True)
class Call:
    """One request, as a handler gets it. `given` is the gateway to use; None means the one of the
    app settings.
    """

    given: Gateway | None
    request: Request
    orchestrations: Orchestrations | None
    request_id: str

    @property
    def gateway(self) -> Gateway:
        """The gateway. Raises ConfigurationError here, so that handlers that need no gateway work
        without configuration.
        """
        return self.given or composition.current()

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query

    @property
    def headers(self) -> Mapping[str, str]:
        return self.request.headers

    async def caller(self) -> Caller:
        """The authenticated caller. Raises Unauthenticated."""
        return await self.gateway.keys.authenticate(self.headers)

    async def operator(self) -> Caller:
        """The caller, who must hold the master key. Raises Unauthenticated or PermissionDenied."""
        caller = await self.caller()
        if not caller.master:
            raise PermissionDenied("Only the master key may do this.", code="master_key_required")
        return caller

    async def fields(self, *, optional: bool = False) -> dict[str, Any]:
        """The body's fields, from JSON or a form; a file's value is bytes. With `optional`, no body
        has no fields. Raises InvalidRequest or TooLarge.
        """
        body = await self._whole_body()
        if optional and not body:
            return {}
        # In a thread: a body of 32 MiB takes tenths of a second to parse.
        return await asyncio.to_thread(_fields_of, body, self.headers.get("content-type", ""))

    async def _whole_body(self) -> bytes:
        declared = self.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:18]) > _LARGEST_BODY:
            raise _too_large()
        body = bytearray()
        try:
            async for piece in self.request.body:
                body += piece
                if len(body) > _LARGEST_BODY:
                    raise _too_large()
        except ConnectionError as error:
            raise InvalidRequest("The body is incomplete.", code="incomplete_body", param="request_body") from error
        return bytes(body)


Handler = Callable[..., Awaitable[Answer]]


async def respond(
    request: Request,
    handler: Handler,
    orchestrations: Orchestrations | None = None,
    *,
    gateway: Gateway | None = None,
) -> Reply:
    """Run a handler with the route's parameters, and turn its answer or its error into a reply."""
    request_id = f"req_{secrets.token_hex(12)}"
    try:
        call = Call(gateway, request, orchestrations, request_id)
        answer = await handler(call, **request.parts)
    except ConfigurationError as error:
        logger.error("%s: %s", request_id, error.message)  # noqa: TRY400 - the message says it all, and is for the operator
        answer = _error_answer(ConfigurationError("The gateway is not configured; its log says what is missing."))
    except GatewayError as error:
        answer = _error_answer(error)
    except Exception:
        logger.exception("%s: unexpected error", request_id)
        answer = _error_answer(GatewayError(f"Something went wrong here; it is in the log as {request_id}."))
    return _reply(answer, request_id)


def _error_answer(error: GatewayError) -> Answer:
    headers = dict(error.headers)
    if error.should_retry is not None:
        headers["x-should-retry"] = "true" if error.should_retry else "false"
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after)))
        headers["retry-after-ms"] = str(max(1, round(error.retry_after * 1000)))
    return Answer(envelope(error), error.status, headers)


def _reply(answer: Answer, request_id: str) -> Reply:
    headers = {"x-request-id": request_id, "cache-control": "no-store", "content-type": answer.media_type, **answer.headers}
    return Reply(answer.status, headers, _encoded(answer.body))


def _encoded(body: Any) -> bytes | AsyncIterator[bytes]:
    if body is None or isinstance(body, bytes | AsyncIterator):
        return body or b""
    return msgspec.json.encode(body)


def _too_large() -> TooLarge:
    return TooLarge(f"The request is larger than {_LARGEST_BODY // 1024**2} MiB.")


def _fields_of(body: bytes, content_type: str) -> dict[str, Any]:
    if content_type.partition(";")[0].strip().lower() in _FORMS:
        return _form_fields(read_form(body, content_type.strip()))
    return _json_fields(body)


def _json_fields(body: bytes) -> dict[str, Any]:
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > _MOST_VALUES:
        raise TooLarge(f"The body has more than {_MOST_VALUES} values.", param="request_body")
    try:
        fields = msgspec.json.decode(body)
        json.loads(body, object_pairs_hook=_without_duplicates)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}", code="invalid_json", param="request_body") from error
    if not isinstance(fields, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json", param="request_body")
    return fields


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose names must differ. Raises InvalidRequest: only one of two values could
    be kept, and a filter in front of the gateway may have checked the other.
    """
    fields: dict[str, Any] = {}
    for name, value in pairs:
        _set(fields, name, value, shown=name)
    return fields


def _set(fields: dict[str, Any], name: str, value: Any, *, shown: str) -> None:
    if name in fields:
        told = shown[:64]
        raise InvalidRequest(f"`{told}` is given more than once.", code="duplicate_parameter", param=told)
    fields[name] = value


def _form_fields(parts: list[tuple[str, Any]]) -> dict[str, Any]:
    """A form's values by name. `metadata[key]` parts, as the official client sends them, become one
    object.
    """
    fields: dict[str, Any] = {}
    for name, value in parts:
        bracketed = _BRACKETED.fullmatch(name)
        if not bracketed:
            _set(fields, name, value, shown=name)
            continue
        pairs = fields.setdefault(bracketed[1], {})
        if not isinstance(pairs, dict):
            raise InvalidRequest(f"`{bracketed[1]}` is given both as text and as pairs.", param=bracketed[1])
        _set(pairs, bracketed[2], value, shown=name)
    return fields
