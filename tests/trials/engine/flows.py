"""The small orchestrations that both engines run, and their activities."""

import json
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any

import azure.durable_functions as df

Context = Any
Flow = Generator[Any, Any, Any]


def _later(context: Context, seconds: float) -> Any:
    return context.current_utc_datetime + timedelta(seconds=seconds)


def chain(context: Context) -> Flow:
    total = context.get_input()
    for _ in range(3):
        total = (yield context.call_activity("echo", total)) + 1
    return total


def fan_out(context: Context) -> Flow:
    return (yield context.task_all([context.call_activity("echo", n) for n in range(5)]))


def fan_out_with_a_failure(context: Context) -> Flow:
    try:
        yield context.task_all([context.call_activity("echo", 1), context.call_activity("fail", "x")])
    except Exception as failure:
        return str(failure).partition("\n")[0]


def first_of_two(context: Context) -> Flow:
    tasks = [context.wait_for_external_event("a"), context.wait_for_external_event("b")]
    won = yield context.task_any(tasks)
    return tasks.index(won), won.result


def nested(context: Context) -> Flow:
    both = context.task_all([context.call_activity("echo", 1), context.call_activity("echo", 2)])
    won = yield context.task_any([both, context.wait_for_external_event("never")])
    return won.result


def event_then_end(context: Context) -> Flow:
    return (yield context.wait_for_external_event("go"))


def two_waits(context: Context) -> Flow:
    first = context.wait_for_external_event("go")
    second = context.wait_for_external_event("go")
    won = yield context.task_any([first, second])
    return "first" if won is first else "second"


def two_waits_in_turn(context: Context) -> Flow:
    first = yield context.wait_for_external_event("go")
    second = yield context.wait_for_external_event("go")
    return [first, second]


def early_events(context: Context) -> Flow:
    yield context.wait_for_external_event("ready")
    first = yield context.wait_for_external_event("go")
    second = yield context.wait_for_external_event("go")
    return [first, second]


def event_or_timer(context: Context) -> Flow:
    wake = context.wait_for_external_event("go")
    timer = context.create_timer(_later(context, context.get_input()))
    won = yield context.task_any([wake, timer])
    if won is wake:
        timer.cancel()
        return "event"
    return "timer"


def event_or_forgotten_timer(context: Context) -> Flow:
    wake = context.wait_for_external_event("go")
    yield context.task_any([wake, context.create_timer(_later(context, 6))])
    return "event"


def _round(context: Context, *, cancels: bool = True, works: bool = False) -> Flow:
    """Rounds that an event or a timer ends; every one but the fourth continues as new."""
    given = context.get_input()
    wake = context.wait_for_external_event("go")
    timer = context.create_timer(_later(context, 8))
    won = yield context.task_any([wake, timer])
    if cancels and won is wake:
        timer.cancel()
    if works:
        yield context.call_activity("echo", 1)
    told = [*given["told"], json.loads(wake.result) if won is wake else None]
    if len(told) == given["rounds"]:
        return told
    context.continue_as_new({"told": told, "rounds": given["rounds"]})


def rounds_with_cancel(context: Context) -> Flow:
    return (yield from _round(context))


def rounds_without_cancel(context: Context) -> Flow:
    return (yield from _round(context, cancels=False))


def rounds_with_work(context: Context) -> Flow:
    return (yield from _round(context, works=True))


def event_during_an_activity(context: Context) -> Flow:
    """The event comes while an activity runs that is followed by `continue_as_new`."""
    if context.get_input() == "again":
        wake = context.wait_for_external_event("go")
        timer = context.create_timer(_later(context, 3))
        won = yield context.task_any([wake, timer])
        if won is wake:
            timer.cancel()
        return "event" if won is wake else "lost"
    yield context.call_activity("slow", 3)
    context.continue_as_new("again")


def counts_to_three(context: Context) -> Flow:
    n = yield context.call_activity("echo", context.get_input())
    if n == 3:
        return n
    context.continue_as_new(n + 1)


def timer_alone(context: Context) -> Flow:
    begun = context.current_utc_datetime
    yield context.create_timer(_later(context, context.get_input()))
    return (context.current_utc_datetime - begun).total_seconds()


def cancelled_timer(context: Context) -> Flow:
    timer = context.create_timer(_later(context, 600))
    wake = context.wait_for_external_event("go")
    yield context.task_any([wake, timer])
    timer.cancel()
    return (yield context.call_activity("echo", "done"))


