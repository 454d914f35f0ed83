"""The host's view of an execution: which of the orchestrator's actions are held back, open or done.
Pure.

The orchestrator answers every episode with its whole list of actions. The host walks that list and
waits for each top-level element before it goes on to the next (strict gating, as the real host does
it), so an action may be held back although the orchestrator's own code has already run past it.

Task ids are taken where the SDK takes them: when an action is first seen. The real host takes them
when it schedules. The two agree unless a retry needs an id while an action is held back; in Azure
the orchestration would then resolve tasks with each other's results, so here it fails with a
message that says so.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from local.durable.protocol import Action, ActionType, Event, EventType, event, timestamp

COMPOUND = (ActionType.WHEN_ANY, ActionType.WHEN_ALL)
WITH_RETRY = (ActionType.CALL_ACTIVITY_WITH_RETRY, ActionType.CALL_SUB_ORCHESTRATOR_WITH_RETRY)
ACTIVITIES = (ActionType.CALL_ACTIVITY, ActionType.CALL_ACTIVITY_WITH_RETRY)
SUB_ORCHESTRATIONS = (ActionType.CALL_SUB_ORCHESTRATOR, ActionType.CALL_SUB_ORCHESTRATOR_WITH_RETRY)
UNNUMBERED = (ActionType.WAIT_FOR_EVENT, ActionType.CONTINUE_AS_NEW)


class Refused(Exception):
    """The host cannot carry out what the orchestrator asks for; the orchestration fails with this
    text.
    """


class State(StrEnum):
    """Where an action stands in the host's view."""

    HELD = "held"
    OPEN = "open"
    DONE = "done"


@dataclass
class Slot:
    """One action that is not a compound.

    `what` tells it from others on replay; `task` is the id in flight (None for waits); `attempt`
    and `backing_off` belong to its retry. `done_at` is the place in history of the event that
    completed it, -1 for a timer that was cancelled: on replay the host finds it complete at once.
    """

    what: str
    task: int | None
    state: State = State.HELD
    attempt: int = 1
    backing_off: bool = False
    done_at: int = -1

    def complete(self, place: int) -> None:
        self.state, self.done_at = State.DONE, place


@dataclass(frozen=True)
class Work:
    """Something scheduled outside the orchestrator. `due` (a timestamp) is set for timers, `child`
    for sub-orchestrations.
    """

    task: int
    kind: Literal["activity", "timer", "sub"]
    name: str = ""
    input: str | None = None
    due: str | None = None
    child: str | None = None


@dataclass(frozen=True)
class Functions:
    """The names that may be called, as the host has them loaded."""

    orchestrators: Collection[str]
    activities: Collection[str]


@dataclass
class Plan:
    """The part that outlives an episode is `slots`, `early` (names of events nobody waited for yet)
    and `next_task`.
    """

    slots: list[Slot] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    next_task: int = 0

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        stored = json.loads(text)
        slots = [Slot(what, task, State(state), *retry) for what, task, state, *retry in stored["slots"]]
        return cls(slots, stored["early"], stored["next_task"])

    def to_json(self) -> str:
        stored = asdict(self)
        stored["slots"] = [list(slot.values()) for slot in stored["slots"]]
        return json.dumps(stored)

    @property
    def busy(self) -> bool:
        """Whether a task is still open. A wait for an event is not a task."""
        return any(slot.state is State.OPEN and slot.task is not None for slot in self.slots)


