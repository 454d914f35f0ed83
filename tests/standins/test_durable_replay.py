"""Properties of replay: what an orchestrator answered once it answers again, whatever the order of
arrivals.
"""

import json
import warnings
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import cycle, pairwise
from typing import Any

import azure.durable_functions as df
from hypothesis import given, settings
from hypothesis import strategies as st

from local.durable.episode import Instance, Turn, play
from local.durable.plan import Functions, Plan, Work
from local.durable.protocol import Event, EventType, event, execution_started, replay_payload, timestamp
from tests.fakes.engine import START, orchestrator

Step = tuple[str, int]
NAMES = [f"go{n}" for n in range(4)]
STEPS = st.lists(
    st.tuples(st.sampled_from(["activity", "retry", "timer", "race", "all", "child", "nested"]), st.integers(1, 3)),
    min_size=1,
    max_size=4,
)


def recipe(context: Any) -> Any:
    """An orchestrator that does what its input lists, catching failures and cancelling losing
    timers.
    """
    seen = []
    for kind, n in context.get_input():
        timer = context.create_timer(context.current_utc_datetime + timedelta(seconds=n))
        try:
            if kind == "activity":
                seen.append((yield context.call_activity("work", n)))
            elif kind == "retry":
                seen.append((yield context.call_activity_with_retry("work", df.RetryOptions(1000, n), n)))
            elif kind == "timer":
                yield timer
            elif kind == "race":
                go = context.wait_for_external_event(f"go{len(seen)}")
                winner = yield context.task_any([go, timer])
                seen.append(winner == go)
                if winner == go:
                    timer.cancel()
            elif kind == "child":
                seen.append((yield context.call_sub_orchestrator("recipe", n)))
            else:
                tasks = [context.call_activity("work", m) for m in range(n)]
                if kind == "nested":
                    tasks = [
                        context.task_any([context.call_activity_with_retry("work", df.RetryOptions(5, 2), 9), *tasks]),
                        timer,
                    ]
                yield context.task_all(tasks)
        except Exception as failure:
            seen.append(str(failure))
    return seen


@dataclass
class World:
    """The outside of one execution: its state, its history and the work it has scheduled."""

    instance: Instance
    history: list[Event]
    pending: dict[int, Work]
    now: datetime = START

    def deliver(self, message: Event) -> Turn:
        turn = play(
            self.instance,
            [json.dumps(each) for each in self.history],
            message,
            now=self.now,
            orchestrators={"recipe": orchestrator(recipe)},
            functions=Functions(["recipe"], ["work"]),
        )
        self.history += turn.events
        self.instance = replace(self.instance, plan=turn.plan, status=turn.status, draining=turn.draining)
        for task in turn.cancelled:
            self.pending.pop(task, None)
        self.pending |= {work.task: work for work in turn.scheduled}
        return turn

    def nudge(self, name: str) -> Turn:
        return self.deliver(event(EventType.EVENT_RAISED, "", Name=name, Input='"go"'))

    def complete(self, work: Work, succeeds: bool) -> Turn:
        del self.pending[work.task]
        if work.due is not None:
            self.now = max(self.now, datetime.fromisoformat(work.due))
            return self.deliver(event(EventType.TIMER_FIRED, "", TimerId=work.task, FireAt=work.due))
        kinds = (EventType.TASK_COMPLETED, EventType.TASK_FAILED)
        if work.kind == "sub":
            kinds = (EventType.SUB_COMPLETED, EventType.SUB_FAILED)
        self.now += timedelta(milliseconds=10)
        if succeeds:
            return self.deliver(event(kinds[0], "", TaskScheduledId=work.task, Result=json.dumps(work.task)))
        return self.deliver(event(kinds[1], "", TaskScheduledId=work.task, Reason="no", Details=""))


def world(steps: list[Step]) -> tuple[World, Turn]:
    """An execution of `recipe` after its first episode."""
    input_ = json.dumps(steps)
    instance = Instance("v1", "recipe", "x1", "Pending", input_, Plan().to_json(), parent=None, draining=False)
    begun = World(instance, [], {})
    return begun, begun.deliver(execution_started("", "recipe", "", input_))


def uncancelled(actions: list[Any]) -> str:
    return json.dumps(actions).replace('"isCanceled": true', '"isCanceled": false')


@settings(max_examples=15)
@given(STEPS, st.data())
def test_every_prefix_of_a_recorded_history_replays_to_a_prefix_of_the_actions(steps: list[Step], data: st.DataObject) -> None:
    """Work ends in any order, well or badly; the orchestration completes, and its actions only ever
    grow at the end.
    """
    with warnings.catch_warnings():
        # The SDK's warning about an event before its wait, which is legitimate; see the hub.
        warnings.filterwarnings("ignore", message=r"Potential duplicate Task completion for TaskId: go\d$")
        outside, turn = world(steps)
        early = data.draw(st.lists(st.sampled_from(NAMES), max_size=3), "early events")
        nudges = cycle(NAMES)
        while turn.status == "Running":
            works = sorted(outside.pending.values(), key=lambda work: work.task)
            if early and not outside.instance.draining and data.draw(st.booleans(), "event now?"):
                turn = outside.nudge(early.pop())
            elif works:
                turn = outside.complete(data.draw(st.sampled_from(works), "work"), data.draw(st.booleans(), "succeeds"))
            else:
                turn = outside.nudge(next(nudges))
        if turn.status == "Failed":
            assert "number the tasks differently" in str(turn.failure)
        else:
            assert turn.status == "Completed"
            assert not outside.pending
        replayed: list[list[Any]] = [[]]
        for length in range(2, len(outside.history) + 1):
            state = json.loads(orchestrator(recipe)(replay_payload("v1", outside.history[:length])))
            replayed.append(state["actions"][0])
    for earlier, later in pairwise(replayed):
        assert uncancelled(later[: len(earlier)]) == uncancelled(earlier)
    scheduled = [each["EventId"] for each in outside.history if each["EventId"] >= 0]
    assert scheduled == list(range(len(scheduled)))


def test_a_completion_with_an_id_the_sdk_does_not_know_is_an_error() -> None:
    """The SDK only warns; left alone it would resolve a later task with that result."""
    outside, _ = world([("activity", 1)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        turn = outside.deliver(event(EventType.TASK_COMPLETED, "", TaskScheduledId=7, Result="1"))
    assert turn.status == "Failed"
    assert "Potential duplicate Task completion for TaskId: 7" in str(turn.failure)


def test_a_timer_that_fires_after_its_cancellation_does_no_harm() -> None:
    """It was already on its way: the orchestration goes on as if it had not come."""
    outside, _ = world([("race", 3), ("activity", 1)])
    (timer,) = outside.pending.values()
    outside.nudge("go0")
    assert [work.kind for work in outside.pending.values()] == ["activity"]
    outside.deliver(event(EventType.TIMER_FIRED, "", TimerId=timer.task, FireAt=timestamp(START)))
    (activity,) = outside.pending.values()
    turn = outside.complete(activity, succeeds=True)
    assert (turn.status, turn.output) == ("Completed", "[true, 1]")
