"""What a task hub does with orchestrations, with the real SDK on a virtual clock."""

import json
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import pytest

from local.durable import AlreadyExists, InstanceFinished, InvalidInstanceId, NotFinished, UnknownInstance
from tests.fakes.engine import Generate, Rig, Serve, orchestrator

pytestmark = pytest.mark.anyio


def later(context: Any, seconds: float) -> datetime:
    due: datetime = context.current_utc_datetime + timedelta(seconds=seconds)
    return due


async def output(rig: Rig, instance: str) -> Any:
    status = await rig.ended(instance)
    assert status["runtimeStatus"] == "Completed", status
    return status["output"]


async def test_a_chain_hands_results_on(serve: Serve) -> None:
    """Each activity starts with the result of the one before."""

    def chain(context: Any) -> Any:
        total = context.get_input()
        for _ in range(3):
            total = (yield context.call_activity("echo", total)) + 1
        return total

    rig = await serve(chain)
    assert await output(rig, await rig.hub.start("chain", input_="1")) == 4


async def test_a_forgotten_timer_keeps_the_instance_running(serve: Serve) -> None:
    """A losing timer that was not cancelled delays completion until it fires; the answer has long
    been known.
    """

    def forgetful(context: Any) -> Any:
        go = context.wait_for_external_event("go")
        deadline = context.create_timer(later(context, 1200))
        yield context.task_any([go, deadline])
        return "went"

    rig = await serve(forgetful)
    instance = await rig.hub.start("forgetful")
    await rig.hub.raise_event(instance, "go", '"now"')
    await rig.noted(instance, 15)
    status = await rig.hub.status(instance)
    assert status is not None
    assert status["runtimeStatus"] == "Running"
    assert json.loads(rig.answers[-1])["isDone"]
    await rig.clock.advance(1200)
    assert await output(rig, instance) == "went"


async def test_an_event_for_an_instance_that_drains_waits_for_its_next_execution(serve: Serve) -> None:
    """Events that arrive after continue-as-new was decided are not lost with the old execution."""

    def eternal(context: Any) -> Any:
        go = context.wait_for_external_event("go")
        if context.get_input() == 2:
            return (yield go)
        deadline = context.create_timer(later(context, 60))
        yield context.task_any([go, deadline])
        context.continue_as_new(2)

    rig = await serve(eternal)
    instance = await rig.hub.start("eternal", input_="1")
    await rig.hub.raise_event(instance, "go", '"first"')
    await rig.noted(instance, 15)
    await rig.hub.raise_event(instance, "go", '"second"')
    await rig.clock.advance(60)
    assert await output(rig, instance) == "second"
    assert rig.kinds(instance) == [12, 0, 13, 13, 12, 15, 13]


async def test_a_timer_cancelled_in_the_last_episode_does_not_reach_the_next_execution(serve: Serve, tmp_path: Path) -> None:
    """Its id would mean another task there."""

    def eternal(context: Any) -> Any:
        go = context.wait_for_external_event("go")
        deadline = context.create_timer(later(context, 60 * context.get_input()))
        if context.get_input() == 2:
            yield deadline
            return context.current_utc_datetime.isoformat()
        yield context.task_any([go, deadline])
        deadline.cancel()
        context.continue_as_new(2)

    rig = await serve(eternal)
    instance = await rig.hub.start("eternal", input_="1")
    await rig.noted(instance, 13)
    await rig.hub.raise_event(instance, "go")
    await rig.until(instance, lambda status: status["input"] == "2")
    await rig.noted(instance, 13)
    with sqlite3.connect(tmp_path / "hub.db") as db:
        timers = db.execute("SELECT due FROM outbox").fetchall()
    db.close()
    assert timers == [("2026-01-01T00:02:00.000000Z",)]
    await rig.clock.advance(120)
    assert await output(rig, instance) == "2026-01-01T00:02:00+00:00"


