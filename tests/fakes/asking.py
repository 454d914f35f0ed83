"""Requests without a server: what a caller sends, as handlers get it, and what the caller reads."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.gateway import Gateway
from shared.routes.calls import Handler, Request, pieces, respond


@dataclass(frozen=True)
class Reply:
    """What a caller gets."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's code."""
        return str(self.json["error"]["code"])


def request(
    method: str = "GET",
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    **parts: str,
) -> Request:
    """A request whose body comes in one piece; `parts` are the route's parameters."""
    lower = {name.lower(): value for name, value in (headers or {}).items()}
    return Request(method, lower, query or {}, parts, pieces(body), "https://gateway.example")


async def ask(asked: Request, handler: Handler, gateway: Gateway | None = None) -> Reply:
    """What the handler's caller gets, when all of it has come."""
    reply = await respond(asked, handler, gateway=gateway)
    body = reply.body if isinstance(reply.body, bytes) else b"".join([piece async for piece in reply.body])
    return Reply(reply.status, dict(reply.headers), body)
