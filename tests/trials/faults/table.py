"""What goes wrong, in which operation, and what is expected of it: the contents of the fault
matrix, and no code.

With the settings of `tests.trials.faults.world`: a look every 5 seconds, 20 to find a lost create,
100 for a job, 900 in the queue.
"""

from typing import Any, NamedTuple

AZURE = "azure"
PROMPT = "A canary that nobody must hear"
CREATE, REMIX, LIST, MOVE = "create", "remix", "list, after a lost create", "create, first of two"
POLL, CONTENT, RUNNING, FINISHED = "poll", "content", "delete while it runs", "delete when it is done"
COLUMNS = (CREATE, REMIX, LIST, MOVE, POLL, CONTENT, RUNNING, FINISHED)

# What the simulator calls the operation that goes wrong.
CALLED = {
    CREATE: "create",
    REMIX: "remix",
    LIST: "list",
    MOVE: "create",
    POLL: "get",
    CONTENT: "content",
    RUNNING: "delete",
    FINISHED: "delete",
}


def _status(status: int, envelope: str = "openai", **more: Any) -> dict[str, Any]:
    return {"kind": "status", "status": status, "envelope": envelope, "message": f"Trouble with {PROMPT}.", **more}


def _documented(number: str) -> dict[str, Any]:
    return {"kind": "status", "documented": number}


def _garbled(form: str) -> dict[str, Any]:
    return {"kind": "garble", "form": form}


OVER = "404 deployment, past its day"
FAULTS: dict[str, dict[str, Any]] = {
    "400 moderation": _documented("E10"),
    "400 upload timed out": _documented("E9"),
    "400 anything else": _status(400),
    "401": _documented("E3"),
    "403": _documented("E19"),
    "404 deployment": _documented("E1"),
    OVER: _documented("E1"),
    "404 route": _documented("E4"),
    "404 video": _status(404),
    "408": _documented("E12"),
    "409": _status(409),
    "410": _documented("E13"),
    "429 running": _documented("E2"),
    "429 rate": _status(429, "apim"),
    "429, Retry-After: 2": _status(429, "apim", headers={"retry-after": "2"}),
    "429, Retry-After: a month": _status(429, "apim", headers={"retry-after": "2592000"}),
    "429, Retry-After: a date": _status(429, "apim", headers={"retry-after": "in half a minute"}),
    "431": _documented("E15"),
    "500": _documented("E18"),
    "502 HTML": _status(502, "html"),
    "503": _status(503, "empty"),
    "connection refused": {"kind": "refuse"},
    "reset before it acts": {"kind": "reset_before"},
    "reset after it acted": {"kind": "reset_after"},
    "slow trickle": {"kind": "trickle", "bytes_per_second": 40},
    "timeout before it acts": {"kind": "delay", "seconds": 15, "when": "before"},
    "timeout after it acted": {"kind": "delay", "seconds": 15, "when": "after"},
    "cut short": {"kind": "truncate"},
    "malformed JSON": _garbled("malformed_json"),
    "HTML with 200": _garbled("html"),
    "missing id": _garbled("missing_id"),
    "missing prompt": _garbled("missing_prompt"),
    "unknown status": _garbled("unknown_status"),
    "progress backwards": _garbled("backwards"),
    "not a video": _garbled("not_a_video"),
}

# Faults that are no fault of their own in some columns: what they spoil is not in the answer, or is
# not read.
ASKING = (CREATE, REMIX, MOVE)
_DELETES = (RUNNING, FINISHED)
NOWHERE: dict[str, tuple[str, ...]] = {
    OVER: (LIST, POLL, CONTENT, *_DELETES),
    "timeout before it acts": (LIST, POLL, CONTENT, *_DELETES),  # to those it is the same as the other timeout
    "missing id": (CONTENT, *_DELETES),
    "missing prompt": (*ASKING, POLL, CONTENT, *_DELETES),
    "unknown status": (CONTENT, *_DELETES),
    "progress backwards": (*ASKING, LIST, CONTENT, *_DELETES),
    "malformed JSON": (CONTENT, *_DELETES),
    "HTML with 200": _DELETES,
    "not a video": (*ASKING, LIST, POLL, *_DELETES),
}

