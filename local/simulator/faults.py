"""Scripted faults for a simulated server: what goes wrong, on which operation, how often."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from itertools import count
from random import Random
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from local.simulator.answers import Answer, apim_error, fastapi_error, html, json_answer, openai_error
from local.simulator.dialects.documented import DOCUMENTED
from shared.clock import Clock

Operation = Literal["create", "get", "content", "list", "delete", "remix"]
Garbled = Literal["html", "malformed_json", "missing_id", "missing_prompt", "unknown_status", "backwards", "not_a_video"]


class Cut(Exception):
    """The connection ends without an answer. `job_id` is the job that was accepted or asked about,
    if any.
    """

    def __init__(self, job_id: str | None = None) -> None:
        super().__init__(job_id)
        self.job_id = job_id


class _Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What all faults share.

    times: how many requests it spoils; None is for ever. probability: how likely it spoils one, by
    a generator that starts from `seed`. job: only requests about this job.
    """

    operation: Operation | Literal["any"]
    times: Annotated[int, Meta(ge=1)] | None = 1
    probability: Annotated[float, Meta(ge=0, le=1)] = 1.0
    seed: int = 0
    job: str | None = None

    @property
    def pauses(self) -> tuple[float, float]:
        """Seconds of clock time before the service acts, and between acting and answering."""
        return 0, 0

    def before(self) -> Answer | None:
        """An answer here means that the service never acts. Raises Cut."""
        return None

    def after(self, answer: Answer) -> Answer:
        """What becomes of the service's answer, once a create or remix has been accepted or
        refused. Raises Cut.
        """
        return answer


class Status(_Fault, tag="status"):
    """Another answer: one that is `documented` ("E2"), or a status with a `body`, or with a message
    in an envelope.

    `when` says whether the service acts first. Headers such as `retry-after` are added.
    """

    documented: str | None = None
    status: Annotated[int, Meta(ge=200, le=599)] | None = None
    envelope: Literal["openai", "apim", "fastapi", "html", "empty"] = "openai"
    message: str = "A scripted fault."
    body: Any = None
    headers: dict[str, str] = {}
    when: Literal["before", "after"] = "before"

    def __post_init__(self) -> None:
        if self.documented is None and self.status is None:
            raise ValueError("a status fault needs `status` or `documented`")
        if self.documented is not None and self.documented not in DOCUMENTED:
            raise ValueError(f"`documented` is one of {', '.join(DOCUMENTED)}")

    def before(self) -> Answer | None:
        return self._answer() if self.when == "before" else None

    def after(self, answer: Answer) -> Answer:
        return replace(self._answer(), job_id=answer.job_id)

    def _answer(self) -> Answer:
        known = DOCUMENTED[self.documented] if self.documented else self._made_up(self.status or 500)
        return replace(known, status=self.status or known.status, headers=self.headers)

    def _made_up(self, status: int) -> Answer:
        if isinstance(self.body, str):
            return Answer(status, self.body.encode(), "text/plain")
        if self.body is not None:
            return json_answer(status, self.body)
        envelopes: Mapping[str, Callable[[], Answer]] = {
            "openai": lambda: openai_error(status, self.message, kind="server_error"),
            "apim": lambda: apim_error(status, self.message),
            "fastapi": lambda: fastapi_error(status, self.message),
            "html": lambda: html(status, self.message),
            "empty": lambda: Answer(status, content_type="text/plain"),
        }
        return envelopes[self.envelope]()


class Delay(_Fault, tag="delay"):
    """`seconds` of clock time before the service acts, or between acting and answering."""

    seconds: Annotated[float, Meta(ge=0)]
    when: Literal["before", "after"] = "before"

    @property
    def pauses(self) -> tuple[float, float]:
        return (self.seconds, 0) if self.when == "before" else (0, self.seconds)


class ResetBefore(_Fault, tag="reset_before"):
    """The connection is cut before the service acts."""

    def before(self) -> Answer | None:
        raise Cut


class ResetAfter(_Fault, tag="reset_after"):
    """The service acts, and the connection is cut before the answer."""

    def after(self, answer: Answer) -> Answer:
        raise Cut(answer.job_id)


