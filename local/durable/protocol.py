"""The vocabulary of the durable JSON protocol, as azure-functions-durable 1.7 speaks it.

ClientError              a client's request that the hub declines; `status` is its HTTP status
├── InvalidInstanceId    400
├── UnknownInstance      404
├── AlreadyExists        409
├── InstanceFinished     410
└── NotFinished          412
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

Orchestrator = Callable[[str], str]
"""Trigger payload (JSON) to state (JSON); a failure is an exception that carries the state behind
`FAILURE_MARKER`.
"""

Event = dict[str, Any]
Action = dict[str, Any]

CARRIED = "Carried"  # in the message that begins a later execution: the events it takes over
FAILURE_MARKER = "\n\n$OutOfProcData$:"
FINAL = ("Completed", "Failed", "Terminated", "Canceled")


class ClientError(Exception):
    """A client's request that cannot be carried out; says why."""

    status = 400


class InvalidInstanceId(ClientError):
    """An instance id that Azure would refuse."""


class UnknownInstance(ClientError):
    """No instance of that id."""

    status = 404


class InstanceFinished(ClientError):
    """The instance has ended: it takes no more messages."""

    status = 410


class AlreadyExists(ClientError):
    """An instance of that id is still under way."""

    status = 409


class NotFinished(ClientError):
    """The instance has not ended: it cannot be purged."""

    status = 412


class EventType(IntEnum):
    """Kinds of history event; the numbers are the wire's."""

    EXECUTION_STARTED = 0
    EXECUTION_TERMINATED = 3
    TASK_SCHEDULED = 4
    TASK_COMPLETED = 5
    TASK_FAILED = 6
    SUB_CREATED = 7
    SUB_COMPLETED = 8
    SUB_FAILED = 9
    TIMER_CREATED = 10
    TIMER_FIRED = 11
    ORCHESTRATOR_STARTED = 12
    ORCHESTRATOR_COMPLETED = 13
    EVENT_RAISED = 15
    SUSPENDED = 18
    RESUMED = 19


class ActionType(IntEnum):
    """Kinds of action an orchestrator asks for; the numbers are the wire's."""

    CALL_ACTIVITY = 0
    CALL_ACTIVITY_WITH_RETRY = 1
    CALL_SUB_ORCHESTRATOR = 2
    CALL_SUB_ORCHESTRATOR_WITH_RETRY = 3
    CONTINUE_AS_NEW = 4
    CREATE_TIMER = 5
    WAIT_FOR_EVENT = 6
    CALL_ENTITY = 7
    CALL_HTTP = 8
    SIGNAL_ENTITY = 9
    WHEN_ANY = 11
    WHEN_ALL = 12


def timestamp(moment: datetime) -> str:
    """UTC with microseconds and a `Z`, always 27 characters: as text it sorts as time does."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def event(kind: EventType, at: str, /, *, task: int = -1, **fields: Any) -> Event:
    """A history event with the four keys that the SDK requires of every one."""
    return {"EventType": int(kind), "EventId": task, "IsPlayed": False, "Timestamp": at, **fields}


def execution_started(at: str, name: str, version: str, input_: str | None) -> Event:
    """The event that begins an execution; `input_` is JSON text or None."""
    return event(EventType.EXECUTION_STARTED, at, Name=name, Version=version, Input=input_)


def payload(instance_id: str, parent_id: str | None, input_: str | None, history: list[str], *, replaying: bool) -> str:
    """What the orchestration trigger receives. The history comes as JSON texts: it is never parsed
    on its way through.
    """
    head = json.dumps(
        {
            "input": input_,
            "instanceId": instance_id,
            "isReplaying": replaying,
            "parentInstanceId": parent_id,
            "sourceInstanceId": None,
            "upperSchemaVersion": 1,
            "upperSchemaVersionNew": 3,
            "longRunningTimerIntervalDuration": "3.00:00:00",
            "maximumShortTimerDuration": "6.00:00:00",
            "defaultHttpAsyncRequestSleepTimeMillseconds": 30000,
        }
    )
    return f'{head[:-1]}, "history": [{",".join(history)}]}}'


def replay_payload(instance_id: str, history: list[Event], parent_id: str | None = None) -> str:
    """The payload that replays a recorded history, for feeding it back to today's orchestrator."""
    told = [json.dumps(each) for each in history]
    return payload(instance_id, parent_id, history[1]["Input"], told, replaying=len(told) > 2)
