"""Receivers of our own in the place of logging providers: each refuses what its provider's
documents do not allow, and notes what it took.
"""

import json
import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import httpx
from openai import OpenAI
from standardwebhooks.webhooks import Webhook

from tests.fakes.collector import read_json

# What each provider's account is reached with.
SETTINGS: Mapping[str, str] = {
    "DD_API_KEY": "the-datadog-key",
    "LANGSMITH_API_KEY": "the-langsmith-key",
    "LANGSMITH_TENANT_ID": "the-tenant",
    "HELICONE_API_KEY": "the-helicone-key",
    "LANGFUSE_PUBLIC_KEY": "pk-lf-1",
    "LANGFUSE_SECRET_KEY": "sk-lf-2",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector.example:4318",
    "GENERIC_LOGGER_ENDPOINT": "https://own.example/videos",
    "GENERIC_LOGGER_HEADERS": "authorization=Bearer mine",
    "GENERIC_LOGGER_SECRET": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz",
    "EVENT_GRID_TOPIC_ENDPOINT": "https://videos.westeurope-1.eventgrid.azure.net/api/events",
    "OTEL_EXPORTER_OTLP_HEADERS": "x-honeycomb-team=the%20team,x-other=1=2",
}

MESSAGE = re.compile(rb"<MessageText>([^<]*)</MessageText>")  # of a queue

Ids = Sequence[str]
"""The ids of the events in a request that a provider would take."""


class Wrong(Exception):
    """A request that the provider would refuse, with the status that it would give."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def expect(right: bool, why: str, status: int = 400) -> None:
    if not right:
        raise Wrong(status, why)


def datadog(request: httpx.Request) -> Ids:
    """https://docs.datadoghq.com/api/latest/logs/#send-logs: at most 1000 logs and 5 MB."""
    expect(request.headers.get("dd-api-key") == SETTINGS["DD_API_KEY"], "the key", 403)
    expect(request.url.path == "/api/v2/logs", "the path", 404)
    expect(len(request.content) <= 5_000_000, "the size", 413)
    logs = _json(request)
    expect(isinstance(logs, list) and 0 < len(logs) <= 1000, "the list")
    for log in logs:
        expect(all(isinstance(value, str) for value in log.values()), "a value that is no text")
        expect(log["status"] in ("info", "error") and log["ddsource"] != "" and "service" in log, "a log")
        expect(all(":" in tag and tag == tag.lower() for tag in log["ddtags"].split(",")), "a tag")
    return [json.loads(log["message"])["id"] for log in logs]


def datadog_llm_observability(request: httpx.Request) -> Ids:
    """https://docs.datadoghq.com/llm_observability/instrumentation/api/: spans of the last day."""
    expect(request.headers.get("dd-api-key") == SETTINGS["DD_API_KEY"], "the key", 403)
    expect(request.url.path == "/api/intake/llm-obs/v1/trace/spans", "the path", 404)
    data = _json(request)["data"]
    expect(data["type"] == "span" and data["attributes"]["ml_app"] != "", "the envelope")
    for span in data["attributes"]["spans"]:
        expect(span["parent_id"] == "undefined" and len(span["trace_id"]) == 32 and len(span["span_id"]) == 16, "the ids")
        expect(isinstance(span["start_ns"], int) and isinstance(span["duration"], int) and span["duration"] >= 0, "the times")
        expect(span["meta"]["kind"] == "llm" and span["status"] in ("ok", "error"), "the kind")
        expect(("error" in span["meta"]) == (span["status"] == "error"), "the error")
        expect(span["metrics"]["total_cost"] >= 0, "the cost")
    return [span["meta"]["metadata"]["id"] for span in data["attributes"]["spans"]]


def langsmith(request: httpx.Request) -> Ids:
    """https://docs.langchain.com/langsmith/smith-api/run/ingest-runs-batch-json: of a run without
    parent, the trace's id is its own, which also ends the dotted order.
    """
    expect(request.headers.get("x-api-key") == SETTINGS["LANGSMITH_API_KEY"], "the key", 401)
    expect(request.headers.get("x-tenant-id") == SETTINGS["LANGSMITH_TENANT_ID"], "the tenant", 403)
    expect(request.url.path == "/runs/batch", "the path", 404)
    runs = _json(request)["post"]
    for run in runs:
        expect(UUID(run["id"]).version == 7 and run["trace_id"] == run["id"] and "session_id" not in run, "the ids")
        time, run_id = run["dotted_order"][:22], run["dotted_order"][22:]
        expect(run_id == run["id"] and datetime.strptime(time, "%Y%m%dT%H%M%S%f%z") is not None, "the order", 422)
        expect(run["run_type"] == "llm" and run["outputs"]["usage_metadata"]["total_cost"] >= 0, "the cost")
        expect(
            run["start_time"] <= run["end_time"] and {"ls_provider", "ls_model_name"} <= run["extra"]["metadata"].keys(), "it"
        )
    return [run["extra"]["metadata"]["id"] for run in runs]


