"""The task hub's tables, and every statement on them as a function of a connection inside a
transaction.

`instances`  one row per instance; `plan` is the host's view of its actions (retries
             included), `owner` and `lease_until` the lease of the hub that plays its episode
`history`    events of the current execution, and of earlier ones where they are kept
`inbox`      messages not yet delivered; `execution` is null for those of clients;
             `first` puts a start before the messages that were held for the next execution
`outbox`     work not yet finished: activities (leased while they run), sub-orchestrations, timers
             (`due` is when their message can be seen, `input` when they were to fire)

Every piece of scheduled work is one outbox row, and whoever deletes the row puts its one completion
into the inbox in the same transaction. That is why each scheduled id gets exactly one completion,
however often an activity ran.
"""

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from local.durable.episode import Instance, Turn
from local.durable.plan import Plan, Work
from local.durable.protocol import (
    CARRIED,
    FINAL,
    AlreadyExists,
    Event,
    EventType,
    InstanceFinished,
    NotFinished,
    UnknownInstance,
    event,
    execution_started,
    timestamp,
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS instances (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, execution TEXT NOT NULL, status TEXT NOT NULL,
    input TEXT, custom_status TEXT, output TEXT, created TEXT NOT NULL, updated TEXT NOT NULL,
    plan TEXT NOT NULL, draining INTEGER NOT NULL DEFAULT 0,
    parent TEXT, parent_execution TEXT, parent_task INTEGER, owner TEXT, lease_until TEXT);
CREATE TABLE IF NOT EXISTS history (
    id TEXT NOT NULL, execution TEXT NOT NULL, seq INTEGER NOT NULL, event TEXT NOT NULL,
    PRIMARY KEY (id, execution, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS inbox (
    n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, execution TEXT, first INTEGER NOT NULL, kind INTEGER NOT NULL,
    event TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS inbox_by_instance ON inbox (id);
CREATE TABLE IF NOT EXISTS outbox (
    n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, execution TEXT NOT NULL, task INTEGER NOT NULL, kind TEXT NOT NULL,
    name TEXT NOT NULL, input TEXT, due TEXT, owner TEXT, lease_until TEXT, UNIQUE (id, execution, task));
CREATE INDEX IF NOT EXISTS outbox_by_due ON outbox (kind, due);
CREATE INDEX IF NOT EXISTS instances_by_owner ON instances (owner) WHERE owner IS NOT NULL;
CREATE INDEX IF NOT EXISTS outbox_by_owner ON outbox (owner) WHERE owner IS NOT NULL;
"""

# A suspended instance is delivered only its resumption or its end. One that drains keeps client
# events for its next execution.
_DELIVERABLE = f"""(i.status <> 'Suspended' OR x.kind IN ({EventType.RESUMED:d}, {EventType.EXECUTION_TERMINATED:d}))
    AND (NOT i.draining OR x.kind <> {EventType.EVENT_RAISED:d})"""
_READY = f"""SELECT x.id FROM inbox x JOIN instances i ON i.id = x.id
    WHERE (i.owner IS NULL OR i.owner <> :owner AND i.lease_until <= :now) AND {_DELIVERABLE}
    GROUP BY x.id ORDER BY MIN(x.n) LIMIT :most"""
_NEXT = f"""SELECT x.* FROM inbox x JOIN instances i ON i.id = x.id WHERE x.id = ? AND {_DELIVERABLE}
    ORDER BY x.first DESC, x.n LIMIT 1"""


@dataclass(frozen=True)
class EpisodeClaim:
    """An instance under lease, with the message to deliver (`n` is its place in the inbox) and the
    history so far.
    """

    instance: Instance
    n: int
    message: Event
    history: list[str]


@dataclass(frozen=True)
class ActivityClaim:
    """An activity under lease."""

    id: str
    execution: str
    task: int
    name: str
    input: str


@dataclass(frozen=True)
class Claims:
    """What a hub may work on now, and when the next timer is due (a timestamp)."""

    episodes: list[EpisodeClaim]
    activities: list[ActivityClaim]
    next_due: str | None


@dataclass(frozen=True)
class Leases:
    """Until when (timestamps) what is taken now stays hidden from other hubs."""

    episodes: str
    activities: str


def claim(db: sqlite3.Connection, *, owner: str, now: str, until: Leases, episodes: int, activities: int) -> Claims:
    """Fire due timers, then lease up to so many instances and activities that are free or whose
    holder's lease ran out.
    """
    _fire_timers(db, now)
    ready = db.execute(_READY, {"owner": owner, "now": now, "most": episodes}).fetchall()
    played = [_claim_episode(db, row["id"], owner, until.episodes) for row in ready]
    rows = db.execute(
        """SELECT * FROM outbox WHERE kind = 'activity' AND (owner IS NULL OR owner <> ? AND lease_until <= ?)
        ORDER BY n LIMIT ?""",
        (owner, now, activities),
    ).fetchall()
    for row in rows:
        db.execute("UPDATE outbox SET owner = ?, lease_until = ? WHERE n = ?", (owner, until.activities, row["n"]))
    (next_due,) = db.execute("SELECT MIN(due) FROM outbox WHERE kind = 'timer'").fetchone()
    running = [ActivityClaim(row["id"], row["execution"], row["task"], row["name"], row["input"]) for row in rows]
    return Claims(played, running, next_due)


def renew(db: sqlite3.Connection, owner: str, until: Leases) -> None:
    """Renew the leases of everything that `owner` works on."""
    db.execute("UPDATE instances SET lease_until = ? WHERE owner = ?", (until.episodes, owner))
    db.execute("UPDATE outbox SET lease_until = ? WHERE owner = ?", (until.activities, owner))


def release(db: sqlite3.Connection, owner: str) -> None:
    """Release all leases of `owner`, so that another hub need not wait for their end."""
    db.execute("UPDATE instances SET owner = NULL WHERE owner = ?", (owner,))
    db.execute("UPDATE outbox SET owner = NULL WHERE owner = ?", (owner,))


def finish_activity(db: sqlite3.Connection, work: ActivityClaim, outcome: Event) -> None:
    """Deliver the outcome, unless it was delivered or is no longer awaited. The first outcome
    counts, whether or not its hub still has the lease.
    """
    current = db.execute("SELECT status FROM instances WHERE id = ? AND execution = ?", (work.id, work.execution)).fetchone()
    if _take_work(db, work.id, work.execution, work.task) and current is not None and current["status"] not in FINAL:
        send(db, work.id, outcome, execution=work.execution)


def finish_episode(
    db: sqlite3.Connection, done: EpisodeClaim, turn: Turn, *, owner: str, now: str, keep: bool, grain: float = 0.0
) -> bool:
    """Apply a turn. False, and nothing changes, if the lease was lost or the instance is no longer
    the one that was played.
    """
    instance, execution = done.instance.id, done.instance.execution
    ours = db.execute(
        "SELECT * FROM instances WHERE id = ? AND execution = ? AND owner = ?", (instance, execution, owner)
    ).fetchone()
    if ours is None or db.execute("DELETE FROM inbox WHERE n = ?", (done.n,)).rowcount == 0:
        return False
    if turn.next_input is None or keep:
        db.executemany(
            "INSERT INTO history VALUES (?, ?, ?, ?)",
            [(instance, execution, len(done.history) + i, json.dumps(each)) for i, each in enumerate(turn.events)],
        )
    for task in turn.cancelled:
        _take_work(db, instance, execution, task)
    for work in turn.scheduled:
        _schedule(db, instance, execution, work, now=now, grain=grain)
    db.execute(
        """UPDATE instances SET status = ?, plan = ?, draining = ?, output = ?, custom_status = COALESCE(?, custom_status),
        updated = ?, owner = NULL WHERE id = ?""",
        (turn.status, turn.plan, turn.draining, turn.output, turn.custom_status, now, instance),
    )
    if turn.next_input is not None:
        _continue_as_new(db, ours, turn.next_input, turn.carried, keep=keep)
    elif turn.status in FINAL:
        _drop_messages(db, instance)
        if ours["parent"] is not None:
            _tell_parent(db, ours, turn)
    return True


def _continue_as_new(db: sqlite3.Connection, ended: sqlite3.Row, input_: str, carried: list[Event], *, keep: bool) -> None:
    """Begin the instance's next execution, which the events `carried` over reach first."""
    instance, fresh = ended["id"], uuid4().hex
    if not keep:
        db.execute("DELETE FROM history WHERE id = ?", (instance,))
    db.execute("DELETE FROM inbox WHERE id = ? AND execution = ?", (instance, ended["execution"]))
    db.execute("UPDATE instances SET execution = ?, input = ? WHERE id = ?", (fresh, input_, instance))
    begun = execution_started("", ended["name"], ended["version"], input_) | {CARRIED: carried}
    send(db, instance, begun, execution=fresh, first=True)


def create(
    db: sqlite3.Connection,
    instance: str,
    name: str,
    input_: str | None,
    *,
    now: str,
    version: str = "",
    parent: tuple[str, str, int] | None = None,
) -> None:
    """A new instance and its start message. One that has finished is replaced; raises
    `AlreadyExists` for one that has not.

    `parent` is (instance, execution, task) of the caller of a sub-orchestration.
    """
    row = db.execute("SELECT status FROM instances WHERE id = ?", (instance,)).fetchone()
    if row is not None and row["status"] not in FINAL:
        raise AlreadyExists(f"An Orchestration instance with the status {row['status']} already exists.")
    purge(db, instance)
    execution = uuid4().hex
    db.execute(
        """INSERT INTO instances (id, name, version, execution, status, input, created, updated, plan,
        parent, parent_execution, parent_task) VALUES (?, ?, ?, ?, 'Pending', ?, ?, ?, ?, ?, ?, ?)""",
        (instance, name, version, execution, input_, now, now, Plan().to_json(), *(parent or (None, None, None))),
    )
    send(db, instance, execution_started("", name, version, input_), execution=execution, first=True)


def send_from_client(db: sqlite3.Connection, instance: str, message: Event) -> None:
    """Put a client's message into the inbox. Raises `UnknownInstance` or `InstanceFinished`."""
    row = db.execute("SELECT status FROM instances WHERE id = ?", (instance,)).fetchone()
    if row is None:
        raise UnknownInstance(f"No instance with ID '{instance}' found.")
    if row["status"] in FINAL:
        raise InstanceFinished(f"The instance with ID '{instance}' is {row['status'].lower()}.")
    send(db, instance, message)


def send(db: sqlite3.Connection, instance: str, message: Event, *, execution: str | None = None, first: bool = False) -> None:
    """Append a message to an instance's inbox; `execution` None means whichever is current."""
    db.execute(
        "INSERT INTO inbox (id, execution, first, kind, event) VALUES (?, ?, ?, ?, ?)",
        (instance, execution, first, message["EventType"], json.dumps(message)),
    )


def purge_finished(db: sqlite3.Connection, instance: str) -> bool:
    """As `purge`, for a client. Raises `NotFinished`."""
    row = db.execute("SELECT status FROM instances WHERE id = ?", (instance,)).fetchone()
    if row is not None and row["status"] not in FINAL:
        raise NotFinished(
            "Only orchestrations in a terminal state can be purged, but the orchestration with instance ID "
            f"{instance} has status {row['status']}"
        )
    return purge(db, instance)


def purge(db: sqlite3.Connection, instance: str) -> bool:
    """Delete an instance, its history, its messages and its work. False if there was none."""
    db.execute("DELETE FROM history WHERE id = ?", (instance,))
    _drop_messages(db, instance)
    return db.execute("DELETE FROM instances WHERE id = ?", (instance,)).rowcount > 0


def history(db: sqlite3.Connection, instance: str, execution: str | None = None) -> list[Event]:
    """The events of one execution, by default the current one."""
    rows = db.execute(
        """SELECT event FROM history WHERE id = ?1
        AND execution = COALESCE(?2, (SELECT execution FROM instances WHERE id = ?1)) ORDER BY seq""",
        (instance, execution),
    )
    return [json.loads(row["event"]) for row in rows]


def executions(db: sqlite3.Connection, instance: str) -> list[str]:
    """The executions of which a history is stored, oldest first."""
    rows = db.execute(
        """SELECT execution, MIN(json_extract(event, '$.Timestamp')) AS begun, rank FROM
        (SELECT execution, event, execution = (SELECT execution FROM instances WHERE id = ?1) AS rank
         FROM history WHERE id = ?1 AND seq = 0) GROUP BY execution ORDER BY begun, rank""",
        (instance,),
    )
    return [row["execution"] for row in rows]


def _claim_episode(db: sqlite3.Connection, instance: str, owner: str, until: str) -> EpisodeClaim:
    db.execute("UPDATE instances SET owner = ?, lease_until = ? WHERE id = ?", (owner, until, instance))
    row = db.execute("SELECT * FROM instances WHERE id = ?", (instance,)).fetchone()
    message = db.execute(_NEXT, (instance,)).fetchone()
    told = db.execute(
        "SELECT event FROM history WHERE id = ? AND execution = ? ORDER BY seq", (instance, row["execution"])
    ).fetchall()
    known = Instance(
        id=row["id"],
        name=row["name"],
        execution=row["execution"],
        status=row["status"],
        input=row["input"],
        plan=row["plan"],
        parent=row["parent"],
        draining=bool(row["draining"]),
    )
    return EpisodeClaim(known, message["n"], json.loads(message["event"]), [each["event"] for each in told])


def _fire_timers(db: sqlite3.Connection, now: str) -> None:
    due = db.execute("SELECT * FROM outbox WHERE kind = 'timer' AND due <= ? ORDER BY due, n", (now,)).fetchall()
    for row in due:
        db.execute("DELETE FROM outbox WHERE n = ?", (row["n"],))
        fired = event(EventType.TIMER_FIRED, now, TimerId=row["task"], FireAt=row["input"] or row["due"])
        send(db, row["id"], fired, execution=row["execution"])


def _schedule(db: sqlite3.Connection, instance: str, execution: str, work: Work, *, now: str, grain: float) -> None:
    given, due = (work.input, None) if work.due is None else (work.due, _visible(work.due, now, grain))
    db.execute(
        "INSERT INTO outbox (id, execution, task, kind, name, input, due) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (instance, execution, work.task, work.kind, work.name, given, due),
    )
    if work.child is not None:
        try:
            create(db, work.child, work.name, work.input, now=now, parent=(instance, execution, work.task))
        except AlreadyExists as refusal:
            _take_work(db, instance, execution, work.task)
            failed = event(EventType.SUB_FAILED, now, TaskScheduledId=work.task, Reason=str(refusal), Details="")
            send(db, instance, failed, execution=execution)


def _visible(due: str, now: str, grain: float) -> str:
    """When a timer's message becomes visible: its delay is cut to a multiple of `grain` seconds."""
    if not grain:
        return due
    begun = datetime.fromisoformat(now)
    delay = max(0.0, (datetime.fromisoformat(due) - begun).total_seconds())
    return timestamp(begun + timedelta(seconds=delay // grain * grain))


def _drop_messages(db: sqlite3.Connection, instance: str) -> None:
    """All but activities: they lie in a queue of their own, and run whatever becomes of whoever
    asked for them.
    """
    db.execute("DELETE FROM inbox WHERE id = ?", (instance,))
    db.execute("DELETE FROM outbox WHERE id = ? AND kind <> 'activity'", (instance,))


def _take_work(db: sqlite3.Connection, instance: str, execution: str, task: int) -> bool:
    taken = db.execute("DELETE FROM outbox WHERE id = ? AND execution = ? AND task = ?", (instance, execution, task))
    return taken.rowcount > 0


def _tell_parent(db: sqlite3.Connection, child: sqlite3.Row, turn: Turn) -> None:
    parent, execution, task = child["parent"], child["parent_execution"], child["parent_task"]
    if not _take_work(db, parent, execution, task):
        return
    if turn.failure is None:
        result = None if turn.output == "null" else turn.output
        outcome = event(EventType.SUB_COMPLETED, "", TaskScheduledId=task, Result=result)
    else:
        details = f"Message: {turn.failure.partition(' failed: ')[2]}, StackTrace: "
        outcome = event(EventType.SUB_FAILED, "", TaskScheduledId=task, Reason=turn.failure, Details=details)
    send(db, parent, outcome, execution=execution)
