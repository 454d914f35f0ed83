"""Translates a Request to a Call and an Answer to a Reply: authentication, the body's fields, and
the error object.

A handler takes a `Call`, and returns an `Answer` or raises. How requests arrive and replies are
sent is in `web`.
"""

import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from shared import gateway as composition
from shared.accounts.keys import Caller, presented_secret
from shared.config.browsers import Cors
from shared.errors import ConfigurationError, GatewayError, InvalidRequest, PermissionDenied, envelope
from shared.gateway import Gateway
from shared.routes import cors
from shared.routes.bodies import resumed, within_limits
from shared.routes.forms import read_form
from shared.routes.json_bodies import duplicate, read_json
from shared.telemetry.telemetry import NO_SPAN, SILENT, Span, Telemetry
from shared.telemetry.trace_parent import TraceParent
from shared.videos.orchestration import Orchestrations

logger = logging.getLogger("gateway")

_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_BRACKETED = re.compile(r"(\w+)\[([^\[\]]*)\]")


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    """These bytes, one piece after the other."""
    for piece in given:
        yield piece


class Request(msgspec.Struct, frozen=True):
    """One request. Header names are in lower case; several values of one name are joined by commas.

    `parts` are the route's parameters. `body` can be read once, and raises ConnectionError if the
    caller disconnects before its end. `origin` is the address by which the caller reaches the
    gateway, such as `https://gateway.example`. `connected` says whether the caller is still
    connected.
    """

    method: str
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    query: Mapping[str, str] = msgspec.field(default_factory=dict)
    parts: Mapping[str, str] = msgspec.field(default_factory=dict)
    body: AsyncIterator[bytes] = msgspec.field(default_factory=pieces)
    origin: str = ""
    connected: Callable[[], bool] = lambda: True


class Answer(msgspec.Struct, frozen=True):
    """What a handler returns. A `body` that is an asynchronous iterator is sent piece by piece;
    bytes are sent as they are, anything else as JSON.
    """

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    media_type: str = "application/json"


class Reply(msgspec.Struct, frozen=True):
    """What is sent for an Answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes | AsyncIterator[bytes]


class Call(msgspec.Struct, frozen=True):
    """One request, as a handler gets it. `given` is the gateway to use; None means the one of the
    app settings. `span` is the request's.
    """

    given: Gateway | None
    request: Request
    orchestrations: Orchestrations | None
    request_id: str
    span: Span = NO_SPAN

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
        """The authenticated caller, by a key or by a token of Entra where these are taken. Raises
        Unauthenticated, PermissionDenied or SignInUnavailable.
        """
        identities = self.gateway.identities
        if identities is not None and identities.takes(secret := presented_secret(self.headers)):
            return await identities.authenticate(secret)
        return await self.gateway.keys.authenticate(self.headers)

    async def operator(self) -> Caller:
        """The operator who calls. Raises what `caller` raises, or PermissionDenied."""
        caller = await self.caller()
        if not caller.master:
            raise PermissionDenied("Only the master key may do this.", code="master_key_required")
        return caller

    async def fields(self, *, optional: bool = False) -> dict[str, Any]:
        """The body's fields, from JSON or a form; a file's value is bytes. With `optional`, no body
        has no fields. Raises InvalidRequest or TooLarge.
        """
        body = within_limits(self.request.body, self.headers)
        first = await anext(body, b"")
        if optional and not first:
            return {}
        body = resumed(first, body)
        content_type = self.headers.get("content-type", "").strip()
        if content_type.partition(";")[0].strip().lower() in _FORMS:
            return _form_fields(await read_form(body, content_type))
        return await read_json(body)


Handler = Callable[..., Awaitable[Answer]]


async def respond(
    request: Request,
    handler: Handler,
    orchestrations: Orchestrations | None = None,
    *,
    gateway: Gateway | None = None,
) -> Reply:
    """Run a handler with the route's parameters, and turn its answer or its error into a reply. A
    browser's preflight request (CORS) is answered here, the same for every route.
    """
    request_id, ready = f"req_{secrets.token_hex(12)}", _ready(gateway)
    rules = ready.settings.knobs.cors if ready else Cors()  # no page may call a gateway that is not configured
    if cors.is_preflight(rules, request.method, request.headers):
        answer = Answer(status=204, headers=cors.permission(rules, request.headers))
    else:
        telemetry = ready.telemetry if ready else SILENT
        answer = await _traced(Call(ready, request, orchestrations, request_id), handler, telemetry)
    return _reply(answer, {"x-request-id": request_id, **cors.sharing(rules, request.headers)})


def _ready(given: Gateway | None) -> Gateway | None:
    """The gateway, or None if it is not configured. Some requests are answered all the same; a
    handler that needs the gateway raises the error, which is logged and answered there.
    """
    try:
        return given or composition.current()
    except Exception:
        return None


async def _traced(call: Call, handler: Handler, telemetry: Telemetry) -> Answer:
    """The answer, with a span of the request in the trace that its caller names."""
    parent = TraceParent.read(call.headers.get("traceparent"))
    with telemetry.span(_name(call, handler), "server", parent=parent, root=True) as span:
        answer = await _answered(msgspec.structs.replace(call, span=span), handler)
        span.set(
            {
                "http.request.method": call.request.method,
                "http.response.status_code": answer.status,
                "video.request_id": call.request_id,
            }
        )
        if answer.status >= 500:
            span.fail(str(answer.status))
        return answer


def named(call: Call, handler: Handler) -> None:
    """Rename the request's span to the route that a path of the catch-all leads to."""
    call.span.rename(_name(call, handler))


