"""What goes wrong at servers other than Azure's, and what is expected of it: the contents of their
part of the fault matrix, and no code.

Servers of one's own differ from Azure in four ways: envelopes of their own, jobs that a restart
forgets and that are made once more, copies that are deleted when ours is stored, and, on vLLM-Omni,
running jobs that can be stopped. Google's layer neither lists nor deletes, so that a lost create
stays unclear.
"""

from collections.abc import Mapping
from typing import Any

from tests.trials.faults.table import (
    ADOPTED,
    CONTENT,
    CREATE,
    FAULTS,
    FINISHED,
    HARMLESS,
    LIST,
    POLL,
    PROMPT,
    RUNNING,
    UNCLEAR,
    Expectation,
    Expected,
    always,
    both,
    closed,
    ok,
    refused,
)

HOSTED_VLLM, SGLANG, GEMINI = "hosted_vllm", "sglang", "gemini"
_ENGINES = (CREATE, LIST, POLL, CONTENT, RUNNING, FINISHED)
OWN_COLUMNS: Mapping[str, tuple[str, ...]] = {
    HOSTED_VLLM: _ENGINES,
    SGLANG: _ENGINES,
    GEMINI: (CREATE, POLL, CONTENT),  # the operations that it has
}
RESTART = "restart"
_SHARED = (
    *("502 HTML", "connection refused", "reset before it acts", "reset after it acted", "timeout before it acts"),
    *("cut short", "missing id", "unknown status"),
)


def _vllm(status: int, message: str) -> dict[str, Any]:
    return _body(status, {"error": {"message": message, "type": "X", "param": None, "code": status}})


def _google(status: int, message: str, word: str) -> dict[str, Any]:
    return _body(status, {"error": {"code": status, "message": message, "status": word}})


def _fastapi(status: int, message: str) -> dict[str, Any]:
    return _body(status, {"detail": message})


def _body(status: int, body: Any) -> dict[str, Any]:
    return {"kind": "status", "status": status, "body": body}


