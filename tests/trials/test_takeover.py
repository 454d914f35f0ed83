"""Several hubs on one file, and hubs that die: leases, takeover, and nothing lost or done twice.

Run as a module, this file is one worker process for the kill test: `python -m
tests.trials.test_takeover FILE LOG`.
"""

import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import pytest

from local.durable import TaskHub
from local.durable.status import Query, Status
from local.durable.timing import PROMPT
from shared.clock import SystemClock
from tests.fakes.clock import VirtualClock
from tests.fakes.engine import START, Rig, orchestrator, running

pytestmark = pytest.mark.anyio

INSTANCES = 16
KILLS = 6
QUICK = replace(PROMPT, hold_orchestration=0.5, hold_activity=0.5)
FINISHED = Query(statuses=("Completed", "Failed"), prefix="i")


def once(context: Any) -> Any:
    return (yield context.call_activity("a", context.get_input()))


def test_a_frozen_hub_loses_its_work_to_another_and_its_late_result_counts_for_nothing(tmp_path: Path) -> None:
    """After the lease another hub runs the activity; when the first one thaws and finishes, the
    answer is already there.
    """
    clock = VirtualClock(START)
    frozen = asyncio.new_event_loop()  # a process that stops: neither its loop nor its clock goes on for a while

    async def begin() -> tuple[Rig, asyncio.Task[None], Any]:
        rig = Rig(tmp_path, VirtualClock(START), {"once": once}, ("a",))
        task = asyncio.create_task(rig.hub.run())
        await rig.hub.start("once", "v1", "1")
        return rig, task, await rig.called()

    async def take_over() -> None:
        async with running(Rig(tmp_path, clock, {"once": once}, ("a",))) as other:
            await clock.advance(9)
            await other.hub.status("v1")
            assert other.nothing_called()
            await clock.advance(2)
            call = await other.called()
            assert call.input == "1"
            call.returns("from the second")
            assert (await other.ended("v1"))["output"] == "from the second"

    async def thaw() -> None:
        late.returns("from the first")
        status = await first.ended("v1")
        assert status["output"] == "from the second"
        assert first.kinds("v1") == [12, 0, 4, 13, 12, 5, 13]
        task.cancel()
        await asyncio.wait([task])

    first, task, late = frozen.run_until_complete(begin())
    asyncio.run(take_over())
    frozen.run_until_complete(thaw())
    frozen.close()


async def test_a_lease_is_renewed_for_as_long_as_an_activity_runs(tmp_path: Path) -> None:
    """An activity of ten minutes is run by one hub only, although its lease is ten seconds."""
    clock = VirtualClock(START)
    rigs = [Rig(tmp_path, clock, {"once": once}, ("a",)) for _ in range(2)]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(rigs[0]))
        await rigs[0].hub.start("once", "v1", "1")
        call = await rigs[0].called()
        await stack.enter_async_context(running(rigs[1]))
        for _ in range(200):
            await clock.advance(3)
            await asyncio.gather(*(rig.hub.status("v1") for rig in rigs))
        assert all(rig.nothing_called() for rig in rigs)
        call.returns("done")
        assert (await rigs[1].ended("v1"))["output"] == "done"


async def test_an_activity_outlives_its_orchestration_and_the_death_of_its_hub(tmp_path: Path) -> None:
    """As in Azure, where it lies in a queue of its own: of one that was terminated it is run again
    after a death, and what it returns is nobody's.
    """
    clock = VirtualClock(START)
    dying = Rig(tmp_path, VirtualClock(START), {"once": once}, ("a",))  # its clock stands still
    task = asyncio.create_task(dying.hub.run())
    await dying.hub.start("once", "v1", "1")
    await dying.called()
    await dying.hub.terminate("v1")
    assert (await dying.ended("v1"))["runtimeStatus"] == "Terminated"
    async with running(Rig(tmp_path, clock, {"once": once}, ("a",))) as other:
        await clock.advance(11)
        (await other.called()).returns("too late")
        await other.hub.start("once", "v1", "2")
        again = await other.called()
        assert again.input == "2"
        again.returns("in time")
        assert (await other.ended("v1"))["output"] == "in time"
    task.cancel()
    await asyncio.wait([task])


async def test_a_hub_that_is_stopped_hands_its_work_back_at_once(tmp_path: Path) -> None:
    """Its successor runs the interrupted activity again without waiting for a lease; being stopped
    is not a failure.
    """
    clock = VirtualClock(START)
    async with running(Rig(tmp_path, clock, {"once": once}, ("a",))) as before:
        await before.hub.start("once", "v1", "1")
        await before.called()
    async with running(Rig(tmp_path, clock, {"once": once}, ("a",))) as after:
        (await after.called()).returns("again")
        assert (await after.ended("v1"))["output"] == "again"
        assert after.kinds("v1").count(6) == 0


async def test_a_hub_finds_the_work_that_another_process_put_there(tmp_path: Path) -> None:
    """Nobody wakes it: it looks for itself, a few times a second."""
    clock = VirtualClock(START)
    client = Rig(tmp_path, clock, {"once": once}, ("a",))
    async with running(Rig(tmp_path, clock, {"once": once}, ("a",))) as worker:
        await worker.hub.statuses()
        await client.hub.start("once", "v1", "1")
        await clock.advance(1)
        (await worker.called()).returns("found")
        assert (await worker.ended("v1"))["output"] == "found"
    await client.hub.close()


