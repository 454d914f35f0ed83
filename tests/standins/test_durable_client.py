"""The endpoints, called by the real client SDK over HTTP."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import azure.durable_functions as df
import pytest
from aiohttp import web
from azure.durable_functions.models.utils.http_utils import _close_session

from local.durable import rpc
from tests.fakes.clock import VirtualClock
from tests.fakes.engine import START, Rig, running

pytestmark = pytest.mark.anyio


def lifecycle(context: Any) -> Any:
    context.set_custom_status({"stage": "polling"})
    polled = yield context.call_activity("poll", context.get_input())
    event = yield context.wait_for_external_event("nudge")
    return [polled, event]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(Rig(tmp_path, VirtualClock(START), {"lifecycle": lifecycle}, ("poll",))) as rig:
        yield rig


@pytest.fixture
async def origin(rig: Rig) -> AsyncIterator[str]:
    """Where the hub's endpoints are served."""
    app = web.Application()
    app.add_routes(rpc.routes(rig.hub))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def client(rig: Rig, origin: str) -> AsyncIterator[Any]:
    """The SDK's."""
    yield df.DurableOrchestrationClient(rpc.client_binding(rig.hub.name, origin))
    await _close_session()


async def test_a_client_starts_nudges_and_reads_an_instance(rig: Rig, client: Any) -> None:
    """Input and event data make the round trip; the event arrives as JSON text."""
    assert await client.start_new("lifecycle", "video-42", {"n": 1}) == "video-42"
    call = await rig.called()
    assert json.loads(call.input) == {"n": 1}
    status = await client.get_status("video-42", show_input=True)
    assert (status.runtime_status.name, json.loads(status.input_)) == ("Running", {"n": 1})
    assert (status.custom_status, status.output) == ({"stage": "polling"}, None)
    assert status.created_time == START
    call.returns("ok")
    await client.raise_event("video-42", "nudge", {"by": "user"})
    await rig.ended("video-42")
    status = await client.get_status("video-42")
    assert (status.runtime_status.name, status.output) == ("Completed", ["ok", '{"by": "user"}'])


async def test_a_start_without_id_or_input_gets_both(rig: Rig, client: Any) -> None:
    """A random id and a null input; an event without data is the text `null`."""
    instance = await client.start_new("lifecycle")
    call = await rig.called()
    assert call.input == "null"
    call.returns(1)
    await client.raise_event(instance, "nudge")
    assert (await rig.ended(instance))["output"] == [1, "null"]


async def test_start_up_rules_reach_the_client_as_the_extension_states_them(rig: Rig, client: Any) -> None:
    """A running id: 409 with the reason; a finished id is replaced; an unknown function is accepted
    and fails.
    """
    await client.start_new("nobody", "@v0")
    assert "'nobody' doesn't exist" in (await rig.ended("@v0"))["output"]
    await client.start_new("lifecycle", "v1")
    await rig.called()
    with pytest.raises(Exception, match="already exists") as refusal:
        await client.start_new("lifecycle", "v1")
    assert "An Orchestration instance with the status Running already exists." in str(refusal.value)
    await client.terminate("v1", "over")
    await rig.ended("v1")
    assert await client.start_new("lifecycle", "v1") == "v1"
    await rig.called()
    assert (await client.get_status("v1")).runtime_status.name == "Running"


async def test_ended_and_unknown_instances_are_told_apart(rig: Rig, client: Any) -> None:
    """410 is an error for events only; 404 is one for every call but status and purge."""
    assert not await client.get_status("nobody")
    assert (await client.purge_instance_history("nobody")).instances_deleted == 0
    for call in (client.terminate, client.suspend, client.resume, client.raise_event):
        with pytest.raises(Exception, match="o instance with ID"):
            await call("nobody", "x")
    await client.start_new("lifecycle", "v1")
    await client.terminate("v1", "done & dusted")
    assert (await rig.ended("v1"))["output"] == "done & dusted"
    for call in (client.terminate, client.suspend, client.resume):
        await call("v1", "again")
    with pytest.raises(Exception, match="is gone"):
        await client.raise_event("v1", "nudge")
    assert (await client.purge_instance_history("v1")).instances_deleted == 1
    assert not await client.get_status("v1")


