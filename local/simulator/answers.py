"""What a simulated server says: answers, the envelopes of errors, and how an answer goes over the
wire.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from shared.clock import Clock

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