class Walk:
    """One episode's pass over the actions. Collects new history events, scheduled work and
    cancelled timers.
    """

    def __init__(
        self,
        plan: Plan,
        actions: list[Action],
        *,
        now: datetime,
        execution: str,
        lineage: list[str | None],
        functions: Functions,
    ) -> None:
        self.plan = plan
        self._actions = actions
        self._leaves = [leaf for action in actions for leaf in leaves(action)]
        self._now = now
        self._execution = execution
        self._lineage = lineage  # ids that a sub-orchestration must not take: the instance's own and its parent's
        self._functions = functions
        self.events: list[Event] = []
        self.scheduled: list[Work] = []
        self.cancelled: list[int] = []
        self.next_input: str | None = None  # set once continue-as-new is reached
        self.continued_at = -1  # the place in history of the event by which it is reached on replay
        self.reached_end = False
        replayed = [_what(leaf) for leaf in self._leaves[: len(plan.slots)]]
        if replayed != [slot.what for slot in plan.slots]:
            recorded = [slot.what for slot in plan.slots]
            raise Refused(f"Non-deterministic orchestrator: its actions were {recorded}, replay gives {replayed}.")

    def arrive(self, message: Event, place: int = 0) -> None:
        """Take a completion or an external event into account; a failed attempt is retried. `place`
        is the message's in history.
        """
        kind = message["EventType"]
        if kind == EventType.EVENT_RAISED:
            self._hand_over(message["Name"], place)
            return
        task = message.get("TimerId", message.get("TaskScheduledId"))
        for leaf, slot in zip(self._leaves, self.plan.slots, strict=False):
            if task is not None and slot.task == task and slot.state is State.OPEN:
                if kind in (EventType.TASK_FAILED, EventType.SUB_FAILED) and leaf["actionType"] in WITH_RETRY:
                    self._back_off(leaf, slot)
                elif slot.backing_off and slot.attempt < leaf["retryOptions"]["maxNumberOfAttempts"]:
                    self._try_again(leaf, slot)
                else:
                    slot.complete(place)
                return

    def go(self, place: int = 0) -> None:
        """Schedule every action whose predecessors are all complete; `place` is that of the last
        event in history.
        """
        for leaf in self._leaves[len(self.plan.slots) :]:
            self.plan.slots.append(Slot(_what(leaf), None if leaf["actionType"] in UNNUMBERED else self._take_id()))
        begin, reached = 0, -1
        for action in self._actions:
            end = begin + len(list(leaves(action)))
            for leaf, slot in zip(self._leaves[begin:end], self.plan.slots[begin:end], strict=True):
                if leaf["actionType"] == ActionType.CONTINUE_AS_NEW:
                    # Reached again in every episode while the execution drains, until the last one
                    # acts on it.
                    self.next_input, self.continued_at = leaf["input"], reached
                    slot.state = State.DONE
                elif slot.state is State.HELD:
                    self._schedule(leaf, slot, place)
                elif slot.state is State.OPEN and leaf.get("isCanceled"):
                    self._cancel(slot)
            completed = completed_at(action, iter(self.plan.slots[begin:end]))
            if completed is None:
                return
            begin, reached = end, max(reached, completed)
        self.reached_end = True

    def _take_id(self) -> int:
        self.plan.next_task += 1
        return self.plan.next_task - 1

    def _take_id_for_retry(self, slot: Slot) -> int:
        if any(other.state is State.HELD and other.task is not None for other in self.plan.slots):
            raise Refused(
                "A retry needs a task id while another action is held back behind an unfinished one: in Azure host and SDK "
                "would number the tasks differently. Cancel losing timers, and do not wait again for an event already used."
            )
        slot.task = self._take_id()
        return slot.task

    def _hand_over(self, name: str, place: int) -> None:
        """To the newest wait of that name, whatever its case, or else to the queue of early
        events.
        """
        for leaf, slot in reversed(list(zip(self._leaves, self.plan.slots, strict=False))):
            waits = leaf["actionType"] == ActionType.WAIT_FOR_EVENT and slot.state is State.OPEN
            if waits and leaf["externalEventName"].casefold() == name.casefold():
                slot.complete(place)
                return
        self.plan.early.append(name.casefold())

    def _back_off(self, leaf: Action, slot: Slot) -> None:
        """After the last attempt too: the SDK gives up only when that one extra timer has fired,
        which is at once.
        """
        options = leaf["retryOptions"]
        last = slot.attempt >= options["maxNumberOfAttempts"]
        wait = timedelta() if last else timedelta(milliseconds=options["firstRetryIntervalInMilliseconds"])
        slot.backing_off = True
        self._start_timer(self._take_id_for_retry(slot), timestamp(self._now + wait))

    def _try_again(self, leaf: Action, slot: Slot) -> None:
        slot.backing_off = False
        slot.attempt += 1
        self._call(leaf, self._take_id_for_retry(slot))

    def _schedule(self, leaf: Action, slot: Slot, place: int) -> None:
        slot.state = State.OPEN
        kind = leaf["actionType"]
        if kind == ActionType.WAIT_FOR_EVENT:
            name = leaf["externalEventName"].casefold()
            if name in self.plan.early:
                self.plan.early.remove(name)
                slot.complete(place)
        elif kind == ActionType.CREATE_TIMER:
            self._start_timer(_numbered(slot), leaf["fireAt"])
            if leaf["isCanceled"]:
                self.scheduled.pop()
                slot.state = State.DONE
        else:
            self._call(leaf, _numbered(slot))

    def _cancel(self, slot: Slot) -> None:
        self.cancelled.append(_numbered(slot))
        slot.state = State.DONE

    def _start_timer(self, task: int, due: str) -> None:
        self._note(EventType.TIMER_CREATED, task, FireAt=due)
        self.scheduled.append(Work(task, "timer", due=due))

    def _call(self, leaf: Action, task: int) -> None:
        kind = leaf["actionType"]
        if kind in ACTIVITIES:
            name = known(leaf["functionName"], self._functions.activities, "an activity")
            self._note(EventType.TASK_SCHEDULED, task, Name=name, Version="", Input=leaf["input"])
            self.scheduled.append(Work(task, "activity", name, leaf["input"]))
        elif kind in SUB_ORCHESTRATIONS:
            name = known(leaf["functionName"], self._functions.orchestrators, "an orchestrator")
            child = leaf.get("instanceId") or f"{self._execution}:{task}"
            if child in self._lineage:
                raise Refused(f"The sub-orchestration id '{child}' belongs to the caller itself or to its parent.")
            self._note(EventType.SUB_CREATED, task, Name=name, Version="", InstanceId=child, Input=leaf["input"])
            self.scheduled.append(Work(task, "sub", name, leaf["input"], child=child))
        else:
            named = kind in tuple(ActionType)
            label = f"{ActionType(kind).name.lower()} (action type {kind})" if named else f"action type {kind}"
            raise Refused(f"The local stand-in does not support {label}.")

    def _note(self, kind: EventType, task: int, **fields: Any) -> None:
        self.events.append(event(kind, timestamp(self._now), task=task, **fields))