def helicone(request: httpx.Request) -> Ids:
    """https://docs.helicone.ai/getting-started/integration-method/custom."""
    expect(request.headers.get("authorization") == f"Bearer {SETTINGS['HELICONE_API_KEY']}", "the key", 401)
    expect(request.url.path == "/custom/v1/log", "the path", 404)
    log = _json(request)
    asked, told, timing = log["providerRequest"], log["providerResponse"], log["timing"]
    expect(asked["url"] == "custom-model-nopath" and asked["json"]["_type"] == told["json"]["_type"] == "data", "the kind")
    expect(all(isinstance(value, str) for value in asked["meta"].values()), "the meta")
    expect(UUID(asked["meta"]["Helicone-Request-Id"]).version == 5, "the id")
    expect(all(0 <= timing[at]["milliseconds"] < 1000 for at in ("startTime", "endTime")), "the times")
    expect(told["status"] == (200 if told["json"]["status"] == "completed" else 500), "the status")
    return [told["json"]["metadata"]["id"]]


def langfuse(request: httpx.Request) -> Ids:
    """https://langfuse.com/integrations/native/opentelemetry."""
    pair = b64decode(request.headers.get("authorization", "").removeprefix("Basic ")).decode()
    expect(pair == f"{SETTINGS['LANGFUSE_PUBLIC_KEY']}:{SETTINGS['LANGFUSE_SECRET_KEY']}", "the keys", 401)
    expect(request.headers.get("x-langfuse-ingestion-version") == "4", "the version")
    expect(request.url.path == "/api/public/otel/v1/traces", "the path", 404)
    roots = _roots(request)
    for root in roots:
        expect(root["langfuse.observation.type"] == "generation", "the type")
        expect(json.loads(root["langfuse.observation.cost_details"])["total"] >= 0, "the cost")
        expect("seconds" in json.loads(root["langfuse.observation.input"]), "the input")
    return [root["video.id"] for root in roots]


def otel(request: httpx.Request) -> Ids:
    """https://opentelemetry.io/docs/specs/otlp/#otlphttp."""
    expect(
        request.headers.get("x-honeycomb-team") == "the team" and request.headers.get("x-other") == "1=2", "the headers", 401
    )
    expect((request.url.port, request.url.path) == (4318, "/v1/traces"), "the path", 404)
    return [root["video.id"] for root in _roots(request)]


@cache
def _judge() -> OpenAI:
    """One for all: each reads the machine's certificates anew, which takes 20 ms."""
    return OpenAI(api_key="none", webhook_secret=SETTINGS["GENERIC_LOGGER_SECRET"])


def webhook(request: httpx.Request) -> Ids:
    """By Standard Webhooks, with clients that have nothing of ours: theirs and OpenAI's."""
    expect(request.headers.get("authorization") == "Bearer mine", "the header", 401)
    expect(request.url.path == "/videos", "the path", 404)
    _judge().webhooks.verify_signature(request.content.decode(), request.headers)
    Webhook(SETTINGS["GENERIC_LOGGER_SECRET"]).verify(request.content.decode(), dict(request.headers))
    event = _json(request)
    expect(event["type"] == event["data"]["type"] and event["timestamp"] == event["data"]["time"], "the event")
    expect(event["data"]["id"] == request.headers["webhook-id"], "the id")
    return [event["data"]["id"]]


def azure_queue(request: httpx.Request) -> Ids:
    """https://learn.microsoft.com/rest/api/storageservices/put-message: 64 KiB of text."""
    expect(request.headers.get("authorization", "").startswith("SharedKey devstoreaccount1:"), "the signature", 403)
    expect(request.url.path == "/devstoreaccount1/video-events/messages", "the path", 404)
    (text,) = MESSAGE.findall(request.content)
    expect(len(text) <= 64 * 1024, "the size", 413)
    return [_cloud_event(json.loads(b64decode(text)))]


def event_grid(request: httpx.Request) -> Ids:
    """https://learn.microsoft.com/azure/event-grid/cloud-event-schema: a megabyte of events."""
    expect(request.headers.get("authorization") == "Bearer token for https://eventgrid.azure.net/.default", "the token", 401)
    batch = "application/cloudevents-batch+json; charset=utf-8"
    expect(request.headers.get("content-type") == batch, "the content type", 415)
    expect(request.url.path == "/api/events", "the path", 404)
    expect(len(request.content) <= 1024**2, "the size", 413)
    return [_cloud_event(event) for event in json.loads(request.content)]


