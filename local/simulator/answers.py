"""What the simulated Azure OpenAI says: answers, the three error envelopes, and how an answer goes
over the wire.

Numbers such as E2 are those of the documented errors of the Azure videos API. Where no body was
ever captured (E8 to E10, E13, E15, E16, E18, E19) the text here is the part that is known, in the
envelope that is likely.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from shared.clock import Clock

USER_ERROR = "video_generation_user_error"
INVALID_REQUEST = "invalid_request_error"
_CHUNK = 256 * 1024


@dataclass(frozen=True)
class Answer:
    """An answer before it is sent. `padding` zero bytes follow the body without ever being held in
    memory.

    `promised` is the Content-Length where it is not the true one: the connection is then cut after
    the last byte. `bytes_per_second` makes the body trickle. `job_id` is the job that the answer is
    about.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    job_id: str | None = None
    padding: int = 0
    promised: int | None = None
    bytes_per_second: int | None = None

    @property
    def length(self) -> int:
        return len(self.body) + self.padding

    def shortened(self, length: int) -> "Answer":
        """Only the first `length` bytes of it."""
        return replace(self, body=self.body[:length], padding=max(0, min(self.padding, length - len(self.body))))


class Refused(Exception):
    """The service does not do what it was asked to do; `answer` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def json_answer(status: int, content: Any, *, job_id: str | None = None) -> Answer:
    return Answer(status, json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(), job_id=job_id)


def openai_error(
    status: int, message: str, *, kind: str = INVALID_REQUEST, param: str | None = None, code: str | None = None
) -> Answer:
    """The envelope of the service itself."""
    return json_answer(status, {"error": {"message": message, "type": kind, "param": param, "code": code}})


def apim_error(status: int, message: str, code: str | None = None) -> Answer:
    """The envelope of the API Management gateway in front of the service."""
    return json_answer(status, {"error": {"code": code or str(status), "message": message}})


def fastapi_error(status: int, detail: str) -> Answer:
    """The envelope of the service's router."""
    return json_answer(status, {"detail": detail})


def html(status: int, title: str) -> Answer:
    """What proxies and front doors say."""
    page = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Answer(status, page.encode(), "text/html")


def unknown_deployment(name: str) -> Answer:
    """E1."""
    return openai_error(
        404,
        f"The API deployment '{name}' for this resource does not exist. If you created the deployment within the last "
        "5 minutes, please wait a moment and try again.",
        kind=USER_ERROR,
    )


def missing_parameter(name: str) -> Answer:
    """E8."""
    return openai_error(400, f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")


def blocked_input(reason: str) -> Answer:
    """E10."""
    return openai_error(
        400,
        f"Your request was blocked by our moderation system when checking inputs. Possible reasons: {reason}.",
        kind=USER_ERROR,
        code="moderation_blocked",
    )


def invalid_type(name: str, expected: str, got: str) -> Answer:
    """E7 and E16."""
    message = f"Invalid type for '{name}': expected {expected}, but got {got} instead."
    return openai_error(400, message, param=name, code="invalid_type")


def invalid_value(name: str, message: str) -> Answer:
    return openai_error(400, message, param=name, code="invalid_value")


TOO_MANY_RUNNING = openai_error(429, "Too many running tasks", kind=USER_ERROR)  # E2
ACCESS_DENIED = apim_error(  # E3, E17
    401,
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active "
    "subscription and use a correct regional API endpoint for your resource.",
)
RESOURCE_NOT_FOUND = apim_error(404, "Resource not found")  # E4
NOT_FOUND = fastapi_error(404, "Not Found")  # E5
INPAINT_MISMATCH = openai_error(400, "Inpaint image must match the requested width and height")  # E6
UPLOAD_TIMED_OUT = openai_error(400, "The upload timed out.", kind=USER_ERROR)  # E9
TIMEOUT = apim_error(408, "The operation was timeout.", "Timeout")  # E12
GONE = apim_error(410, "Gone")  # E13
TOO_MANY_HEADERS = Answer(431, content_type="text/plain")  # E15
RATE_LIMITED = apim_error(  # no captured body, and no Retry-After has been seen on this API
    429, "Requests to the videos operation have exceeded the call rate limit of this deployment.", "RateLimitReached"
)
BAD_KEY = openai_error(401, "Incorrect API key provided.", code="invalid_api_key")  # outside Azure

DOCUMENTED: Mapping[str, Answer] = {
    "E1": unknown_deployment("sora-2"),
    "E2": TOO_MANY_RUNNING,
    "E3": ACCESS_DENIED,
    "E4": RESOURCE_NOT_FOUND,
    "E5": NOT_FOUND,
    "E6": INPAINT_MISMATCH,
    "E7": invalid_type("input_reference", "a file", "a string"),
    "E8": missing_parameter("model"),
    "E9": UPLOAD_TIMED_OUT,
    "E10": blocked_input("people-in-user-uploads"),
    "E12": TIMEOUT,
    "E13": GONE,
    "E14": openai_error(400, "The response was filtered due to the content management policy.", code="content_filter"),
    "E15": TOO_MANY_HEADERS,
    "E16": invalid_type("seconds", "one of '4', '8', or '12'", "an integer"),
    "E17": ACCESS_DENIED,
    "E18": openai_error(500, "The server had an error while processing your request.", kind="server_error"),
    "E19": apim_error(403, "Access to this model is limited. Apply at aka.ms/oai/sora2access."),
}


async def send(request: web.Request, answer: Answer, clock: Clock) -> web.StreamResponse:
    """Put the answer on the wire, as fast and as completely as it says."""
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.headers.setdefault("date", format_datetime(clock.now(), usegmt=True))
    response.content_type = answer.content_type
    response.content_length = answer.length if answer.promised is None else answer.promised
    try:
        await response.prepare(request)
        for number, chunk in enumerate(_chunks(answer)):
            if number and answer.bytes_per_second is not None:
                await clock.sleep(_step(answer) / answer.bytes_per_second)
            await response.write(chunk)
        if answer.promised is None:
            await response.write_eof()
        elif request.transport is not None:
            request.transport.close()  # what was written still leaves; the promised rest never comes
    except ConnectionError:
        # The client has gone, and there is nobody left to tell.
        return response
    return response


def _step(answer: Answer) -> int:
    """How many bytes are written at once: what trickles, at most a second's worth."""
    return min(_CHUNK, answer.bytes_per_second or _CHUNK)


def _chunks(answer: Answer) -> Iterator[bytes | memoryview]:
    step = _step(answer)
    body = memoryview(answer.body)
    for start in range(0, len(body), step):
        yield body[start : start + step]
    zeros = memoryview(bytes(min(step, answer.padding)))
    for start in range(0, answer.padding, step):
        yield zeros[: answer.padding - start]
