"""A stand-in for the Durable Functions extension: the JSON protocol of azure-functions-durable 1.7
on one SQLite file.

Its contract is Azure's: activities run at least once, the effects of an orchestrator happen exactly
once, timers and events are durable. Kill the process at any instant and a later one carries on.

    protocol   the vocabulary: event and action types, timestamps, history events
    plan       the host's view of the orchestrator's actions: held back, open or done (pure)
    episode    one invocation of the orchestrator: history and a message in, a turn out (pure)
    timing     how early and late the engine is, and how long it waits for a dead hub
    store      the SQLite thread: many small transactions, one disk flush
    tables     the schema and every statement, as functions of a connection
    hub        the workers and their leases
    status     what clients see of instances
    rpc        the HTTP endpoints that the client SDK calls
"""

from local.durable.hub import Activity, TaskHub
from local.durable.protocol import (
    AlreadyExists,
    ClientError,
    InstanceFinished,
    InvalidInstanceId,
    NotFinished,
    Orchestrator,
    UnknownInstance,
)
from local.durable.timing import Timing

__all__ = [
    "Activity",
    "AlreadyExists",
    "ClientError",
    "InstanceFinished",
    "InvalidInstanceId",
    "NotFinished",
    "Orchestrator",
    "TaskHub",
    "Timing",
    "UnknownInstance",
]