async def test_an_episode_whose_lease_was_lost_changes_nothing(tmp_path: Path) -> None:
    """The orchestrator ran twice, on two hubs; the instance moved once."""
    clock = VirtualClock(START)
    stolen: list[str] = []

    def slow(context: Any) -> Any:
        if not stolen:
            # While this replay runs the lease passes to somebody else, as it does when a
            # process stalls.
            stolen.append("x")
            with sqlite3.connect(tmp_path / "hub.db", timeout=10) as db:
                db.execute("UPDATE instances SET owner = 'somebody', lease_until = ?", ("2026-01-01T00:00:05.000000Z",))
            db.close()
        return (yield context.call_activity("a", 1))

    async with running(Rig(tmp_path, clock, {"slow": slow}, ("a",))) as rig:
        await rig.hub.start("slow", "v1")
        async with asyncio.timeout(10):
            while len(rig.answers) < 1:
                await rig.hub.status("v1")
        await rig.hub.statuses()
        assert rig.hub.history("v1") == []
        await clock.advance(6)
        (await rig.called()).returns("ok")
        assert (await rig.ended("v1"))["output"] == "ok"
        assert rig.kinds("v1") == [12, 0, 4, 13, 12, 5, 13]


def mixed(context: Any) -> Any:
    """Everything the hub can do, in two executions; the output does not depend on what was
    interrupted.
    """
    given = context.get_input()
    seen = given["seen"]
    seen.append((yield context.call_activity("work", f"{given['round']}-one")))
    yield context.create_timer(context.current_utc_datetime + timedelta(milliseconds=30))
    seen.append((yield context.call_activity_with_retry("flaky", df.RetryOptions(20, 9), f"{given['round']}-two")))
    both = [context.call_activity("work", f"{given['round']}-three"), context.call_sub_orchestrator("child", given["round"])]
    seen.append((yield context.task_all(both)))
    if given["round"] == 1:
        context.continue_as_new({"round": 2, "seen": seen})
        return None
    return seen


def child(context: Any) -> Any:
    return (yield context.call_activity("work", f"child-{context.get_input()}"))


EXPECTED = [
    *["did 1-one", "did 1-two", ["did 1-three", "did child-1"]],
    *["did 2-one", "did 2-two", ["did 2-three", "did child-2"]],
]


def hub_of(path: Path, log: Path) -> TaskHub:
    """The hub of a worker process. Activities write a line each time they run."""

    def note(line: str) -> bool:
        """Whether it is the first of its kind."""
        known = line in log.read_text().splitlines()
        with log.open("a") as lines:
            lines.write(f"{line}\n")
        return not known

    async def work(instance: str, input_: str) -> str:
        await asyncio.sleep(0.01)
        note(f"{instance} {input_}")
        return json.dumps(f"did {json.loads(input_)}")

    async def flaky(instance: str, input_: str) -> str:
        if note(f"{instance} {input_}"):
            raise RuntimeError("the first time never works")
        return json.dumps(f"did {json.loads(input_)}")

    flows = {"mixed": orchestrator(mixed), "child": orchestrator(child)}
    activities = {"work": work, "flaky": flaky}
    return TaskHub(path, "hub", flows, activities, SystemClock(), timing=QUICK, keep_histories=True)


async def test_workers_killed_at_any_moment_lose_nothing_and_repeat_no_effect(tmp_path: Path) -> None:
    """Two processes share the work and are killed in turn; every instance ends the same, every task
    completes once.
    """
    path, log = tmp_path / "hub.db", tmp_path / "log"
    log.touch()
    chance = random.Random(42)

    def worker() -> subprocess.Popen[bytes]:
        """A process that has loaded everything and waits for a line to begin."""
        command = [sys.executable, "-m", "tests.trials.test_takeover", str(path), str(log)]
        root = Path(__file__).parents[2]
        process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    client = hub_of(path, log)
    workers = await asyncio.gather(*(asyncio.to_thread(worker) for _ in range(KILLS + 2)))
    try:
        for n in range(INSTANCES):
            await client.start("mixed", f"i{n}", '{"round": 1, "seen": []}')
        begin(workers[0])
        for older, newer in pairwise(workers[:-1]):
            begin(newer)
            await asyncio.sleep(chance.uniform(0.02, 0.4))
            await kill(older)
            assert len(await client.statuses(FINISHED)) < INSTANCES
        begin(workers[-1])
        async with asyncio.timeout(60):
            await completion(client)
        assert [status["output"] for status in await client.statuses(FINISHED)] == [EXPECTED] * INSTANCES
        assert len(log.read_text().splitlines()) >= check_histories(client, await client.statuses())
    finally:
        for process in workers:
            await kill(process)
        await client.close()


async def completion(client: TaskHub) -> None:
    """Wait for all; another process does the work, so there is nothing here to wake up by."""
    while True:
        if len(await client.statuses(FINISHED)) == INSTANCES:
            return
        await asyncio.sleep(0.05)


def begin(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    process.stdin.write(b"begin\n")


async def kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    await asyncio.to_thread(process.communicate)


def check_histories(hub: TaskHub, statuses: list[Status]) -> int:
    """Every scheduled id has exactly one completion, in every execution. Returns how many
    activities were scheduled.
    """
    activities = 0
    for instance in [status["instanceId"] for status in statuses]:
        for execution in hub.executions(instance):
            events = hub.history(instance, execution)
            scheduled = [each["EventId"] for each in events if each["EventId"] >= 0]
            completed = Counter(each.get("TimerId", each.get("TaskScheduledId")) for each in events)
            del completed[None]
            assert completed == Counter(scheduled)
            assert scheduled == list(range(len(scheduled)))
            activities += sum(each["EventType"] == 4 for each in events)
    return activities


async def serve(path: Path, log: Path) -> None:
    hub = hub_of(path, log)
    os.write(1, b"ready\n")
    await asyncio.to_thread(sys.stdin.readline)
    await hub.run()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
