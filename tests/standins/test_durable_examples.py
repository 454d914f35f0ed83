"""The worked examples of the durable protocol, event by event, with the real SDK."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import pytest

from tests.fakes.clock import VirtualClock
from tests.fakes.engine import START, Generate, Rig, running

pytestmark = pytest.mark.anyio


def e(kind: int, second: str, task: int = -1, **keys: Any) -> dict[str, Any]:
    """A history event at 2026-01-01T00:00:`second`."""
    return {"EventType": kind, "EventId": task, "IsPlayed": False, "Timestamp": at(second), **keys}


def at(second: str) -> str:
    whole, _, fraction = second.partition(".")
    return f"2026-01-01T00:00:{whole}.{fraction:0<6}Z"


def rig(path: Path, flow: Generate, name: str, *activities: str, **options: Any) -> Rig:
    return Rig(path, VirtualClock(START), {name: flow}, activities, **options)


RETRIED = (
    '{"actionType":12,"compoundActions":[{"actionType":1,"functionName":"poll","input":"\\"v1\\"",'
    '"retryOptions":{"firstRetryIntervalInMilliseconds":1000,"maxNumberOfAttempts":%d}}]}'
)


def answer(*actions: str, done: bool = False, output: str | None = None) -> str:
    """A state as the SDK writes it; an output means that it is done."""
    rest = "" if output is None else f',"output":{output}'
    is_done = "true" if done or output is not None else "false"
    return f'{{"isDone":{is_done},"schemaVersion":2,"actions":[[{",".join(actions)}]]{rest}}}'


def same(answers: list[str], expected: list[str]) -> None:
    assert [json.loads(each) for each in answers] == [json.loads(each) for each in expected]


async def test_a_failed_call_is_retried_after_its_interval(tmp_path: Path) -> None:
    """Example A: the retry takes ids 1 (timer) and 2 (second attempt) and never appears as an
    action.
    """

    def lifecycle(context: Any) -> Any:
        status = yield context.call_activity_with_retry("poll", df.RetryOptions(1000, 3), "v1")
        return status

    async with running(rig(tmp_path, lifecycle, "lifecycle", "poll")) as durable:
        await durable.hub.start("lifecycle", "video-42", '"go"')
        first = await durable.called()
        await durable.clock.advance(2)
        first.raises(RuntimeError("upstream 500"))
        await durable.noted("video-42", 10)
        await durable.clock.advance(1)
        second = await durable.called()
        await durable.clock.advance(2)
        second.returns("completed")
        assert (await durable.ended("video-42"))["output"] == "completed"
        history = [
            e(12, "00"),
            e(0, "00", Name="lifecycle", Version="", Input='"go"'),
            e(4, "00", 0, Name="poll", Version="", Input='"v1"'),
            e(13, "00"),
            e(12, "02"),
            e(
                6,
                "02",
                TaskScheduledId=0,
                Reason="Activity function 'poll' failed:  RuntimeError: upstream 500",
                Details=durable.hub.history("video-42")[5]["Details"],
            ),
            e(10, "02", 1, FireAt=at("03")),
            e(13, "02"),
            e(12, "03"),
            e(11, "03", TimerId=1, FireAt=at("03")),
            e(4, "03", 2, Name="poll", Version="", Input='"v1"'),
            e(13, "03"),
            e(12, "05"),
            e(5, "05", TaskScheduledId=2, Result='"completed"'),
            e(13, "05"),
        ]
        assert durable.hub.history("video-42") == history
        assert durable.payloads[1]["history"] == history[:6]
        retried = RETRIED % 3
        same(durable.answers, [answer(retried)] * 3 + [answer(retried, output='"completed"')])


async def test_exhausted_retries_end_with_one_more_timer_that_fires_at_once(tmp_path: Path) -> None:
    """Example A2: id 3 is the extra timer; only then does the orchestrator see the failure, and
    `refund` is id 4.
    """

    def lifecycle(context: Any) -> Any:
        try:
            yield context.call_activity_with_retry("poll", df.RetryOptions(1000, 2), "v1")
        except Exception:
            yield context.call_activity("refund", "v1")
            return "failed"

    async with running(rig(tmp_path, lifecycle, "lifecycle", "poll", "refund")) as durable:
        await durable.hub.start("lifecycle", "video-42", '"go"')
        (await durable.called()).raises(RuntimeError("upstream 500"))
        await durable.noted("video-42", 10)
        await durable.clock.advance(1)
        (await durable.called()).raises(RuntimeError("upstream 500"))
        refund = await durable.called()
        assert (refund.name, refund.input) == ("refund", '"v1"')
        refund.returns(None)
        assert (await durable.ended("video-42"))["output"] == "failed"
        scheduled = [(each["EventType"], each["EventId"]) for each in durable.hub.history("video-42") if each["EventId"] >= 0]
        assert scheduled == [(4, 0), (10, 1), (4, 2), (10, 3), (4, 4)]
        extra = [each for each in durable.hub.history("video-42") if each.get("TimerId") == 3]
        assert extra == [e(11, "01", TimerId=3, FireAt=at("01"))]
        refunded = '{"actionType":0,"functionName":"refund","input":"\\"v1\\""}'
        assert json.loads(durable.answers[4])["actions"] == [[json.loads(RETRIED % 2), json.loads(refunded)]]


async def test_a_timer_that_fell_due_while_no_host_ran_fires_late(tmp_path: Path) -> None:
    """Example B: the orchestrator's time is when the timer was delivered, 30.12, not when it was
    due.
    """

    def wait(context: Any) -> Any:
        yield context.create_timer(context.current_utc_datetime + timedelta(seconds=30))
        return context.current_utc_datetime.isoformat()

    clock = VirtualClock(START)
    async with running(Rig(tmp_path, clock, {"wait": wait})) as before:
        await before.hub.start("wait", "video-42")
        await before.noted("video-42", 13)
    timer = '{"actionType":5,"fireAt":"2026-01-01T00:00:30.000000Z","isCanceled":false}'
    same(before.answers, [answer(timer)])
    clock.set(START + timedelta(seconds=30.12))
    async with running(Rig(tmp_path, clock, {"wait": wait})) as after:
        assert (await after.ended("video-42"))["output"] == "2026-01-01T00:00:30.120000+00:00"
        assert after.hub.history("video-42") == [
            e(12, "00"),
            e(0, "00", Name="wait", Version="", Input=None),
            e(10, "00", 0, FireAt=at("30")),
            e(13, "00"),
            e(12, "30.12"),
            e(11, "30.12", TimerId=0, FireAt=at("30")),
            e(13, "30.12"),
        ]


async def test_an_event_that_beats_the_deadline_cancels_its_timer(tmp_path: Path) -> None:
    """Example C: the wait takes no id, the cancelled timer is deleted, and nothing keeps the
    instance Running.
    """

    def watch(context: Any) -> Any:
        cancel = context.wait_for_external_event("cancel")
        deadline = context.create_timer(context.current_utc_datetime + timedelta(seconds=30))
        winner = yield context.task_any([cancel, deadline])
        if winner == cancel:
            deadline.cancel()
            why = json.loads(cancel.result)
            yield context.call_activity("refund", why["by"])
            return "cancelled"
        return "timed out"

    async with running(rig(tmp_path, watch, "watch", "refund")) as durable:
        await durable.hub.start("watch", "video-42")
        await durable.noted("video-42", 13)
        await durable.clock.advance(4)
        await durable.hub.raise_event("video-42", "cancel", json.dumps('{"by": "user"}'))
        refund = await durable.called()
        await durable.clock.advance(1)
        refund.returns(None)
        assert (await durable.ended("video-42"))["output"] == "cancelled"
        assert durable.hub.history("video-42") == [
            e(12, "00"),
            e(0, "00", Name="watch", Version="", Input=None),
            e(10, "00", 0, FireAt=at("30")),
            e(13, "00"),
            e(12, "04"),
            e(15, "04", Name="cancel", Input='"{\\"by\\": \\"user\\"}"'),
            e(4, "04", 1, Name="refund", Version="", Input='"user"'),
            e(13, "04"),
            e(12, "05"),
            e(5, "05", TaskScheduledId=1, Result="null"),
            e(13, "05"),
        ]
        either = (
            '{"actionType":11,"compoundActions":[{"actionType":6,"externalEventName":"cancel","reason":"ExternalEvent"},'
            '{"actionType":5,"fireAt":"2026-01-01T00:00:30.000000Z","isCanceled":%s}]}'
        )
        refunded = '{"actionType":0,"functionName":"refund","input":"\\"user\\""}'
        same(
            durable.answers,
            [
                answer(either % "false"),
                answer(either % "true", refunded),
                answer(either % "true", refunded, output='"cancelled"'),
            ],
        )


async def test_continue_as_new_begins_a_new_history_with_ids_from_zero(tmp_path: Path) -> None:
    """Example D: a second execution, whose history starts afresh; with the option, the first one's
    is kept too.
    """

    def loop(context: Any) -> Any:
        n = context.get_input()["n"]
        yield context.call_activity("poll", n)
        if n < 2:
            context.continue_as_new({"n": n + 1})
            return None
        return n

    async with running(rig(tmp_path, loop, "loop", "poll", keep_histories=True)) as durable:
        await durable.hub.start("loop", "video-42", '{"n": 1}')
        first = await durable.called()
        await durable.clock.advance(1)
        first.returns("in_progress")
        second = await durable.called()
        assert (first.input, second.input) == ("1", "2")
        await durable.clock.advance(1)
        second.returns("completed")
        status = await durable.ended("video-42")
        assert (status["output"], status["input"]) == (2, '{"n": 2}')

        def execution(n: int, begin: str, end: str, result: str) -> list[dict[str, Any]]:
            first_episode = [e(13, begin)] if n > 1 else []  # nothing runs in that of a later execution
            return [
                e(12, begin),
                e(0, begin, Name="loop", Version="", Input=f'{{"n": {n}}}'),
                *first_episode,
                e(4, begin, 0, Name="poll", Version="", Input=str(n)),
                e(13, begin),
                e(12, end),
                e(5, end, TaskScheduledId=0, Result=result),
                e(13, end),
            ]

        old, new = durable.hub.executions("video-42")
        assert durable.hub.history("video-42", old) == execution(1, "00", "01", '"in_progress"')
        assert durable.hub.history("video-42") == execution(2, "01", "02", '"completed"')
        assert durable.hub.history("video-42", new) == durable.hub.history("video-42")
        poll = '{"actionType":0,"functionName":"poll","input":"%d"}'
        again = '{"actionType":4,"input":"{\\"n\\": 2}"}'
        same(
            durable.answers,
            [
                answer(poll % 1),
                answer(poll % 1, again, done=True),
                answer(poll % 2),
                answer(poll % 2, output="2"),
            ],
        )
