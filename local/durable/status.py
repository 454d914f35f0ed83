"""What clients see of instances: the status body, queries over many, and the history in its
published form.
"""

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from local.durable.protocol import FINAL, Event, EventType
from local.durable.tables import history, purge

Status = dict[str, Any]

NAMES = {
    EventType.EXECUTION_STARTED: "ExecutionStarted",
    EventType.EXECUTION_TERMINATED: "ExecutionTerminated",
    EventType.TASK_SCHEDULED: "TaskScheduled",
    EventType.TASK_COMPLETED: "TaskCompleted",
    EventType.TASK_FAILED: "TaskFailed",
    EventType.SUB_CREATED: "SubOrchestrationInstanceCreated",
    EventType.SUB_COMPLETED: "SubOrchestrationInstanceCompleted",
    EventType.SUB_FAILED: "SubOrchestrationInstanceFailed",
    EventType.TIMER_CREATED: "TimerCreated",
    EventType.TIMER_FIRED: "TimerFired",
    EventType.EVENT_RAISED: "EventRaised",
    EventType.SUSPENDED: "ExecutionSuspended",
    EventType.RESUMED: "ExecutionResumed",
}
SCHEDULING = (EventType.TASK_SCHEDULED, EventType.SUB_CREATED)  # merged with their completions


@dataclass(frozen=True)
class Show:
    """Which optional parts a status has."""

    input: bool = True
    history: bool = False
    history_output: bool = False


@dataclass(frozen=True)
class Query:
    """Which instances: by time of creation (timestamps, inclusive), by status names (none: any), by
    prefix of their ids.
    """

    created_from: str = ""
    created_to: str = "9999"
    statuses: tuple[str, ...] = ()
    prefix: str = ""


STATUS_ONLY = Show()
EVERY = Query()


def one(db: sqlite3.Connection, instance: str, show: Show) -> Status | None:
    """The status body of one instance, or None."""
    row = db.execute("SELECT * FROM instances WHERE id = ?", (instance,)).fetchone()
    if row is None:
        return None
    body = _body(row, show)
    if show.history:
        body["historyEvents"] = [*published(history(db, instance), show), *_ending(row, show)]
    return body


def many(db: sqlite3.Connection, query: Query) -> list[Status]:
    """The status bodies of all that match, oldest first."""
    return [_body(row, STATUS_ONLY) for row in _select(db, query)]


def purge_by(db: sqlite3.Connection, query: Query) -> int:
    """Delete the finished ones of those that match; how many."""
    finished = [row["id"] for row in _select(db, query) if row["status"] in FINAL]
    return sum(purge(db, instance) for instance in finished)


def published(events: list[Event], show: Show) -> list[dict[str, Any]]:
    """History as the extension shows it: names for numbers, no episode marks, a completion merged
    with its scheduling.
    """
    scheduled = {each["EventId"]: each for each in events if each["EventType"] in SCHEDULING}
    completed = {task for each in events if (task := _completes(each)) is not None}
    shown = []
    for each in events:
        kind = each["EventType"]
        if kind not in NAMES or (kind in SCHEDULING and each["EventId"] in completed):
            continue
        entry = {key: value for key, value in each.items() if key not in ("EventId", "IsPlayed", "TaskScheduledId", "TimerId")}
        entry["EventType"] = NAMES[kind]
        if kind == EventType.EXECUTION_STARTED:
            entry["FunctionName"] = entry.pop("Name")
        if "Result" in entry:
            entry["Result"] = _decoded(entry["Result"])
        origin = scheduled.get(_completes(each))
        if origin is not None:
            entry["ScheduledTime"] = origin["Timestamp"]
            if "Name" in origin:
                entry["FunctionName"] = origin["Name"]
        if not show.input:
            entry.pop("Input", None)
        if not show.history_output:
            entry.pop("Result", None)
        shown.append(entry)
    return shown


def _ending(row: sqlite3.Row, show: Show) -> list[dict[str, Any]]:
    """The last event of an instance that has ended."""
    if row["status"] not in FINAL:
        return []
    ended = {"EventType": "ExecutionCompleted", "OrchestrationStatus": row["status"], "Timestamp": row["updated"]}
    return [ended | ({"Result": _decoded(row["output"])} if show.history_output else {})]


def _whole_seconds(at: str) -> str:
    return f"{at.partition('.')[0]}Z"


def _completes(noted: Event) -> int | None:
    task: int | None = noted.get("TimerId", noted.get("TaskScheduledId"))
    return task


def _select(db: sqlite3.Connection, query: Query) -> list[sqlite3.Row]:
    rows = db.execute(
        "SELECT * FROM instances WHERE created BETWEEN ? AND ? AND substr(id, 1, ?) = ? ORDER BY created, id",
        (query.created_from, query.created_to, len(query.prefix), query.prefix),
    )
    return [row for row in rows if not query.statuses or row["status"] in query.statuses]


def _body(row: sqlite3.Row, show: Show) -> Status:
    return {
        "name": row["name"],
        "instanceId": row["id"],
        "runtimeStatus": row["status"],
        "input": row["input"] if show.input else None,
        "customStatus": _decoded(row["custom_status"]),
        "output": _decoded(row["output"]),
        "createdTime": _whole_seconds(row["created"]),
        "lastUpdatedTime": _whole_seconds(row["updated"]),
    }


def _decoded(text: str | None) -> Any:
    return None if text is None else json.loads(text)