def reused_wait(context: Context) -> Flow:
    """One wait in two compounds, the losing timers cancelled."""
    wake, lost = context.wait_for_external_event("go"), 0
    while True:
        context.set_custom_status({"lost": lost})
        timer = context.create_timer(_later(context, 2))
        if (yield context.task_any([wake, timer])) is wake:
            timer.cancel()
            return lost > 0
        lost += 1


def lost_waits(context: Context) -> Flow:
    """A new wait of one name in every round: those that lost stay open, and are served last."""
    for lost in range(20):
        context.set_custom_status({"lost": lost})
        wake = context.wait_for_external_event("go")
        timer = context.create_timer(_later(context, 2))
        if (yield context.task_any([wake, timer])) is wake:
            timer.cancel()
            return lost > 0
    return "never"


def failing_activity(context: Context) -> Flow:
    try:
        yield context.call_activity("fail", "the reason")
    except Exception as failure:
        return [line.strip() for line in str(failure).splitlines()[:1]]


def failing(context: Context) -> Flow:
    yield context.call_activity("echo", 1)
    raise ValueError("the recipe is wrong")


def unhandled(context: Context) -> Flow:
    yield context.call_activity("fail", "the reason")


def unknown_activity(context: Context) -> Flow:
    yield context.call_activity("nobody", 1)


def retried(context: Context) -> Flow:
    return (yield context.call_activity_with_retry("flaky", df.RetryOptions(1000, 4), context.instance_id))


def retries_exhausted(context: Context) -> Flow:
    try:
        yield context.call_activity_with_retry("fail", df.RetryOptions(1000, 2), "x")
    except Exception as failure:
        return str(failure).partition("\n")[0].strip()


def parent(context: Context) -> Flow:
    return (yield context.call_sub_orchestrator("chain", 1))


def parents_of_two(context: Context) -> Flow:
    return (yield context.task_all([context.call_sub_orchestrator("chain", n) for n in (1, 2)]))


def named_child(context: Context) -> Flow:
    return (yield context.call_sub_orchestrator("child", None, f"{context.instance_id}-child"))


def child(context: Context) -> Flow:
    yield context.call_activity("echo", 1)
    return context.instance_id.rpartition("-")[2]


def parent_of_failing(context: Context) -> Flow:
    try:
        yield context.call_sub_orchestrator("failing", None)
    except Exception as failure:
        return str(failure).partition("\n")[0].strip()


def retried_child(context: Context) -> Flow:
    try:
        yield context.call_sub_orchestrator_with_retry("failing", df.RetryOptions(1000, 2), None)
    except Exception as failure:
        return str(failure).partition("\n")[0].strip()


def status_set(context: Context) -> Flow:
    context.set_custom_status({"stage": 1})
    yield context.wait_for_external_event("go")
    context.set_custom_status("")
    return "done"


def status_after_new(context: Context) -> Flow:
    if context.get_input() == "again":
        yield context.wait_for_external_event("go")
        return "done"
    context.set_custom_status({"stage": "first"})
    yield context.call_activity("echo", 1)
    context.continue_as_new("again")


def none(context: Context) -> Flow:
    yield context.call_activity("echo", None)


FLOWS = (
    *(chain, fan_out, fan_out_with_a_failure, first_of_two, nested, event_then_end, two_waits, two_waits_in_turn),
    *(early_events, event_or_timer, event_or_forgotten_timer, rounds_with_cancel, rounds_without_cancel, rounds_with_work),
    *(event_during_an_activity, counts_to_three, timer_alone, cancelled_timer, reused_wait, lost_waits),
    *(failing_activity, failing, unhandled, unknown_activity, retried, retries_exhausted),
    *(parent, parents_of_two, named_child, child, parent_of_failing, retried_child, status_set, status_after_new, none),
)


def activities(sleep: Callable[[float], Any]) -> dict[str, Any]:
    """By name; each takes an instance's id and JSON text, and returns JSON text."""
    tries: dict[str, int] = {}

    async def echo(_: str, given: str) -> str:
        return given

    async def fail(_: str, given: str) -> str:
        raise RuntimeError(json.loads(given))

    async def slow(_: str, given: str) -> str:
        await sleep(json.loads(given))
        return given

    async def flaky(instance: str, given: str) -> str:
        tries[instance] = tries.get(instance, 0) + 1
        if tries[instance] < 3:
            raise RuntimeError("not yet")
        return json.dumps(tries[instance])

    return {"echo": echo, "fail": fail, "slow": slow, "flaky": flaky}