# Every code that a video may fail with, but for those with which the upstream itself ends a job.
CODES = frozenset(
    {
        "cancelled",
        "content_unavailable",
        "deadline_exceeded",
        "deployment_missing",
        "generation_failed",
        "model_not_found",
        "model_retired",
        "moderation_blocked",
        "not_supported",
        "queue_timeout",
        "reference_missing",
        "source_gone",
        "upload_timed_out",
        "upstream_auth_error",
        "upstream_busy",
        "upstream_content_invalid",
        "upstream_misconfigured",
        "upstream_rejected",
        "upstream_unavailable",
        "upstream_uncertain",
        "upstream_video_missing",
    }
)


class Expected(NamedTuple):
    """How a video ends (`completed`, or the code of its error), and how often the operation is
    called for it.
    """

    end: str
    least: int
    most: int


Expectation = tuple[Expected, Expected]  # if the fault happens once, and if it always happens


def ok(least: int, most: int | None = None) -> Expected:
    """It is completed."""
    return Expected("completed", least, most or least)


def both(end: str, least: int, most: int | None = None) -> Expectation:
    """Once is as bad as always."""
    expected = Expected(end, least, most or least)
    return expected, expected


def always(end: str, calls: int) -> Expected:
    """It fails after exactly so many calls."""
    return Expected(end, calls, calls)


def refused(code: str) -> Expectation:
    """Refused for good: nobody asks again."""
    return both(code, 1)


def closed(code: str) -> Expectation:
    """The deployment is asked once a minute, for ten minutes."""
    return ok(2), Expected(code, 10, 11)


# The answer is lost, and the job is found.
ADOPTED = HARMLESS = both("completed", 1)
_FINAL = (refused("moderation_blocked"), refused("upstream_rejected"))  # whoever else is asked

_CREATED: dict[str, Expectation] = {
    "400 moderation": refused("moderation_blocked"),
    "400 upload timed out": (ok(2), Expected("upload_timed_out", 3, 3)),
    "400 anything else": refused("upstream_rejected"),
    "401": closed("upstream_auth_error"),
    "403": closed("upstream_auth_error"),
    "404 deployment": closed("model_retired"),
    OVER: refused("model_retired"),
    "404 route": closed("upstream_misconfigured"),
    "404 video": closed("upstream_misconfigured"),
    "409": refused("upstream_rejected"),
    "410": refused("model_retired"),
    "431": closed("upstream_misconfigured"),
    "429 running": (ok(2), Expected("queue_timeout", 28, 31)),  # as often as the pace allows
    "429 rate": (ok(2), Expected("queue_timeout", 19, 21)),
    "429, Retry-After: 2": (ok(2), Expected("queue_timeout", 28, 31)),
    "429, Retry-After: a month": (ok(2), Expected("queue_timeout", 19, 21)),
    "429, Retry-After: a date": (ok(2), Expected("queue_timeout", 19, 21)),
    "connection refused": (ok(2), Expected("queue_timeout", 25, 35)),  # whenever its list answers, which it does here
    "reset after it acted": ADOPTED,
    "slow trickle": HARMLESS,
    "timeout after it acted": ADOPTED,
    "cut short": ADOPTED,
    "malformed JSON": ADOPTED,
    "HTML with 200": ADOPTED,
    "missing id": ADOPTED,
    "unknown status": HARMLESS,
}
UNCLEAR = Expected("upstream_uncertain", 2, 2)
_MOVED = both("completed", 2)
SLOW = ("429 rate", "429, Retry-After: a month", "429, Retry-After: a date")  # 45 seconds, unless 30 are asked for
_ACTED = ("reset after it acted", "timeout after it acted", "cut short", "slow trickle")
_NO_FILM = (ok(2), Expected("upstream_content_invalid", 18, 18))

