"""`python -m local.faults`: every fault of the upstream, in every operation that can meet it, and what became of the video.

Each fault happens once (the upstream recovers) or always (it never does). The table says how the video ended, how many jobs the
upstream had accepted for it, and how often the operation was asked; a cell that is not as expected is red.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from local.azurite import Azurite, AzuriteError
from local.fault_world import FaultWorld, Lives, fault_world
from local.processes import ChildError

PROMPT = "A canary that nobody must hear"
_CREATE, _POLL, _CONTENT, _DELETE = "create", "poll", "content", "delete"
OPERATIONS = (_CREATE, _POLL, _CONTENT, _DELETE)
_CALLED = {_CREATE: "create", _POLL: "get", _CONTENT: "content", _DELETE: "delete"}
WIDTH = 150  # of the table, where nobody's terminal sets it
MOST_ASKED = 60  # of any operation for one video, before a deadline ends it


def _status(status: int, envelope: str = "openai", **more: Any) -> dict[str, Any]:
    return {"kind": "status", "status": status, "envelope": envelope, "message": f"Trouble with {PROMPT}.", **more}


def _documented(number: str, **headers: str) -> dict[str, Any]:
    return {"kind": "status", "documented": number, "headers": headers}


_RATE = {"status": 429, "envelope": "apim"}
FAULTS: dict[str, dict[str, Any]] = {
    "400 moderation": _documented("E10"),
    "400 upload timed out": _documented("E9"),
    "400 anything else": _status(400),
    "401": _documented("E3"),
    "403": _documented("E19"),
    "404 deployment": _documented("E1"),
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
    "malformed JSON": {"kind": "garble", "form": "malformed_json"},
    "HTML with 200": {"kind": "garble", "form": "html"},
    "missing id": {"kind": "garble", "form": "missing_id"},
    "unknown status": {"kind": "garble", "form": "unknown_status"},
    "progress backwards": {"kind": "garble", "form": "backwards"},
    "not a video": {"kind": "garble", "form": "not_a_video"},
}


# Faults that are no fault of their own in some operation: what they spoil is not in its answer, or is not read.
NOWHERE = {
    "timeout before it acts": (_POLL, _CONTENT, _DELETE),  # to those it is the same as the other timeout
    "missing id": (_CONTENT, _DELETE),
    "unknown status": (_CONTENT, _DELETE),
    "progress backwards": (_CREATE, _CONTENT, _DELETE),
    "malformed JSON": (_CONTENT, _DELETE),
    "HTML with 200": (_DELETE,),
    "not a video": (_CREATE, _POLL, _DELETE),
}

# What the upstream makes of some prompts, with no fault in any answer.
JOBS = {
    "the job is blocked by moderation": ("A disturbing canary", "moderation_blocked"),
    "the job fails": ("An unlucky canary", "internal_error"),
    "the job never ends": ("An endless canary", "deadline_exceeded"),
}

# How a video ends if the fault happens once, and if it always happens: `completed`, or the code of its error.
Ends = tuple[str, str]
USUALLY: dict[str, Ends] = {
    _CREATE: ("completed", "queue_timeout"),
    _POLL: ("completed", "upstream_unavailable"),
    _CONTENT: ("completed", "content_unavailable"),
    _DELETE: ("cancelled", "cancelled"),
}
_BUSY = (" running", " rate", ", Retry-After: 2", ", Retry-After: a month", ", Retry-After: a date")
_ADOPTED = _HARMLESS = ("completed", "completed")
EXCEPTIONS: dict[tuple[str, str], Ends] = {
    ("400 moderation", _CREATE): ("moderation_blocked",) * 2,
    ("400 upload timed out", _CREATE): ("completed", "upload_timed_out"),
    ("400 anything else", _CREATE): ("upstream_rejected",) * 2,
    ("401", _CREATE): ("upstream_auth_error",) * 2,
    ("403", _CREATE): ("upstream_auth_error",) * 2,
    ("404 deployment", _CREATE): ("model_retired",) * 2,
    ("404 route", _CREATE): ("upstream_misconfigured",) * 2,
    ("404 video", _CREATE): ("upstream_misconfigured",) * 2,
    ("400 moderation", _POLL): ("completed", "moderation_blocked"),
    ("400 upload timed out", _POLL): ("completed", "upload_timed_out"),
    ("400 anything else", _POLL): ("completed", "upstream_rejected"),
    ("401", _POLL): ("completed", "upstream_auth_error"),
    ("403", _POLL): ("completed", "upstream_auth_error"),
    ("404 deployment", _POLL): ("completed", "model_retired"),
    ("404 route", _POLL): ("completed", "upstream_misconfigured"),
    ("404 video", _POLL): ("completed", "upstream_video_missing"),
    ("409", _POLL): ("completed", "upstream_rejected"),
    ("410", _POLL): ("completed", "model_retired"),
    ("431", _POLL): ("completed", "upstream_misconfigured"),
    **{(f"429{how}", _POLL): ("completed", "upstream_busy") for how in _BUSY},
    ("unknown status", _POLL): ("completed", "deadline_exceeded"),
    ("409", _CREATE): ("upstream_rejected",) * 2,
    ("410", _CREATE): ("model_retired",) * 2,
    ("431", _CREATE): ("upstream_misconfigured",) * 2,
    ("reset after it acted", _CREATE): _ADOPTED,
    ("timeout after it acted", _CREATE): _ADOPTED,
    ("cut short", _CREATE): _ADOPTED,
    ("malformed JSON", _CREATE): _ADOPTED,
    ("HTML with 200", _CREATE): _ADOPTED,
    ("missing id", _CREATE): _ADOPTED,
    ("unknown status", _CREATE): _HARMLESS,
    ("progress backwards", _POLL): _HARMLESS,
    **{("slow trickle", operation): _HARMLESS for operation in (_CREATE, _POLL, _CONTENT)},
    ("HTML with 200", _CONTENT): ("completed", "upstream_content_invalid"),
    ("not a video", _CONTENT): ("completed", "upstream_content_invalid"),
}


@dataclass(frozen=True)
class Cell:
    """One fault in one operation; `always` or once."""

    fault: str
    operation: str
    always: bool

    @property
    def expected(self) -> str:
        return EXCEPTIONS.get((self.fault, self.operation), USUALLY[self.operation])[self.always]

    async def lives(self, world: FaultWorld) -> Lives:
        """A video under this fault; in the row of deletes, it is deleted while it runs."""
        fault = {**FAULTS[self.fault], "operation": _CALLED[self.operation], "times": None if self.always else 1}
        if fault.get("headers", {}).get("retry-after") == "in half a minute":
            fault["headers"] = {"retry-after": format_datetime(world.clock.now() + timedelta(seconds=30), usegmt=True)}
        if fault["kind"] == "trickle" and self.operation == _CONTENT:
            fault["bytes_per_second"] = 50_000
        return await world.live(PROMPT, delete_when="running" if self.operation == _DELETE else None, armed=fault)

    def wrong(self, lives: Lives) -> list[str]:
        """What is not as promised."""
        wrong = [*lives.left, *lives.leaked]
        if lives.end != self.expected:
            wrong.append(f"ended as {lives.end}, not as {self.expected}")
        if lives.jobs > 1:
            wrong.append(f"{lives.jobs} jobs upstream")
        if lives.video.status == "failed" and not lives.video.error_message:
            wrong.append("no message")
        return wrong + [f"{times} × {name}" for name, times in lives.asked.items() if times > MOST_ASKED]


def cells() -> list[Cell]:
    return [
        Cell(fault, operation, always)
        for fault in FAULTS
        for operation in OPERATIONS
        if operation not in NOWHERE.get(fault, ())
        for always in (False, True)
    ]


async def matrix(world: FaultWorld, chosen: Sequence[Cell] | None = None) -> tuple[Table, list[str]]:
    """The table, and what is wrong in it; of the `chosen` cells alone where only a sample is wanted."""
    shown = Table(box=None, padding=(0, 1), header_style="bold")
    shown.add_column("fault: once → always", no_wrap=True)
    for operation in OPERATIONS:
        shown.add_column(operation)
    rows: dict[str, dict[str, list[str]]] = {fault: {operation: [] for operation in OPERATIONS} for fault in FAULTS}
    problems = []
    for cell in cells() if chosen is None else chosen:
        lives = await cell.lives(world)
        wrong = cell.wrong(lives)
        problems += [f"{cell}: {each}" for each in wrong]
        told = _told(lives, _CALLED[cell.operation])
        rows[cell.fault][cell.operation].append(f"[bold red]{told}[/]" if wrong else told)
    for fault, row in rows.items():
        shown.add_row(fault, *(" → ".join(dict.fromkeys(ends)) or "–" for ends in row.values()))
    for name, (prompt, expected) in JOBS.items():
        lives = await world.live(prompt)
        if lives.end != expected or lives.left or lives.jobs != 1:
            problems.append(f"{name}: {lives}")
        shown.add_row(name, "–", _told(lives, "get"), "–", "–")
    return shown, problems


def _told(lives: Lives, operation: str) -> str:
    return f"{'✓' if lives.end == 'completed' else lives.end} {lives.asked[operation]}"


async def run(console: Console) -> int:
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        async with (
            Azurite(Path(folder) / "azurite") as azurite,
            fault_world(azurite.connection_string, Path(folder) / "sora") as world,
        ):
            shown, problems = await matrix(world)
    console.print(shown)
    console.print(
        "✓ completed, or the code of the error; then how often the operation was asked. At most one job for each video."
    )
    for each in problems:
        console.print(each, style="red", markup=False)
    return 1 if problems else 0


def main() -> int:
    argparse.ArgumentParser(prog="python -m local.faults", description="Every upstream fault in every operation.").parse_args()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    try:
        return asyncio.run(run(console))
    except (AzuriteError, ChildError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