def gated(cancels: bool) -> Generate:
    """Reuse an event wait in two `task_any`s, as the protocol's description of gating does."""

    def reuse(context: Any) -> Any:
        cancel = context.wait_for_external_event("cancel")
        first = context.create_timer(later(context, 10))
        yield context.task_any([cancel, first])
        second = context.create_timer(later(context, 600))
        yield context.task_any([cancel, second])
        if cancels:
            second.cancel()
        return (yield context.call_activity("a", 1))

    return reuse


@pytest.mark.parametrize("cancels", [True, False])
async def test_an_action_behind_an_unfinished_one_is_held_back(serve: Serve, cancels: bool) -> None:
    """The second WhenAny contains only the new timer: unless that is cancelled, the activity waits
    until it fires.
    """
    rig = await serve(gated(cancels))
    instance = await rig.hub.start("reuse")
    await rig.noted(instance, 10)
    await rig.clock.advance(10)
    await rig.noted(instance, 10, 2)
    await rig.hub.raise_event(instance, "cancel", '"x"')
    await rig.noted(instance, 15)
    assert len(json.loads(rig.answers[-1])["actions"][0]) == 3
    assert (4 in rig.kinds(instance)) is cancels
    if not cancels:
        await rig.clock.advance(600)
    (await rig.called()).returns("done")
    assert await output(rig, instance) == "done"


async def test_an_orchestration_fails_when_host_and_sdk_would_number_its_tasks_differently(serve: Serve) -> None:
    """A retry while an action is held back would resolve the wrong tasks in Azure: here it fails
    and says why.
    """

    def diverging(context: Any) -> Any:
        cancel = context.wait_for_external_event("cancel")
        flaky = context.call_activity_with_retry("a", df.RetryOptions(1000, 3), 1)
        yield context.task_any([cancel, flaky])
        deadline = context.create_timer(later(context, 600))
        yield context.task_any([cancel, deadline])
        yield context.call_activity("b", 1)

    rig = await serve(diverging)
    instance = await rig.hub.start("diverging")
    flaky = await rig.called()
    await rig.hub.raise_event(instance, "cancel")
    await rig.noted(instance, 15)
    flaky.raises(RuntimeError("boom"))
    status = await rig.ended(instance)
    assert status["runtimeStatus"] == "Failed"
    assert "number the tasks differently" in status["output"]


async def test_sub_orchestrations_and_activities_are_awaited_together(serve: Serve) -> None:
    """`task_all` of a child and an activity gives both results; the child has an id of its own and
    knows its parent.
    """

    def parent(context: Any) -> Any:
        both = [context.call_sub_orchestrator("child", 20), context.call_activity("echo", 1)]
        return (yield context.task_all(both))

    def child(context: Any) -> Any:
        return [context.parent_instance_id, (yield context.call_activity("echo", context.get_input()))]

    rig = await serve(parent, child)
    instance = await rig.hub.start("parent", "mother")
    assert await output(rig, instance) == [["mother", 20], 1]
    assert len(await rig.hub.statuses()) == 2


async def test_a_failed_child_is_retried_under_the_id_its_caller_gave(serve: Serve) -> None:
    """Each retry replaces the finished child; after the last one the caller sees the child's own
    failure text.
    """

    def parent(context: Any) -> Any:
        try:
            yield context.call_sub_orchestrator_with_retry("child", df.RetryOptions(1000, 2), 1, "kid")
        except Exception as failure:
            return str(failure)

    def child(context: Any) -> Any:
        yield context.call_activity("echo", 1)
        raise ValueError("no")

    rig = await serve(parent, child)
    instance = await rig.hub.start("parent")
    await rig.noted(instance, 10)
    await rig.clock.advance(1)
    assert await output(rig, instance) == "Orchestrator function 'child' failed: no \n Message: no, StackTrace: "
    assert [each["InstanceId"] for each in rig.hub.history(instance) if each["EventType"] == 7] == ["kid", "kid"]