def _cloud_event(event: dict[str, Any]) -> str:
    """https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#context-attributes."""
    expect(event["specversion"] == "1.0" and event["type"] != "" and event["source"] != "", "what is required")
    expect(datetime.fromisoformat(event["time"]).tzinfo is not None and event["subject"] != "", "what is optional")
    expect(event["data"]["id"] == event["id"] and event["data"]["type"] == event["type"], "the data")
    return str(event["id"])


def _roots(request: httpx.Request) -> list[dict[str, Any]]:
    """The attributes of the spans without parent; the others have to belong to one of them."""
    expect(len(read_json(request.content.decode())) > 0, "what OpenTelemetry's own definitions read")
    (resource,) = _json(request)["resourceSpans"]
    expect("service.name" in _read(resource["resource"]["attributes"]), "the service")
    (scope,) = resource["scopeSpans"]
    ids = {span["spanId"] for span in scope["spans"]}
    roots = {span["spanId"]: span for span in scope["spans"] if span.get("parentSpanId") not in ids}
    for span in scope["spans"]:
        expect(len(bytes.fromhex(span["traceId"])) == 16 and len(bytes.fromhex(span["spanId"])) == 8, "the ids")
        expect(0 < int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]), "the times")
        root = roots.get(span["spanId"]) or roots[span["parentSpanId"]]
        expect(span["traceId"] == root["traceId"], "the parent")
        expect(isinstance(span["kind"], int), "the kind")
    return [{**_read(root["attributes"]), "status": root["status"]["code"]} for root in roots.values()]


def _read(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    """Attributes by name. Every value is an object with the one field that names its type."""
    kinds: Mapping[str, Callable[[Any], Any]] = {
        "stringValue": lambda value: value,
        "intValue": int,
        "doubleValue": float,
        "boolValue": bool,
        "arrayValue": lambda value: [each["stringValue"] for each in value["values"]],
    }
    found = {}
    for attribute in attributes:
        ((kind, value),) = attribute["value"].items()
        found[attribute["key"]] = kinds[kind](value)
    return found


_PROVIDERS: Mapping[str, tuple[str, Callable[[httpx.Request], Ids]]] = {
    "datadog": ("http-intake.logs.datadoghq.com", datadog),
    "datadog_llm_observability": ("api.datadoghq.com", datadog_llm_observability),
    "langsmith": ("api.smith.langchain.com", langsmith),
    "helicone": ("api.worker.helicone.ai", helicone),
    "langfuse": ("cloud.langfuse.com", langfuse),
    "otel": ("collector.example", otel),
    "webhook": ("own.example", webhook),
    "azure_queue": ("127.0.0.1", azure_queue),
    "event_grid": ("videos.westeurope-1.eventgrid.azure.net", event_grid),
}
"""Host and check of each, by name."""


@dataclass
class Receivers:
    """Every provider. `seen` has the ids of the events that each has taken, in order; `refused` why
    it took others not.

    `says` is what a provider answers instead, by name: a status, headers with it, or an exception
    to raise. `rejects` are ids of events that no provider takes.
    """

    seen: dict[str, list[str]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    says: dict[str, int | httpx.Response | Exception] = field(default_factory=dict)
    rejects: set[str] = field(default_factory=set)

    def answer(self, request: httpx.Request) -> httpx.Response | None:
        """What a provider says to a request; None for one that is for nobody here."""
        name = next((name for name, (host, _) in _PROVIDERS.items() if host == request.url.host), None)
        if name is None:
            return None
        self.asked[name] = self.asked.get(name, 0) + 1
        match self.says.get(name):
            case None:
                return httpx.Response(self._take(name, request))
            case int(status):
                return httpx.Response(status)
            case httpx.Response() as said:
                return said
            case error:
                raise error

    def _take(self, name: str, request: httpx.Request) -> int:
        try:
            ids = _PROVIDERS[name][1](request)
            expect(not self.rejects & set(ids), "an event that it does not take")
        except Wrong as wrong:
            self.refused.append(f"{name}: {wrong}")
            return wrong.status
        self.seen.setdefault(name, []).extend(ids)
        self.bodies.append(_read_body(request))
        return 201 if name == "azure_queue" else 202


def _read_body(request: httpx.Request) -> str:
    """A message's text lies in base64 in its body."""
    texts = MESSAGE.findall(request.content)
    return (b64decode(texts[0]) if texts else request.content).decode()


def _json(request: httpx.Request) -> Any:
    expect(request.headers.get("content-type") == "application/json", "the content type", 415)
    return json.loads(request.content)