def _name(call: Call, handler: Handler) -> str:
    """The name of a request's span. It has no ids, so that there are few names."""
    return f"{call.request.method} {getattr(handler, '__name__', 'request')}"


async def _answered(call: Call, handler: Handler) -> Answer:
    request_id = call.request_id
    try:
        return await handler(call, **call.request.parts)
    except ConfigurationError as error:
        logger.error("%s: %s", request_id, error.message)  # noqa: TRY400 - the message says it all, and is for the operator
        return _error_answer(ConfigurationError("The gateway is not configured; its log says what is missing."))
    except GatewayError as error:
        return _error_answer(error)
    except Exception:
        logger.exception("%s: unexpected error", request_id)
        return _error_answer(GatewayError(f"Something went wrong here; it is in the log as {request_id}."))


def _error_answer(error: GatewayError) -> Answer:
    headers = dict(error.headers)
    if error.should_retry is not None:
        headers["x-should-retry"] = "true" if error.should_retry else "false"
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after)))
        headers["retry-after-ms"] = str(max(1, round(error.retry_after * 1000)))
    return Answer(envelope(error), error.status, headers)


def _reply(answer: Answer, general: Mapping[str, str]) -> Reply:
    headers = {**general, "cache-control": "no-store", "content-type": answer.media_type, **answer.headers}
    if "vary" in general and "vary" in answer.headers:
        headers["vary"] = f"{general['vary']}, {answer.headers['vary']}"
    return Reply(answer.status, headers, _encoded(answer.body))


def _encoded(body: Any) -> bytes | AsyncIterator[bytes]:
    if body is None or isinstance(body, bytes | AsyncIterator):
        return body or b""
    return msgspec.json.encode(body)


def _form_fields(parts: list[tuple[str, Any]]) -> dict[str, Any]:
    """A form's values by name. Parts called `metadata[key]`, as the official client sends them,
    become one object, and parts called `guardrails[]` one list.
    """
    fields: dict[str, Any] = {}
    for name, value in parts:
        bracketed = _BRACKETED.fullmatch(name)
        if not bracketed:
            _set(fields, name, value, name)
            continue
        together = fields.setdefault(bracketed[1], {} if bracketed[2] else [])
        if isinstance(together, list) and not bracketed[2]:
            together.append(value)
        elif isinstance(together, dict) and bracketed[2]:
            _set(together, bracketed[2], value, name)
        else:
            raise InvalidRequest(f"`{bracketed[1]}` is given in two ways: as text, pairs or a list.", param=bracketed[1])
    return fields


def _set(fields: dict[str, Any], name: str, value: Any, sent: str) -> None:
    """Raises InvalidRequest for a name that was `sent` before."""
    if name in fields:
        raise duplicate(sent)
    fields[name] = value