USUALLY: dict[str, Expectation] = {
    CREATE: (ok(2), UNCLEAR),
    REMIX: (ok(2), UNCLEAR),
    LIST: (ok(2), always("upstream_uncertain", 20)),
    MOVE: _MOVED,
    POLL: (ok(8, 22), always("upstream_unavailable", 21)),
    CONTENT: (ok(2), always("content_unavailable", 18)),
    RUNNING: (Expected("completed", 2, 2), Expected("completed", 2, 4)),
    FINISHED: both("completed", 1),
}
EXCEPTIONS: dict[str, dict[str, Expectation]] = {
    CREATE: _CREATED,
    REMIX: {**_CREATED, "404 video": refused("source_gone"), **dict.fromkeys(("404 route", "431"), refused("not_supported"))},
    LIST: {
        "429 running": (ok(2), always("upstream_uncertain", 11)),
        **dict.fromkeys(SLOW, (ok(2), always("upstream_uncertain", 4))),
        "slow trickle": HARMLESS,
        "missing id": (ok(2), always("upstream_uncertain", 4)),
        "missing prompt": (ok(2), always("upstream_uncertain", 4)),
        "unknown status": HARMLESS,
    },
    MOVE: {fault: each if each in (ADOPTED, *_FINAL) else _MOVED for fault, each in _CREATED.items()},
    POLL: {
        "400 moderation": (ok(8, 22), always("moderation_blocked", 21)),
        "400 upload timed out": (ok(8, 22), always("upload_timed_out", 21)),
        "400 anything else": (ok(8, 22), always("upstream_rejected", 21)),
        "401": (ok(8, 22), always("upstream_auth_error", 21)),
        "403": (ok(8, 22), always("upstream_auth_error", 21)),
        "404 deployment": (ok(8, 22), always("model_retired", 13)),
        "404 route": (ok(8, 22), always("upstream_misconfigured", 21)),
        "404 video": (ok(8, 22), always("upstream_video_missing", 13)),
        "409": (ok(8, 22), always("upstream_rejected", 21)),
        "410": (ok(8, 22), always("model_retired", 13)),
        "429 running": (ok(8, 22), always("upstream_busy", 11)),
        **dict.fromkeys(SLOW, (ok(4, 15), always("upstream_busy", 4))),
        "429, Retry-After: 2": (ok(8, 22), always("upstream_busy", 21)),
        "431": (ok(8, 22), always("upstream_misconfigured", 21)),
        "slow trickle": (ok(6, 18), ok(6, 18)),
        "unknown status": (ok(6, 20), Expected("deadline_exceeded", 25, 35)),
        "progress backwards": (ok(8, 22), ok(27, 37)),
    },
    CONTENT: {
        "404 deployment": (ok(2), always("content_unavailable", 10)),
        "404 video": (ok(2), always("content_unavailable", 10)),
        "410": (ok(2), always("content_unavailable", 10)),
        "429 running": (ok(2), always("content_unavailable", 15)),
        **dict.fromkeys(SLOW, (ok(2), always("content_unavailable", 8))),
        "slow trickle": HARMLESS,
        "HTML with 200": _NO_FILM,
        "not a video": _NO_FILM,
    },
    RUNNING: {
        **dict.fromkeys(_ACTED, both("completed", 2, 4)),  # then the job is gone, which is not believed at once
        "slow trickle": both("completed", 1),
    },
    FINISHED: {},
}

# With an identity, what is refused is asked again at once with a new token: two calls instead of
# one.
TOKEN_FAULTS = ("401", "403")
TOKENS: dict[str, Expectation] = {
    CREATE: (ok(2), Expected("upstream_auth_error", 20, 22)),
    REMIX: (ok(2), Expected("upstream_auth_error", 20, 22)),
    LIST: (ok(2), always("upstream_uncertain", 40)),
    POLL: (ok(8, 22), always("upstream_auth_error", 42)),
    CONTENT: (ok(2), always("content_unavailable", 18)),  # a download is not begun twice: the next try has the new token
    RUNNING: (Expected("completed", 2, 2), Expected("completed", 4, 8)),
    FINISHED: both("completed", 2),
}
