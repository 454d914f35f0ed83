"""What a case may do with an engine, through the SDK's client and past it."""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

import aiohttp
import azure.durable_functions as df

from tests.trials.engine.engines import Engine

FINAL = ("Completed", "Failed", "Terminated")
_LOOK_AGAIN = 0.1
_PATIENCE = 75.0  # seconds for a case, on a machine with much else to do


@dataclass(frozen=True)
class Client:
    """`call` speaks HTTP to the endpoints that the SDK uses."""

    durable: Any
    base: str
    http: aiohttp.ClientSession

    @classmethod
    def of(cls, engine: Engine, http: aiohttp.ClientSession) -> "Client":
        return cls(df.DurableOrchestrationClient(engine.binding), json.loads(engine.binding)["rpcBaseUrl"], http)

    async def start(self, flow: str, given: Any = None, instance: str | None = None) -> str:
        return str(await self.durable.start_new(flow, instance, given))

    async def begun(self, flow: str, given: Any = None, instance: str | None = None) -> str:
        """Start one and wait until its first episode is over."""
        started = await self.start(flow, given, instance)
        await self.until(started, "Running", *FINAL)
        return started

    async def tell(self, instance: str, name: str, data: Any = None) -> None:
        await self.durable.raise_event(instance, name, data)

    async def end(self, instance: str) -> Any:
        """The status and the output of an instance that has ended."""
        status = await self.until(instance, *FINAL)
        return [status["runtimeStatus"], shape(status["output"])]

    async def until(self, instance: str, *wanted: str) -> dict[str, Any]:
        """The status body, once it is one of these."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                async with self.http.get(f"{self.base}instances/{instance}") as answer:
                    status = json.loads(await answer.text() or "{}")
                if status.get("runtimeStatus") in wanted:
                    return dict(status)
                await asyncio.sleep(_LOOK_AGAIN)

    async def call(self, method: str, path: str, body: str | None = None) -> Any:
        """The status of an answer, and its body without what differs from call to call."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        async with self.http.request(method, f"{self.base}{path}", data=body, headers=headers) as answer:
            text = await answer.text()
        return [answer.status, shape(json.loads(text)) if text else ""]


def shape(value: Any) -> Any:
    """A JSON value with placeholders for ids, times and addresses; times keep their form."""
    if isinstance(value, dict):
        return {key: "…" if key in ("StackTrace", "ExceptionType") else shape(each) for key, each in sorted(value.items())}
    if isinstance(value, list):
        return [shape(each) for each in value]
    if not isinstance(value, str):
        return value
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", lambda found: re.sub(r"\d", "9", found.group()), value)
    text = re.sub(r"\.9+Z", ".9Z", text)
    text = re.sub(r"https?://[^/]+/", "http://HOST/", text)
    text = re.sub(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
    text = re.sub(r'\{"\$type".*', "{…}", text)  # an exception of .NET's with its stack
    text = re.sub(r"(StackTrace: ).*", r"\1…", text, flags=re.DOTALL)
    text = re.sub(r"(functions: ).*", r"\1…", text)
    return text.replace("connection=AzureWebJobsStorage", "connection=Storage")