def leaves(action: Action) -> Iterator[Action]:
    """The actions inside `action` that are not compounds, depth first and left to right: the order
    of task ids.
    """
    if action["actionType"] in COMPOUND:
        for child in action["compoundActions"]:
            yield from leaves(child)
    else:
        yield action


def completed_at(action: Action, slots: Iterator[Slot]) -> int | None:
    """The place in history from which on the host goes past `action`, None while it waits there;
    takes the slots of its leaves from `slots`.
    """
    if action["actionType"] not in COMPOUND:
        slot = next(slots)
        return slot.done_at if slot.state is State.DONE else None
    children = [completed_at(child, slots) for child in action["compoundActions"]]
    done = [place for place in children if place is not None]
    if action["actionType"] == ActionType.WHEN_ANY:
        return min(done, default=None)
    return max(done, default=-1) if len(done) == len(children) else None


def _what(leaf: Action) -> str:
    return f"{leaf['actionType']} {leaf.get('functionName') or leaf.get('externalEventName') or ''}".rstrip()


def _numbered(slot: Slot) -> int:
    if slot.task is None:
        raise AssertionError("only waits and continue-as-new go without a task id")
    return slot.task


def known(name: str, names: Collection[str], what: str) -> str:
    """`name`, if it is among the loaded `names`. Raises `Refused` in the host's words."""
    if name not in names:
        listed = ", ".join(f"'{each}'" for each in sorted(names))
        raise Refused(
            f"The function '{name}' doesn't exist, is disabled, or is not {what} function. "
            f"Additional info: The following are the known {what.partition(' ')[2]} functions: {listed}."
        )
    return name
