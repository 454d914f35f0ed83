"""One invocation of an orchestrator: an instance, its history and one message in, a turn out. Pure:
no clock, no database.

Exactly one completion is delivered per episode. Host and SDK count task ids separately and agree
only when completions are applied one by one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from local.durable.plan import Functions, Plan, Refused, Walk, Work, known
from local.durable.protocol import (
    CARRIED,
    FAILURE_MARKER,
    Action,
    Event,
    EventType,
    Orchestrator,
    event,
    payload,
    timestamp,
)


@dataclass(frozen=True)
class Instance:
    """What an episode needs to know of its instance. `input` is JSON text; `plan` is the host's
    view, as JSON.
    """

    id: str
    name: str
    execution: str
    status: str
    input: str | None
    plan: str
    parent: str | None
    draining: bool


@dataclass(frozen=True)
class Turn:
    """What an episode changes.

    `output` is JSON text; `custom_status` too, the JSON text of null where this replay set none;
    `failure` is plain text, for the parent. `draining` says that the outcome is known and only open
    tasks are waited for. `next_input` is set when a new execution begins, with the events that are
    `carried` into it.
    """

    status: str
    plan: str
    events: list[Event]
    scheduled: list[Work] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    output: str | None = None
    failure: str | None = None
    custom_status: str | None = None
    draining: bool = False
    next_input: str | None = None
    carried: list[Event] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """The orchestrator's returned state. `error` is set when its code raised."""

    actions: list[Action]
    done: bool
    output: Any
    error: str | None
    custom_status: Any


def play(
    instance: Instance,
    history: list[str],
    message: Event,
    *,
    now: datetime,
    orchestrators: Mapping[str, Orchestrator],
    functions: Functions,
) -> Turn:
    """Deliver `message`. `history` holds the current execution's events so far, each as
    JSON text.
    """
    arrived, carried = _arrived(message, timestamp(now)), message.get(CARRIED, [])
    ended = event(EventType.ORCHESTRATOR_COMPLETED, timestamp(now))
    unplayed = _unplayed(instance, message, arrived, ended)
    if unplayed is not None:
        return unplayed
    try:
        orchestrator = orchestrators[known(instance.name, functions.orchestrators, "an orchestrator")]
        told = history + [json.dumps(each) for each in arrived]
        asked = payload(instance.id, instance.parent, instance.input, told, replaying=bool(history))
        answer = ask(orchestrator, asked)
        walk = _walk(instance, answer.actions, now, functions)
        for each in (*carried, message):
            walk.arrive(each, place=len(told) - 1)
        walk.go(place=len(told) - 1)
    except Refused as refusal:
        # The host itself gives up, so there is no list of actions to drain: fail at once.
        return _failed(Turn("Failed", instance.plan, arrived), instance.name, str(refusal))
    turn = _conclude(instance, answer, walk, [*arrived, *sorted(walk.events, key=_task_id), ended])
    return turn if turn.next_input is None else replace(turn, carried=_unprocessed(told, walk.continued_at))


def _walk(instance: Instance, actions: list[Action], now: datetime, functions: Functions) -> Walk:
    """A pass over the actions, from where the last one ended. Raises Refused."""
    plan, lineage = Plan.from_json(instance.plan), [instance.id, instance.parent]
    return Walk(plan, actions, now=now, execution=instance.execution, lineage=lineage, functions=functions)


def _unplayed(instance: Instance, message: Event, arrived: list[Event], ended: Event) -> Turn | None:
    """What a message does for which the orchestrator is not called; None for all others."""
    match message["EventType"]:
        case EventType.EXECUTION_TERMINATED:
            reason = message["Input"]
            return Turn("Terminated", instance.plan, arrived, output=_as_json(reason), failure=reason)
        case EventType.SUSPENDED | EventType.RESUMED as kind:
            status = "Suspended" if kind == EventType.SUSPENDED else "Running"
            reason = _as_json(message["Reason"])
            return Turn(status, instance.plan, [*arrived, ended], output=reason, draining=instance.draining)
    return None


def ask(orchestrator: Orchestrator, told: str) -> Answer:
    """Call the orchestrator. Raises `Refused` if neither its answer nor its exception carries a
    state.
    """
    try:
        text = orchestrator(told)
    except Exception as failure:
        _, marker, text = str(failure).rpartition(FAILURE_MARKER)
        if not marker:
            raise Refused(str(failure) or repr(failure)) from failure
    try:
        state = json.loads(text)
        (actions,) = state["actions"]
        return Answer(actions, state["isDone"], state.get("output"), state.get("error"), state.get("customStatus"))
    except (ValueError, KeyError, TypeError) as malformed:
        raise Refused(f"The orchestrator answered with something else than its state: {malformed!r}") from malformed


def _conclude(instance: Instance, answer: Answer, walk: Walk, events: list[Event]) -> Turn:
    """An outcome counts only when the walk has reached the end and no task is open; until then the
    status stays Running.
    """
    decided = (answer.error is not None or answer.done) and walk.reached_end
    running = Turn(
        "Running",
        walk.plan.to_json(),
        events,
        scheduled=walk.scheduled,
        cancelled=walk.cancelled,
        custom_status=json.dumps(answer.custom_status),
        draining=decided,
    )
    if not decided or walk.plan.busy:
        return running
    if answer.error is not None:
        return _failed(running, instance.name, answer.error)
    if walk.next_input is not None:
        return replace(running, plan=Plan().to_json(), draining=False, next_input=walk.next_input)
    return replace(running, status="Completed", draining=False, output=json.dumps(answer.output))


def _failed(turn: Turn, name: str, error: str) -> Turn:
    text = f"Orchestrator function '{name}' failed: {error}"
    return replace(turn, status="Failed", output=json.dumps(text), failure=text, draining=False)


def _arrived(message: Event, at: str) -> list[Event]:
    """The events that a message brings. Where an instance continues as new, those that are carried
    over get a first episode of their own, in which nothing runs.
    """
    if CARRIED not in message:
        return [event(EventType.ORCHESTRATOR_STARTED, at), {**message, "Timestamp": at}]
    begun = {key: value for key, value in message.items() if key != CARRIED}
    carried = [{**each, "IsPlayed": True} for each in message[CARRIED]]
    started, ended = event(EventType.ORCHESTRATOR_STARTED, at), event(EventType.ORCHESTRATOR_COMPLETED, at)
    return [started, {**begun, "Timestamp": at}, *carried, ended]


def _unprocessed(told: list[str], continued_at: int) -> list[Event]:
    """The external events that come later in the history than the host's decision to continue as
    new: they count as not yet handed over, whatever the orchestrator has done with them.
    """
    later = [json.loads(each) for each in told[continued_at + 1 :]]
    return [each for each in later if each["EventType"] == EventType.EVENT_RAISED]


def _as_json(text: str) -> str:
    try:
        json.loads(text)
    except ValueError:
        return json.dumps(text)
    return text


def _task_id(noted: Event) -> int:
    task: int = noted["EventId"]
    return task
