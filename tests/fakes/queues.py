"""The account's queues, as the gateway's HTTP client meets them."""

import json
from base64 import b64decode
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.fakes.receivers import MESSAGE


@dataclass
class FakeQueues:
    """What was put, as (queue, message, seconds until it is seen). `status` is the answer."""

    put: list[tuple[str, bytes, int]] = field(default_factory=list)
    status: int = 201

    def answer(self, request: httpx.Request) -> httpx.Response | None:
        """For `ScriptedUpstream.before`."""
        if not request.url.path.endswith("/messages"):
            return None
        if self.status == 201:
            (text,) = MESSAGE.findall(request.content)
            queue = request.url.path.split("/")[-2]
            self.put.append((queue, b64decode(text), int(request.url.params["visibilitytimeout"])))
        return httpx.Response(self.status)

    def of(self, queue: str) -> list[Any]:
        """The messages of a queue, from JSON."""
        return [json.loads(text) for name, text, _ in self.put if name == queue]
