"""What both engines are put through: what orchestrations do, and what clients are told."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.trials.engine.client import Client

Act = Callable[[Client], Awaitable[Any]]
Step = Callable[[Client, str], Awaitable[Any]]


@dataclass(frozen=True)
class Case:
    """`act` returns a JSON value, which must be the same on both engines."""

    name: str
    act: Act


def ends(flow: str, given: Any = None) -> Case:
    """An orchestration that needs nobody."""

    async def act(client: Client) -> Any:
        return await client.end(await client.start(flow, given))

    return Case(flow.replace("_", " "), act)


def told(name: str, flow: str, *events: tuple[str, Any], given: Any = None, apart: float = 0.5) -> Case:
    """One that gets these events, once it waits."""

    async def act(client: Client) -> Any:
        instance = await client.begun(flow, given)
        for event, data in events:
            await client.tell(instance, event, data)
            await asyncio.sleep(apart)
        return await client.end(instance)

    return Case(name, act)


def with_one(name: str, step: Step, *, flow: str = "event_then_end") -> Case:
    """What comes of a step with a living instance."""

    async def act(client: Client) -> Any:
        instance = await client.begun(flow, {"some": "input"})
        try:
            return await step(client, instance)
        finally:
            await client.call("POST", f"instances/{instance}/terminate?reason=over")

    return Case(name, act)


def with_ended(name: str, step: Step) -> Case:
    """What comes of a step with a completed instance."""

    async def act(client: Client) -> Any:
        instance = await client.start("chain", 1)
        await client.end(instance)
        return await step(client, instance)

    return Case(name, act)


def asked(name: str, method: str, path: str, body: str | None = None) -> Case:
    async def act(client: Client) -> Any:
        return await client.call(method, path, body)

    return Case(name, act)


async def _timer(client: Client, seconds: float) -> Any:
    """Whether a timer kept to what may be relied on: at most 1 s early."""
    _, took = await client.end(await client.start("timer_alone", seconds))
    return took >= seconds - 1


async def _at_once(client: Client) -> Any:
    """A timer of 0.9 s waits for nothing but the episode: no second of it is left to wait."""
    _, took = await client.end(await client.start("timer_alone", 0.9))
    return took >= 0


async def _suspended(client: Client, instance: str) -> Any:
    await client.durable.suspend(instance, "a rest")
    status = await client.until(instance, "Suspended")
    await client.tell(instance, "go", "now")
    await asyncio.sleep(1)
    held = (await client.until(instance, "Suspended", "Completed"))["runtimeStatus"]
    await client.durable.resume(instance, "go on")
    return [status["output"], held, await client.end(instance)]


async def _terminated(client: Client, instance: str) -> Any:
    await client.durable.terminate(instance, "enough")
    return await client.end(instance)


async def _terminated_working(client: Client) -> Any:
    instance = await client.begun("event_during_an_activity")
    await client.durable.terminate(instance, '{"by": "us"}')
    return await client.end(instance)


async def _restarted(client: Client, instance: str) -> Any:
    fresh = (await client.durable.restart(instance))["id"]
    return [fresh != instance, await client.end(fresh)]


async def _restarted_in_place(client: Client, instance: str) -> Any:
    again = (await client.durable.restart(instance, False))["id"]
    return [again == instance, await client.end(again)]


async def _purged(client: Client, instance: str) -> Any:
    return [await client.call("DELETE", f"instances/{instance}"), await client.call("GET", f"instances/{instance}")]


async def _started_twice(client: Client, instance: str) -> Any:
    return await client.call("POST", f"orchestrators/chain/{instance}", '"1"')


async def _started_again(client: Client, instance: str) -> Any:
    return [(await client.call("POST", f"orchestrators/chain/{instance}", '"5"'))[0], await client.end(instance)]


async def _started(client: Client, flow: str, instance: str) -> Any:
    answer, _ = await client.call("POST", f"orchestrators/{flow}/{instance}", '"1"')
    return [answer, await client.end(instance)]


async def _custom_status(client: Client) -> Any:
    instance = await client.begun("status_set")
    before = (await client.until(instance, "Running"))["customStatus"]
    await client.tell(instance, "go")
    await client.end(instance)
    return [before, (await client.until(instance, "Completed"))["customStatus"]]


async def _custom_status_after_new(client: Client) -> Any:
    instance = await client.begun("status_after_new")
    await asyncio.sleep(2)
    await client.tell(instance, "go")
    await client.end(instance)
    return (await client.until(instance, "Completed"))["customStatus"]


async def _early(client: Client) -> Any:
    """Of two early events of one name the later is read twice."""
    instance = await client.begun("early_events")
    await client.tell(instance, "go", 1)
    await client.tell(instance, "go", 2)
    await asyncio.sleep(0.5)
    await client.tell(instance, "ready")
    return await client.end(instance)


async def _status(client: Client, instance: str) -> Any:
    return _whoever(instance, await client.call("GET", f"instances/{instance}"))


async def _status_without_input(client: Client, instance: str) -> Any:
    return _whoever(instance, await client.call("GET", f"instances/{instance}?showInput=False"))


async def _history(client: Client, instance: str) -> Any:
    path = f"instances/{instance}?showHistory=True&showHistoryOutput=True"
    status, body = await client.call("GET", path)
    return [status, [each["EventType"] for each in body["historyEvents"]]]


async def _listed(client: Client, instance: str) -> Any:
    return _whoever(instance, await client.call("GET", f"instances/?instanceIdPrefix={instance}"))


async def _listed_by_status(client: Client, instance: str) -> Any:
    found = []
    for status in ("Completed", "Failed"):
        _, body = await client.call("GET", f"instances/?instanceIdPrefix={instance}&runtimeStatus={status}")
        found.append(len(body))
    return found


def _whoever(instance: str, answer: Any) -> Any:
    """An answer about an instance whose own id is of no interest."""
    return [answer[0], _without(answer[1], instance)]


def _without(value: Any, text: str) -> Any:
    if isinstance(value, list):
        return [_without(each, text) for each in value]
    if isinstance(value, dict):
        return {key: _without(each, text) for key, each in value.items()}
    return value.replace(text, "ID") if isinstance(value, str) else value


async def _told(client: Client, instance: str) -> Any:
    """A request about an ended instance: each with the status of its answer."""
    paths = ("raiseEvent/go", "terminate?reason=x", "suspend?reason=x", "resume?reason=x")
    return [await client.call("POST", f"instances/{instance}/{path}", '"1"') for path in paths]


async def _unknown(client: Client) -> Any:
    return await _told(client, "nobody-there")


async def _other_case(client: Client, instance: str) -> Any:
    await client.tell(instance, "GO", "now")
    await asyncio.sleep(1)
    return (await client.until(instance, "Running", "Completed"))["runtimeStatus"]


async def _not_json(client: Client, instance: str) -> Any:
    return await client.call("POST", f"instances/{instance}/raiseEvent/go", "no json")


async def _forgotten(client: Client) -> Any:
    """Whether a losing timer that was not cancelled keeps its instance running."""
    instance = await client.begun("event_or_forgotten_timer")
    await client.tell(instance, "go")
    await asyncio.sleep(1)
    return [(await client.until(instance, "Running", "Completed"))["runtimeStatus"], await client.end(instance)]


async def _unknown_activity(client: Client) -> Any:
    instance = await client.begun("unknown_activity")
    await asyncio.sleep(5)
    return (await client.until(instance, "Running", "Failed"))["runtimeStatus"]


async def _lost_event(client: Client) -> Any:
    instance = await client.begun("event_during_an_activity")
    await client.tell(instance, "go", 1)
    return await client.end(instance)


async def _waits(client: Client, flow: str) -> Any:
    """The event comes when a round is lost."""
    instance = await client.begun(flow)
    while ((await client.until(instance, "Running"))["customStatus"] or {"lost": 0})["lost"] == 0:  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    await client.tell(instance, "go", 1)
    return await client.end(instance)


def rounds(flow: str, count: int) -> Case:
    return told(flow.replace("_", " "), flow, ("go", 1), given={"told": [], "rounds": count})


ORCHESTRATIONS = (
    ends("chain", 1),
    ends("none"),
    ends("fan_out"),
    ends("fan_out_with_a_failure"),
    ends("nested"),
    told("the first of two events", "first_of_two", ("b", "x")),
    told("an event", "event_then_end", ("go", {"by": "user"})),
    told("an event without data", "event_then_end", ("go", None)),
    told("two waits are served newest first", "two_waits", ("go", 1)),
    told("two waits in turn", "two_waits_in_turn", ("go", 1), ("go", 2), apart=2),
    Case("two early events of one name", _early),
    with_one("an event's name in another case", _other_case),
    told("an event before its deadline", "event_or_timer", ("go", 1), given=60),
    ends("event_or_timer", 2),
    Case("a forgotten timer", _forgotten),
    told("a cancelled timer", "cancelled_timer", ("go", 1)),
    Case("a timer is at most a second early", lambda client: _timer(client, 2.5)),
    Case("a timer of less than a second", _at_once),
    rounds("rounds_with_cancel", 4),
    rounds("rounds_without_cancel", 2),
    rounds("rounds_with_work", 2),
    Case("an event during an activity", _lost_event),
    ends("counts_to_three", 1),
    Case("one wait in several compounds", lambda client: _waits(client, "reused_wait")),
    Case("waits that lost", lambda client: _waits(client, "lost_waits")),
    ends("failing_activity"),
    ends("failing"),
    ends("unhandled"),
    Case("unknown activity", _unknown_activity),
    ends("retried"),
    ends("retries_exhausted"),
    ends("parent"),
    ends("parents_of_two"),
    ends("named_child"),
    ends("parent_of_failing"),
    ends("retried_child"),
    Case("a custom status", _custom_status),
    Case("a custom status after continue as new", _custom_status_after_new),
    with_one("suspend and resume", _suspended),
    with_one("terminate", _terminated),
    Case("terminate during an activity", _terminated_working),
    with_ended("restart", _restarted),
    with_ended("restart in place", _restarted_in_place),
    with_ended("purge", _purged),
)

CLIENTS = (
    asked("start without id or input", "POST", "orchestrators/chain"),
    asked("start", "POST", "orchestrators/chain/started-with-an-id", '"1"'),
    with_one("start of a living instance", _started_twice),
    with_ended("start of an ended instance", _started_again),
    Case("start of an unknown orchestrator", lambda client: _started(client, "nobody", "unknown-1")),
    Case("start with an @ in front", lambda client: _started(client, "chain", "@odd")),
    Case("start with an id of 101 characters", lambda client: _started(client, "chain", "x" * 101)),
    asked("start with a body that is not JSON", "POST", "orchestrators/chain/no-json", "no json"),
    asked("status of nobody", "GET", "instances/nobody-there"),
    with_one("status of a living instance", _status),
    with_ended("status of an ended instance", _status),
    with_ended("status without input", _status_without_input),
    with_ended("published history", _history),
    with_ended("list by prefix", _listed),
    with_ended("list by status", _listed_by_status),
    with_ended("messages to an ended instance", _told),
    Case("messages to nobody", _unknown),
    with_one("an event that is not JSON", _not_json),
    asked("restart of nobody", "POST", "instances/nobody-there/restart"),
    asked("purge of nobody", "DELETE", "instances/nobody-there"),
    asked("purge of many that finds nothing", "DELETE", "instances/?createdTimeFrom=2036-01-01T00:00:00Z"),
    asked("purge of many without a time", "DELETE", "instances/?runtimeStatus=Completed"),
    asked("rewind of nobody", "POST", "instances/nobody-there/rewind?reason=x"),
    asked("an entity that is not there", "GET", "entities/counter/one"),
)