class Restart(_Fault, tag="restart"):
    """The server is started again before it acts: what was only in its memory is lost."""


class Truncate(_Fault, tag="truncate"):
    """The answer's body ends after a fraction of its bytes. Content-Length promises the whole, or
    what is really sent.
    """

    fraction: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    promise: Literal["whole", "sent"] = "whole"

    def after(self, answer: Answer) -> Answer:
        short = answer.shortened(int(answer.length * self.fraction))
        return replace(short, promised=answer.length) if self.promise == "whole" else short


class Trickle(_Fault, tag="trickle"):
    """The answer's body arrives slowly, in clock time, `bytes_per_second` at a time."""

    bytes_per_second: Annotated[int, Meta(ge=1)]

    def after(self, answer: Answer) -> Answer:
        return replace(answer, bytes_per_second=self.bytes_per_second)


class Garble(_Fault, tag="garble"):
    """The service acts, and answers with its usual status, but not with what clients expect; a
    list, of all its videos.
    """

    form: Garbled

    def after(self, answer: Answer) -> Answer:
        if self.form == "html":
            return replace(html(answer.status, "Service Unavailable"), job_id=answer.job_id)
        if self.form == "not_a_video":
            return replace(answer, body=b"This is not a video. " * 500, padding=0)
        if self.form == "malformed_json":
            return answer.shortened(answer.length // 2)
        if answer.content_type != "application/json":
            return answer
        told = json.loads(answer.body)
        for video in told.get("data", [told]):
            self._spoil(video)
        return replace(json_answer(answer.status, told), job_id=answer.job_id)

    def _spoil(self, video: dict[str, Any]) -> None:
        if self.form == "missing_id":
            video.pop("id", None)
        elif self.form == "missing_prompt":
            video.pop("prompt", None)
        elif self.form == "unknown_status":
            video["status"] = "preprocessing"
        else:
            video["progress"] = 100 - video.get("progress", 0)


Fault = Status | Delay | ResetBefore | ResetAfter | Restart | Truncate | Trickle | Garble


class Faults:
    """The faults that are waiting to happen, in the order in which they were added; at most one
    spoils a request.
    """

    def __init__(self) -> None:
        self._armed: dict[int, tuple[Fault, Random]] = {}
        self._left: dict[int, int | None] = {}
        self._numbers = count(1)

    def add(self, fault: Fault) -> int:
        """Arm a fault; its number."""
        number = next(self._numbers)
        self._armed[number] = (fault, Random(fault.seed))
        self._left[number] = fault.times
        return number

    def clear(self) -> None:
        self._armed.clear()
        self._left.clear()

    def left(self) -> dict[int, int | None]:
        """How often each armed fault is still to happen; None is for ever."""
        return dict(self._left)

    def take(self, operation: str, job_id: str | None) -> Fault | None:
        """The fault that spoils this request, if one does. It has then happened once more."""
        for number, (fault, chance) in self._armed.items():
            if fault.operation not in (operation, "any") or fault.job not in (None, job_id):
                continue
            if chance.random() < fault.probability:
                self._happened(number)
                return fault
        return None

    def _happened(self, number: int) -> None:
        left = self._left[number]
        if left is None:
            return
        self._left[number] = left - 1
        if left <= 1:
            del self._armed[number], self._left[number]


async def spoil(fault: Fault, act: Callable[[], Awaitable[Answer]], clock: Clock) -> Answer:
    """Let the service act under a fault. Raises Cut."""
    pause_before, pause_after = fault.pauses
    if pause_before:
        await clock.sleep(pause_before)
    early = fault.before()
    if early is not None:
        return early
    answer = await act()
    if pause_after:
        await clock.sleep(pause_after)
    return fault.after(answer)


_decoder: msgspec.json.Decoder[Fault] = msgspec.json.Decoder(Fault)


def parse_fault(body: bytes) -> Fault:
    """A fault from JSON, such as `{"kind": "reset_after", "operation": "create"}`. Raises
    msgspec.MsgspecError.
    """
    return _decoder.decode(body)
