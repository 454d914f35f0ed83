"""Receivers of our own in the place of logging providers: each refuses what its provider's
documents do not allow, and notes what it took.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

# What each provider's account is reached with.
SETTINGS: Mapping[str, str] = {"DD_API_KEY": "the-datadog-key"}

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


_PROVIDERS: Mapping[str, tuple[str, Callable[[httpx.Request], Ids]]] = {
    "datadog": ("http-intake.logs.datadoghq.com", datadog),
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
        self.bodies.append(request.content.decode())
        return 202


def _json(request: httpx.Request) -> Any:
    expect(request.headers.get("content-type") == "application/json", "the content type", 415)
    return json.loads(request.content)