async def test_a_late_completion_of_an_earlier_execution_is_dropped(serve: Serve) -> None:
    """The activity of a terminated instance ends after its successor of the same id began: the
    successor's counts alone.
    """

    def once(context: Any) -> Any:
        return (yield context.call_activity("a", 1))

    rig = await serve(once)
    await rig.hub.start("once", "v1")
    stale = await rig.called()
    await rig.hub.terminate("v1", "stop")
    await rig.ended("v1")
    await rig.hub.start("once", "v1")
    current = await rig.called()
    stale.returns("stale")
    current.returns("current")
    assert await output(rig, "v1") == "current"
    assert rig.kinds("v1").count(5) == 1


async def test_an_event_may_come_before_it_is_waited_for(serve: Serve) -> None:
    """It is kept, and the wait that comes later has it at once."""

    def patient(context: Any) -> Any:
        yield context.call_activity("a", 1)
        return (yield context.wait_for_external_event("go"))

    rig = await serve(patient)
    instance = await rig.hub.start("patient")
    call = await rig.called()
    await rig.hub.raise_event(instance, "go", '"early"')
    await rig.noted(instance, 15)
    call.returns(None)
    assert await output(rig, instance) == "early"


async def test_the_host_wants_a_second_event_for_a_second_wait(serve: Serve) -> None:
    """The SDK serves two waits from one early event; the host does not, and schedules nothing more
    until another comes.
    """

    def twice(context: Any) -> Any:
        yield context.call_activity("a", 1)
        yield context.wait_for_external_event("go")
        yield context.wait_for_external_event("go")
        return (yield context.call_activity("echo", "end"))

    rig = await serve(twice)
    instance = await rig.hub.start("twice")
    call = await rig.called()
    await rig.hub.raise_event(instance, "go", '"one"')
    await rig.noted(instance, 15)
    call.returns(None)
    await rig.noted(instance, 5)
    assert json.loads(rig.answers[-1])["actions"][0][-1]["functionName"] == "echo"
    assert rig.kinds(instance).count(4) == 1
    await rig.hub.raise_event(instance, "GO", '"two"')
    assert await output(rig, instance) == "end"


async def test_terminating_ends_an_instance_without_asking_it(serve: Serve) -> None:
    """The reason becomes the output, parsed if it is JSON; the running activity's result is
    dropped.
    """

    def once(context: Any) -> Any:
        return (yield context.call_activity("a", 1))

    rig = await serve(once)
    instance = await rig.hub.start("once")
    call = await rig.called()
    asked = len(rig.answers)
    await rig.hub.terminate(instance, '{"by": "user"}')
    status = await rig.ended(instance)
    call.returns("late")
    assert (status["runtimeStatus"], status["output"]) == ("Terminated", {"by": "user"})
    assert rig.kinds(instance)[-2:] == [12, 3]
    assert len(rig.answers) == asked
    with pytest.raises(InstanceFinished):
        await rig.hub.raise_event(instance, "go")


async def test_a_suspended_instance_holds_its_messages_until_it_resumes(serve: Serve) -> None:
    """They are delivered in their order afterwards."""

    def listening(context: Any) -> Any:
        first = yield context.wait_for_external_event("go")
        second = yield context.wait_for_external_event("go")
        return [first, second]

    rig = await serve(listening)
    instance = await rig.hub.start("listening")
    await rig.hub.suspend(instance, "break")
    await rig.until(instance, lambda status: status["runtimeStatus"] == "Suspended")
    await rig.hub.raise_event(instance, "go", "1")
    await rig.hub.raise_event(instance, "go", "2")
    await rig.clock.advance(5)
    assert 15 not in rig.kinds(instance)
    await rig.hub.resume(instance, "work")
    assert await output(rig, instance) == [1, 2]