async def test_suspending_and_resuming_show_in_the_status(rig: Rig, client: Any) -> None:
    """Suspended, then Running again."""
    await client.start_new("lifecycle", "v1")
    await client.suspend("v1", "break")
    status = await rig.until("v1", lambda status: status["runtimeStatus"] == "Suspended")
    assert status["output"] == "break"
    await client.resume("v1", "work")
    await rig.until("v1", lambda status: status["runtimeStatus"] == "Running")


async def test_a_restart_takes_the_same_input_to_a_new_id(rig: Rig, client: Any) -> None:
    """Or to the same one on request; an unknown id is an error."""
    await client.start_new("lifecycle", "v1", 7)
    await rig.called()
    await client.terminate("v1", "over")
    await rig.ended("v1")
    fresh = (await client.restart("v1"))["id"]
    assert fresh != "v1"
    assert (await rig.called()).input == "7"
    assert (await client.restart("v1", restart_with_new_instance_id=False))["id"] == "v1"
    assert (await rig.called()).input == "7"
    with pytest.raises(Exception, match="unexpected status code 400"):
        await client.restart("nobody")


async def test_instances_are_listed_and_purged_by_time_status_and_prefix(rig: Rig, client: Any) -> None:
    """Only finished ones are purged, whatever else matches."""
    for instance in ("a1", "a2", "b1"):
        await client.start_new("lifecycle", instance)
    await client.terminate("a1", "over")
    await rig.ended("a1")
    assert [status.instance_id for status in await client.get_status_all()] == ["a1", "a2", "b1"]
    assert [each.instance_id for each in await client.get_status_by(instance_id_prefix="a")] == ["a1", "a2"]
    ended = await client.get_status_by(runtime_status=[df.OrchestrationRuntimeStatus.Terminated])
    assert [each.instance_id for each in ended] == ["a1"]
    later = START + timedelta(days=1)
    assert await client.get_status_by(created_time_from=later) == []
    assert (await client.purge_instance_history_by(created_time_from=later)).instances_deleted == 0
    assert (await client.purge_instance_history_by(created_time_from=START)).instances_deleted == 1
    assert len(await client.get_status_all()) == 2


async def test_published_history_merges_a_completion_with_its_scheduling(rig: Rig, client: Any) -> None:
    """Names for types, no episode marks, results only when asked for."""
    await client.start_new("lifecycle", "v1", 1)
    call = await rig.called()
    await rig.clock.advance(5)
    call.returns("ok")
    await rig.noted("v1", 5)
    status = await client.get_status("v1", show_history=True, show_history_output=True)
    assert [each["EventType"] for each in status.historyEvents] == ["ExecutionStarted", "TaskCompleted"]
    assert status.historyEvents[1] == {
        "EventType": "TaskCompleted",
        "Timestamp": "2026-01-01T00:00:05.000000Z",
        "Result": "ok",
        "ScheduledTime": "2026-01-01T00:00:00.000000Z",
        "FunctionName": "poll",
    }
    status = await client.get_status("v1", show_history=True)
    assert "Result" not in status.historyEvents[1]


async def test_bodies_and_headers_are_those_of_the_extension(origin: str) -> None:
    """What the SDK hides: 202 with links, a location and a retry hint; 400 for what is not JSON;
    501 for entities.
    """
    async with aiohttp.ClientSession(f"{origin}/durabletask/") as http:
        async with http.post("orchestrators/lifecycle/v1", json=json.dumps(1)) as started:
            assert started.status == 202
            links = await started.json()
            assert links["id"] == "v1"
            assert links["terminatePostUri"].startswith(f"{origin}/runtime/webhooks/durabletask/instances/v1/terminate")
        async with http.get("instances/v1") as status:
            assert (status.status, status.headers["Retry-After"]) == (202, "5")
            assert status.headers["Location"].endswith("/durabletask/instances/v1")
        async with http.get("instances/nobody") as missing:
            assert (missing.status, await missing.read()) == (404, b"")
        for path in ("orchestrators/lifecycle/v2", "instances/v1/raiseEvent/nudge"):
            async with http.post(path, data=b"{not json") as refused:
                assert refused.status == 400
                assert (await refused.json())["Message"] == "Invalid JSON content"
        async with http.delete("instances/") as refused:
            assert refused.status == 400
        async with http.post("entities/counter/one?op=add") as unsupported:
            assert unsupported.status == 501