OWN_FAULTS: Mapping[str, Mapping[str, dict[str, Any]]] = {
    HOSTED_VLLM: {
        "400": _vllm(400, f"Trouble with {PROMPT}."),
        "401": _body(401, {"error": "Unauthorized"}),
        "404 route": _fastapi(404, "Not Found"),
        "404 video": _vllm(404, "Video not found"),
        "409": _vllm(409, "Cancellation in progress. Please try again later."),
        "500": _vllm(500, "Video generation setup failed: /opt/server/setup.py"),
        "503": _vllm(503, "Video generation handler not initialized."),
        RESTART: {"kind": "restart"},
        **{name: FAULTS[name] for name in _SHARED},
    },
    SGLANG: {
        "400": _fastapi(400, f"Trouble with {PROMPT}."),
        "404 route": _fastapi(404, "Not Found"),
        "404 video": _fastapi(404, "Video not found"),
        "422": _body(422, {"detail": [{"loc": ["body", "seconds"], "msg": "Input should be a valid integer"}]}),
        "500": {"kind": "status", "status": 500, "body": "Internal Server Error"},
        "503": _body(503, {"error": "Scheduler worker exited; restart the server."}),
        RESTART: {"kind": "restart"},
        **{name: FAULTS[name] for name in _SHARED},
    },
    GEMINI: {
        "400": _google(400, f"Trouble with {PROMPT}.", "INVALID_ARGUMENT"),
        "400 key": _google(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT"),
        "401": _google(401, "Request is missing required authentication credential.", "UNAUTHENTICATED"),
        "403": _google(403, "The caller does not have permission.", "PERMISSION_DENIED"),
        "404 video": _google(404, "Requested entity was not found.", "NOT_FOUND"),
        "429": _google(429, "You exceeded your current quota.", "RESOURCE_EXHAUSTED"),
        "500": _google(500, "An internal error has occurred.", "INTERNAL"),
        "503": _google(503, "The model is overloaded. Please try again later.", "UNAVAILABLE"),
        **{name: FAULTS[name] for name in _SHARED},
    },
}
# What a fault does not spoil, or is the same as another one there.
OWN_NOWHERE: Mapping[str, tuple[str, ...]] = {
    "missing id": (CONTENT, RUNNING, FINISHED),
    "unknown status": (CONTENT, RUNNING, FINISHED),
    "timeout before it acts": (LIST, POLL, CONTENT, RUNNING, FINISHED),
}

_DEAD = (ok(2), Expected("queue_timeout", 7, 9))  # nothing was made, and the pauses grow
_CREATED: dict[str, Expectation] = {
    "400": refused("upstream_rejected"),
    "401": closed("upstream_auth_error"),
    "404 route": closed("upstream_misconfigured"),
    "404 video": closed("upstream_misconfigured"),
    "409": refused("upstream_rejected"),
    "422": refused("upstream_rejected"),
    "503": _DEAD,
    "connection refused": (ok(2), Expected("queue_timeout", 25, 35)),
    "reset after it acted": ADOPTED,
    "cut short": ADOPTED,
    "missing id": ADOPTED,
    "unknown status": HARMLESS,
    RESTART: HARMLESS,
}
_LISTED: dict[str, Expectation] = {
    "missing id": (ok(2), always("upstream_uncertain", 4)),
    "unknown status": HARMLESS,
    RESTART: both("completed", 4),  # a list that is read to its end, without the job
}


def _polled(once: Expected, unknown: Expected) -> dict[str, Expectation]:
    """What a look may meet; `once` is how a video lives through one of them, and `unknown` how it
    ends where the status is one that nobody knows: short jobs are looked at closely.
    """
    return {
        "400": (once, always("upstream_rejected", 21)),
        "401": (once, always("upstream_auth_error", 21)),
        "404 route": (once, always("upstream_misconfigured", 21)),
        "404 video": (once, always("upstream_video_missing", 26)),  # made once more, and gone again
        "409": (once, always("upstream_rejected", 21)),
        "422": (once, always("upstream_rejected", 21)),
        "unknown status": (once, unknown),
        RESTART: (ok(18, 32), always("upstream_video_missing", 26)),
    }


_FETCHED: dict[str, Expectation] = {
    "404 video": (ok(2), always("content_unavailable", 20)),
    RESTART: (ok(11), always("content_unavailable", 20)),
}
_STOPPED_UNHEARD = both("cancelled", 2)  # and then the job is gone, which is not believed at once
_DELETED_UNHEARD = both("completed", 3, 4)

# By dialect and column: what is expected of most faults, and of some.
OWN_EXPECTED: Mapping[str, Mapping[str, tuple[Expectation, Mapping[str, Expectation]]]] = {
    HOSTED_VLLM: {
        CREATE: ((ok(2), UNCLEAR), {**_CREATED, "500": _DEAD}),
        LIST: ((ok(2), always("upstream_uncertain", 20)), _LISTED),
        POLL: ((ok(4, 15), always("upstream_unavailable", 21)), _polled(ok(4, 15), Expected("deadline_exceeded", 60, 101))),
        CONTENT: ((ok(2), always("content_unavailable", 18)), _FETCHED),
        RUNNING: (
            (Expected("cancelled", 3, 3), Expected("completed", 9, 16)),
            dict.fromkeys(("reset after it acted", "cut short", RESTART), _STOPPED_UNHEARD),
        ),
        FINISHED: (both("completed", 2), {}),
    },
    SGLANG: {
        CREATE: ((ok(2), UNCLEAR), _CREATED),
        LIST: ((ok(2), always("upstream_uncertain", 20)), _LISTED),
        POLL: ((ok(8, 22), always("upstream_unavailable", 21)), _polled(ok(8, 22), Expected("deadline_exceeded", 25, 35))),
        # The job is looked at before its film is fetched: it may name another address.
        CONTENT: ((ok(2), always("content_unavailable", 18)), {**_FETCHED, RESTART: (ok(2), always("content_unavailable", 2))}),
        RUNNING: (
            (Expected("completed", 3, 3), Expected("completed", 4, 4)),
            dict.fromkeys(("reset after it acted", "cut short", RESTART), _DELETED_UNHEARD),
        ),
        FINISHED: (both("completed", 2), {}),
    },
    GEMINI: {
        CREATE: (
            both("upstream_uncertain", 1),
            {
                "400": refused("upstream_rejected"),
                **dict.fromkeys(("400 key", "401", "403"), closed("upstream_auth_error")),
                "404 video": closed("upstream_misconfigured"),
                "429": (ok(2), Expected("queue_timeout", 19, 21)),
                "connection refused": (ok(2), Expected("queue_timeout", 25, 35)),
                "unknown status": HARMLESS,
            },
        ),
        POLL: (
            (ok(6, 20), always("upstream_unavailable", 21)),
            {
                "400": (ok(6, 20), always("upstream_rejected", 21)),
                **dict.fromkeys(("400 key", "401", "403"), (ok(6, 20), always("upstream_auth_error", 21))),
                "404 video": (ok(6, 20), always("upstream_video_missing", 13)),
                "429": (ok(4, 15), always("upstream_busy", 4)),
                "unknown status": (ok(6, 20), Expected("deadline_exceeded", 10, 20)),
            },
        ),
        CONTENT: (
            (ok(2), always("content_unavailable", 18)),
            {"404 video": (ok(2), always("content_unavailable", 10)), "429": (ok(2), always("content_unavailable", 8))},
        ),
    },
}