async def test_messages_that_come_too_late_die_with_their_instance(serve: Serve, tmp_path: Path) -> None:
    """What was held back when an instance ended does not wake it again."""

    def once(context: Any) -> Any:
        yield context.call_activity("a", 1)
        yield context.wait_for_external_event("go")

    rig = await serve(once)
    instance = await rig.hub.start("once")
    (await rig.called()).returns("unheard")
    await rig.noted(instance, 5)
    await rig.hub.suspend(instance)
    await rig.until(instance, lambda status: status["runtimeStatus"] == "Suspended")
    await rig.hub.raise_event(instance, "go", '"held"')
    await rig.hub.terminate(instance, "over")
    await rig.ended(instance)
    with sqlite3.connect(tmp_path / "hub.db") as db:
        (held,) = db.execute("SELECT COUNT(*) FROM inbox").fetchone()
    db.close()
    assert held == 0


async def test_purging_leaves_no_trace(serve: Serve, tmp_path: Path) -> None:
    """Instance, history, messages and scheduled work are gone; an activity that still runs is
    nobody's. Only an instance that has ended is purged.
    """

    def once(context: Any) -> Any:
        yield context.call_activity("a", 1)

    rig = await serve(once)
    instance = await rig.hub.start("once")
    call = await rig.called()
    with pytest.raises(NotFinished, match="has status Running"):
        await rig.hub.purge(instance)
    await rig.hub.terminate(instance)
    await rig.ended(instance)
    assert await rig.hub.purge(instance)
    call.returns(None)
    assert not await rig.hub.purge(instance)
    assert await rig.hub.status(instance) is None
    with pytest.raises(UnknownInstance):
        await rig.hub.terminate(instance)
    with sqlite3.connect(tmp_path / "hub.db") as db:
        rows = [db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in ("history", "inbox", "outbox")]
    db.close()
    assert rows[:2] == [0, 0]


def unknown_activity(context: Any) -> Any:
    yield context.call_activity("nobody", 1)


def unsupported(context: Any) -> Any:
    yield context.call_http("GET", "http://127.0.0.1/")


def raising(context: Any) -> Any:
    yield context.call_activity("echo", 1)
    raise ValueError("no luck")


def not_a_task(context: Any) -> Any:
    yield 42


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        (
            unknown_activity,
            "The function 'nobody' doesn't exist, is disabled, or is not an activity function. Additional info: "
            "The following are the known activity functions: 'a', 'b', 'echo'.",
        ),
        (unsupported, "The local stand-in does not support call_http (action type 8)."),
        (raising, "no luck"),
        (not_a_task, "'int' object has no attribute '_is_scheduled'"),
    ],
)
async def test_a_failing_orchestrator_says_why(serve: Serve, flow: Generate, message: str) -> None:
    """Its own exception, a bug below it, or something the host cannot do: status Failed with the
    reason.
    """
    rig = await serve(flow)
    status = await rig.ended(await rig.hub.start(flow.__name__))
    assert status["runtimeStatus"] == "Failed"
    assert status["output"] == f"Orchestrator function '{flow.__name__}' failed: {message}"


async def test_an_orchestrator_that_changed_its_mind_is_caught(serve: Serve) -> None:
    """Actions that differ on replay fail the orchestration as non-deterministic."""
    names = iter(["a", "b"])

    def fickle(context: Any) -> Any:
        yield context.call_activity(next(names), 1)

    rig = await serve(fickle)
    instance = await rig.hub.start("fickle")
    (await rig.called()).returns(None)
    assert "Non-deterministic" in (await rig.ended(instance))["output"]


async def test_a_timer_beyond_six_days_is_a_chain_of_shorter_ones(serve: Serve) -> None:
    """The SDK asks for three days at a time, and ends on the day."""

    def long(context: Any) -> Any:
        yield context.create_timer(later(context, 7 * 86400))
        return context.current_utc_datetime.isoformat()

    rig = await serve(long)
    instance = await rig.hub.start("long")
    for step, days in enumerate((3, 4), start=1):
        await rig.noted(instance, 10, step)
        await rig.noted(instance, 13, step)
        rig.clock.set(rig.clock.now() + timedelta(days=days))
        await rig.clock.advance(1)
    assert (await output(rig, instance))[:10] == "2026-01-08"
    assert rig.kinds(instance).count(11) == 2


