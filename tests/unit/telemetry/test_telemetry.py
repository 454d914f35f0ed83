"""One trace a video, and what is measured, as a collector gets them."""

import asyncio
import json
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.config.telemetry import TelemetrySettings, read_telemetry
from shared.errors import ConfigurationError
from shared.gateway import Gateway
from shared.telemetry.open_telemetry import OpenTelemetry
from shared.telemetry.trace_parent import TraceParent
from shared.upkeep.sweep import Sweep
from shared.videos.step_result import StepResult
from tests.fakes.collector import Collector, collecting, read_json, tree
from tests.fakes.orchestrations import Engine
from tests.fakes.upstream import error
from tests.fakes.world import MASTER, World
from tests.fakes.world import world as open_world

pytestmark = pytest.mark.anyio

CALLER = TraceParent("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
PROMPT = "zeisig"
PROJECT = Path(__file__).parents[3]
RULES = [{"guardrail_name": "house", "params": {"guardrail": "keywords", "default_on": True, "blocked_words": ["verboten"]}}]
SERVER, CLIENT = 2, 3
IMPATIENT = ("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")  # seconds, with all repetitions


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@asynccontextmanager
async def traced(storage: str, collector: Collector, **options: Any) -> AsyncIterator[World]:
    """A world whose telemetry the collector gets, all of it once the block is over."""
    settings = TelemetrySettings(collector.url, {"x-key": "mine"}, told="otel" in options.get("sinks", ()))
    async with open_world(storage, telemetry=settings, guardrails=RULES, **options) as world:
        yield world


async def asked(world: World, prompt: str = "A cat", parent: TraceParent | None = CALLER) -> dict[str, Any]:
    headers = {"traceparent": str(parent)} if parent else {}
    answer = await world.send(
        "POST", "/v1/videos", secret=world.secret, body={"prompt": prompt, "seconds": "4"}, headers=headers
    )
    told: dict[str, Any] = answer.json
    return told


async def lived(world: World, video_id: str, *, ends: str = "completed", on: Gateway | None = None) -> None:
    """What the engine does with a video, on this instance or on another one."""
    steps = (on or world.gateway).steps
    outcome: StepResult = await steps.submit(video_id)
    if "done" in outcome:
        world.clock.skip(60)
        world.upstream.end(ends, {"code": "x", "message": f"Not this: {PROMPT}"})
        outcome = await steps.check(video_id, world.clock.now())
    await steps.finish({"video": video_id, "failure": outcome.get("failed")})


async def test_a_video_that_completes_is_one_tree_below_its_request(azurite: str, collector: Collector) -> None:
    """Also where another instance makes it: request, video, steps, and the calls of each."""
    async with traced(azurite, collector) as world:
        await lived(world, (await asked(world))["id"], on=world.another())
    below = tree(collector.spans)
    assert below[""] == ["POST create_video"]
    assert below["POST create_video"] == [f"generate_video {world.model.name}"]
    assert sorted(below[f"generate_video {world.model.name}"]) == ["check", "finish", "generate", "save", "submit", "wait"]
    assert below["submit"] == ["POST /videos"]
    assert sorted(below["check"]) == ["GET /videos/{id}", "GET /videos/{id}/content"]
    (root,) = [each for each in collector.spans if each.name == "POST create_video"]
    assert (root.trace, root.parent, root.kind) == (CALLER.trace_id, CALLER.span_id, SERVER)
    (create,) = [each for each in collector.spans if each.name == "POST /videos"]
    assert create.kind == CLIENT
    assert create.attributes["gen_ai.provider.name"] == "azure.ai.openai"
    assert create.attributes["gen_ai.operation.name"] == "generate_video"
    assert collector.headers["x-key"] == "mine"


@pytest.mark.parametrize("end", ["failed", "refused", "blocked", "cancelled"])
async def test_every_other_end_is_one_tree_too_that_says_why(azurite: str, collector: Collector, end: str) -> None:
    async with traced(azurite, collector) as world:
        if end == "refused":
            world.upstream.script("create", error(400, f"Not this: {PROMPT}", code="content_policy_violation"))
        told = await asked(world, f"A {PROMPT} {'verboten' if end == 'blocked' else ''}")
        if end == "cancelled":
            await world.send("DELETE", f"/v1/videos/{told['id']}", secret=world.secret)
        elif end != "blocked":
            await lived(world, told["id"], ends=end)
    spans = [each for each in collector.spans if each.name != "DELETE delete_video"]
    tree(spans)
    (video,) = [each for each in spans if each.name.startswith("generate_video")]
    codes = {"failed": "x", "refused": "moderation_blocked", "blocked": "content_policy_violation", "cancelled": "cancelled"}
    assert video.failed
    assert video.attributes["error.type"] == codes[end]


async def test_a_video_without_a_callers_trace_has_one_of_its_own(azurite: str, collector: Collector) -> None:
    """A value that the W3C does not allow is none."""
    async with traced(azurite, collector) as world:
        await lived(world, (await asked(world, parent=None))["id"])
        body = {"prompt": "Another cat", "seconds": "4"}
        await world.send("POST", "/v1/videos", secret=world.secret, body=body, headers={"traceparent": "00-0-0-01"})
    assert len({each.trace for each in collector.spans}) == 2
    assert [each.parent for each in collector.spans if each.kind == SERVER] == ["", ""]


async def test_what_a_caller_does_not_sample_is_not_sent(azurite: str, collector: Collector) -> None:
    async with traced(azurite, collector) as world:
        unsampled = TraceParent(CALLER.trace_id, CALLER.span_id, sampled=False)
        await lived(world, (await asked(world, parent=unsampled))["id"])
    assert collector.spans == []


async def test_a_step_that_runs_again_adds_no_second_video(azurite: str, collector: Collector) -> None:
    """Its spans have the same ids, and it is counted once."""
    async with traced(azurite, collector) as world:
        video_id = (await asked(world))["id"]
        await lived(world, video_id)
        world.clock.skip(1)
        await world.gateway.steps.finish({"video": video_id, "failure": None})
    tree(collector.spans)
    assert {each.id for each in collector.spans if each.name.startswith("generate_video")} == {
        next(each.id for each in collector.spans if each.name.startswith("generate_video"))
    }
    assert [each["value"] for each in collector.metrics["video_gateway.videos"]] == [1]


@pytest.mark.parametrize("prompts", [True, False])
async def test_prompts_are_in_spans_unless_the_operator_keeps_them_out(
    azurite: str, collector: Collector, prompts: bool
) -> None:
    """Messages of errors, which may quote them, are kept out with them; secrets always."""
    async with traced(azurite, collector, knobs={"log_prompts": prompts}) as world:
        await lived(world, (await asked(world, f"A {PROMPT}"))["id"])
        await lived(world, (await asked(world, f"A second {PROMPT}"))["id"], ends="failed")
        secrets = [world.secret, MASTER, "upstream-secret", "example.openai.azure.com"]
    sent = b"".join(collector.bodies).decode(errors="replace")
    asked_for = [each.attributes.get("gen_ai.input.messages") for each in collector.spans if each.name.startswith("generate_")]
    assert (PROMPT in sent) == prompts
    assert [json.loads(each)[0]["parts"][0]["content"] for each in asked_for if each] == (
        [f"A {PROMPT}", f"A second {PROMPT}"] if prompts else []
    )
    assert not [each for each in secrets if each in sent]


@pytest.mark.parametrize("told", [True, False])
async def test_an_upstream_is_told_the_trace_where_the_operator_says_so(azurite: str, collector: Collector, told: bool) -> None:
    seen: list[str | None] = []

    def look(request: httpx.Request) -> None:
        seen.append(request.headers.get("traceparent"))

    async with traced(azurite, collector, knobs={"trace_upstreams": told}) as world:
        world.upstream.before(look)
        await lived(world, (await asked(world))["id"])
    (create,) = [each for each in collector.spans if each.name == "POST /videos"]
    assert seen[0] == (f"00-{create.trace}-{create.id}-01" if told else None)


async def test_what_is_measured_is_what_happened(azurite: str, collector: Collector) -> None:
    async with traced(azurite, collector, sinks=("langsmith",)) as world:
        video_id = (await asked(world))["id"]
        world.clock.skip(7)
        await Sweep(world.gateway, Engine()).run()
        await lived(world, video_id)
        await lived(world, (await asked(world, "Another"))["id"], ends="failed")
        cancelled = (await asked(world, "A third"))["id"]
        for _ in range(2):
            await world.gateway.lifecycle.delete(cancelled)
            world.clock.skip(1)
        await lived(world, cancelled)
        await world.delivered()
        cost = (await world.account()).spend / 1_000_000
    found = {name: sum(each["value"] for each in points) for name, points in collector.metrics.items()}
    statuses = {each["video.status"]: each["value"] for each in collector.metrics["video_gateway.videos"]}
    assert statuses == {"completed": 1, "failed": 1, "cancelled": 1}
    assert found["video_gateway.spend"] == pytest.approx(cost)
    assert found["video_gateway.generation"] >= 60
    assert found["gen_ai.client.operation.duration"] >= 60
    assert found["video_gateway.queue_wait"] >= 0
    assert found["video_gateway.poll_lag"] == 0
    assert (found["video_gateway.unfinished"], found["video_gateway.slots.used"]) == (1, 0)
    assert found["video_gateway.queue_age"] == pytest.approx(7, abs=0.1)
    assert found["video_gateway.slots.limit"] == world.model.deployments[0].max_running
    assert {(each["destination"], each["outcome"]) for each in collector.metrics["video_gateway.deliveries"]} == {
        ("langsmith", "delivered")
    }


async def test_the_logging_provider_otel_sends_the_videos_part_of_the_same_tree(azurite: str, collector: Collector) -> None:
    """As an event, which is delivered at least once; telemetry leaves it to that one."""
    async with traced(azurite, collector, sinks=("otel",)) as world:
        await lived(world, (await asked(world))["id"])
        await world.delivered()
        (body,) = world.receivers.bodies
    assert not [each for each in collector.spans if each.name.startswith("generate_video")]
    below = tree([*collector.spans, *read_json(body)])
    assert "generate" in below[f"generate_video {world.model.name}"]


async def test_application_insights_gets_the_same_tree(
    azurite: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STATSBEAT_DISABLED_ALL", "CONTROLPLANE_DISABLED"):
        monkeypatch.setenv(f"APPLICATIONINSIGHTS_{name}", "true")
    connection = f"InstrumentationKey=00000000-0000-0000-0000-000000000001;IngestionEndpoint={collector.url}/"
    async with open_world(azurite, telemetry=TelemetrySettings(insights=connection)) as world:
        await lived(world, (await asked(world))["id"])
    told = [each for each in collector.envelopes if each["data"]["baseType"] in ("RequestData", "RemoteDependencyData")]
    assert {each["tags"]["ai.operation.id"] for each in told} == {CALLER.trace_id}
    names = {each["data"]["baseData"]["name"] for each in told}
    assert {"POST create_video", f"generate_video {world.model.name}", "submit", "check", "finish"} <= names
    assert any(each["data"]["baseType"] == "MetricData" for each in collector.envelopes)


async def test_a_collector_that_is_gone_costs_what_it_would_have_got(
    azurite: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer and no step waits or fails; the log says it once, without the address."""
    monkeypatch.setenv(*IMPATIENT)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with caplog.at_level(logging.WARNING):
        async with open_world(azurite, telemetry=TelemetrySettings(address)) as world:
            await lived(world, (await asked(world))["id"])
            assert (await world.video((await asked(world, "More"))["id"])).status == "queued"
    lines = [each.getMessage() for each in caplog.records if "telemetry" in each.getMessage()]
    assert [each.split(":")[0] for each in lines if "metrics" not in each] == ["telemetry for the OTLP endpoint is lost"]
    assert address not in caplog.text


async def test_spans_wait_in_a_bounded_queue_and_nobody_waits_for_them(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector that takes nothing makes no caller slower, and keeps no memory."""
    monkeypatch.setenv(*IMPATIENT)
    collector.says = 503
    telemetry = OpenTelemetry(TelemetrySettings(collector.url))
    for _ in range(5_000):
        with telemetry.span("one"):
            pass
    (processor,) = telemetry._tellers
    assert len(processor._batch_processor._queue) <= 2048
    await asyncio.to_thread(telemetry.close)
    assert collector.spans == []


@pytest.mark.parametrize(
    ("env", "on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=1"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_it_is_on_where_somebody_is_to_get_it(env: dict[str, str], on: bool) -> None:
    assert (read_telemetry(env) is not None) == on


@pytest.mark.parametrize(
    ("setting", "value"), [("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]
)
def test_a_setting_that_cannot_work_is_named(setting: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=setting):
        read_telemetry({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", setting: value})


def test_headers_are_read_as_opentelemetry_has_them_and_not_shown() -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c.example", "OTEL_EXPORTER_OTLP_HEADERS": "X-Team=the%20team,x-other=1=2"}
    settings = read_telemetry(env)
    assert settings is not None
    assert settings.headers == {"x-team": "the team", "x-other": "1=2"}
    assert "team" not in repr(settings)


def test_without_configuration_nothing_is_imported_for_it() -> None:
    """Also once the gateway is built, which reads the settings."""
    env = {"AzureWebJobsStorage": "UseDevelopmentStorage=true", "AZURE_OPENAI_API_BASE": "http://127.0.0.1:1", "PATH": ""}
    script = "import sys, function_app; from shared import gateway; gateway.build(gateway.settings.load()); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, env=env, capture_output=True, text=True, check=True)
    unwanted = ("opentelemetry.sdk", "opentelemetry.exporter", "azure.monitor", "shared.telemetry.open_telemetry", "google")
    assert [name for name in run.stdout.split() if name.startswith(unwanted)] == []