async def test_a_custom_status_is_the_one_that_the_last_replay_set(serve: Serve) -> None:
    """A later execution that sets none has none; ending does not change it."""

    def staged(context: Any) -> Any:
        if context.get_input() == 1:
            context.set_custom_status({"stage": "first"})
        yield context.call_activity("a", 1)
        if context.get_input() == 1:
            context.continue_as_new(2)

    rig = await serve(staged)
    instance = await rig.hub.start("staged", input_="1")
    call = await rig.called()
    await rig.until(instance, lambda status: status["customStatus"] == {"stage": "first"})
    call.returns(None)
    (await rig.called()).returns(None)
    assert (await rig.ended(instance))["customStatus"] is None


async def test_continuing_as_new_does_not_grow_the_file(serve: Serve, tmp_path: Path) -> None:
    """Only the current execution's history is stored unless more is asked for."""

    def eternal(context: Any) -> Any:
        yield context.call_activity("echo", 1)
        if context.get_input() < 20:
            context.continue_as_new(context.get_input() + 1)

    rig = await serve(eternal)
    instance = await rig.hub.start("eternal", input_="0")
    await rig.ended(instance)
    assert len(rig.hub.executions(instance)) == 1
    with sqlite3.connect(tmp_path / "hub.db") as db:
        (count,) = db.execute("SELECT COUNT(*) FROM history").fetchone()
    db.close()
    assert count == len(rig.kinds(instance)) == 8


async def test_an_id_may_be_used_again_only_when_its_instance_has_finished(serve: Serve) -> None:
    """A finished instance is replaced; a running one is not touched."""

    def once(context: Any) -> Any:
        return [context.get_input(), (yield context.call_activity("a", 1))]

    rig = await serve(once)
    await rig.hub.start("once", "v1", "1")
    call = await rig.called()
    with pytest.raises(AlreadyExists, match="Running"):
        await rig.hub.start("once", "v1", "2")
    call.returns(None)
    assert await output(rig, "v1") == [1, None]
    await rig.hub.start("once", "v1", "3")
    (await rig.called()).returns(None)
    assert await output(rig, "v1") == [3, None]


@pytest.mark.parametrize("instance", ["", "a/b", "a?b", "a\nb", "x" * 257])
async def test_an_id_that_azure_would_refuse_is_refused(serve: Serve, instance: str) -> None:
    """Ids become part of URLs and keys."""
    rig = await serve(not_a_task)
    with pytest.raises(InvalidInstanceId):
        await rig.hub.start("not_a_task", instance)


async def test_an_instance_of_an_unknown_orchestrator_fails(serve: Serve) -> None:
    """It is accepted, and its failure lists the orchestrators that there are."""
    rig = await serve(raising, unsupported)
    status = await rig.ended(await rig.hub.start("nobody", "@odd"))
    assert status["runtimeStatus"] == "Failed"
    assert "'nobody' doesn't exist" in status["output"]
    assert status["output"].endswith("functions: 'raising', 'unsupported'.")


async def test_many_instances_run_side_by_side(serve: Serve) -> None:
    """More of them than there are workers; each gets its own results."""

    def chain(context: Any) -> Any:
        one = yield context.call_activity("echo", context.get_input())
        two = yield context.call_activity("echo", one + 1)
        return two

    rig = await serve(chain, max_orchestrations=3, max_activities=4)
    started = [await rig.hub.start("chain", f"i{n}", str(n)) for n in range(60)]
    assert [await output(rig, instance) for instance in started] == [n + 1 for n in range(60)]


def test_the_orchestrator_helper_is_the_real_sdk() -> None:
    """The failure of an orchestrator comes as the SDK's exception with the state behind its
    marker.
    """

    def empty(context: Any) -> Any:
        yield context.call_activity("a")

    with pytest.raises(Exception, match="list index out of range"):
        orchestrator(empty)('{"history": [], "instanceId": "x", "isReplaying": false, "parentInstanceId": null}')
