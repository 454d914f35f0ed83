"""Microsoft's Python worker, as a library, with the app in it, and before it what the host does.

`python -m tests.fakes.worker` prints `{"url": …}` and serves until it is killed. The worker loads
`function_app` with the settings of its environment and starts the app's web server, as in Azure.
Each request is routed by the functions that the worker told of, announced to the worker as an
invocation, and forwarded to its server. `WORKER_DURABLE` is the value of the durable client's
binding.

Functions with other triggers are run by `POST /admin/functions/<name>`, as at the host: the body is
the trigger's data, the query its metadata, and the answer has what the function put out.
"""

import asyncio
import base64
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import aiohttp
from aiohttp import web

from infra.tools.worker_index import protos
from local.functions_host.functions import Binding, Function, Functions
from local.functions_host.routing import Match, Router
from local.functions_host.wire import answering, forwarded, listen, refusal
from shared.routes.web import SERVER_OPTIONS

_CHECKOUT = Path(__file__).parents[2]
_ADMIN = "/admin/functions/"
_OF_ONE_HOP = {"connection", "transfer-encoding", "keep-alive", "date"}


def text(value: str) -> SimpleNamespace:
    """The message for a string in a binding."""
    return SimpleNamespace(WhichOneof=lambda _: "string", string=value)


def data(value: bytes) -> SimpleNamespace:
    """The message for bytes, such as those of a blob."""
    return SimpleNamespace(WhichOneof=lambda _: "bytes", bytes=value)


def http(request: web.Request, match: Match) -> SimpleNamespace:
    """The message for an HTTP trigger whose request is forwarded: the route's parameters count."""
    rpc = SimpleNamespace(
        method=request.method, url=str(request.url), headers={}, body=text(""), params=match.parameters, query={}
    )
    return SimpleNamespace(WhichOneof=lambda _: "http", http=rpc)


class Worker:
    """Microsoft's library after its start. `server` is the address of the app's web server."""

    def __init__(self, library: Any, server: str, metadata: list[Any]) -> None:
        self.server = server
        self._library = library
        self._ids = {each.name: each.function_id for each in metadata}
        self.functions = Functions(tuple(_function(each) for each in metadata), {}, _host_json())

    @classmethod
    async def start(cls, folder: str) -> "Worker":
        """Raises RuntimeError where the library refuses the app."""
        library: Any = importlib.import_module("azure_functions_runtime")
        library.start_threadpool_executor()
        properties = {"host": "127.0.0.1", "protos": protos()}
        begin = SimpleNamespace(capabilities={}, function_app_directory=folder)
        request = SimpleNamespace(worker_init_request=begin, functions_metadata_request=begin)
        started = await library.worker_init_request(SimpleNamespace(request=request, properties=properties))
        if started.result.status != 1:
            raise RuntimeError(vars(started.result.exception))
        told = await library.functions_metadata_request(SimpleNamespace(request=request, properties=properties))
        return cls(library, started.capabilities.get("HttpUri", ""), told.function_metadata_results)

    async def invoke(
        self, function: Function, invocation: str, trigger: SimpleNamespace, metadata: Mapping[str, str] | None = None
    ) -> SimpleNamespace:
        """Run a function as the host asks for it; the worker's answer."""
        bindings = {function.trigger.name: trigger}
        bindings |= {each.name: text(os.environ["WORKER_DURABLE"]) for each in function.others if each.kind == "durableClient"}
        given = [SimpleNamespace(name=name, data=data, WhichOneof=lambda _: "data") for name, data in bindings.items()]
        asked = SimpleNamespace(
            invocation_id=invocation,
            function_id=self._ids[function.name],
            input_data=given,
            trigger_metadata={name: text(value) for name, value in (metadata or {}).items()},
            trace_context=SimpleNamespace(trace_parent="", trace_state="", attributes={}),
            retry_context=SimpleNamespace(retry_count=0, max_retry_count=0, exception=None),
        )
        request = SimpleNamespace(request=SimpleNamespace(invocation_request=asked), properties={})
        answer: SimpleNamespace = await self._library.invocation_request(request)
        return answer

    async def run(self, name: str, trigger: bytes, metadata: Mapping[str, str]) -> dict[str, Any]:
        """Run a function that is not triggered by HTTP: its `outputs` by name and what it
        `returned`, as texts. Raises RuntimeError where it failed.
        """
        function = next(each for each in self.functions.members if each.name == name)
        given = data(trigger) if function.trigger.kind == "blobTrigger" else text(trigger.decode())
        answer = await self.invoke(function, str(uuid4()), given, metadata)
        if answer.result.status != 1:
            raise RuntimeError(vars(answer.result.exception))
        outputs = {each.name: _text_of(each.data) for each in answer.output_data}
        return {"outputs": outputs, "returned": _text_of(answer.return_value)}


def _text_of(message: Any) -> str | None:
    """A value that a function gives, of whatever type; bytes in base64."""
    values = vars(message) if message is not None else {}
    value = next(iter(values.values()), None)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _host_json() -> Any:
    with open("host.json") as file:  # noqa: PTH123
        return json.load(file)


def _function(metadata: Any) -> Function:
    declared = [json.loads(each) for each in metadata.raw_bindings]
    bindings = [Binding(each["type"], each["name"], each) for each in declared]
    trigger = next(each for each in bindings if each.kind.endswith("Trigger"))
    return Function(metadata.name, print, trigger, tuple(each for each in bindings if each is not trigger))


class Front:
    """What the host does with a request: refuse it, or route it, invoke and forward."""

    def __init__(self, worker: Worker, session: aiohttp.ClientSession) -> None:
        self._worker, self._session = worker, session
        self._router = Router(worker.functions)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path.startswith(_ADMIN):
            name = request.path.removeprefix(_ADMIN)
            try:
                return web.json_response(await self._worker.run(name, await request.read(), request.query))
            except RuntimeError as error:
                return web.Response(status=500, text=str(error))
        refused = refusal(request)
        match = self._router.find(request.method, request.rel_url.raw_path)
        if refused or match is None:
            return web.Response(status=refused or 404)
        given = forwarded(request)
        invocation = given.headers["x-ms-invocation-id"]
        ran = asyncio.create_task(self._worker.invoke(match.function, invocation, http(request, match)))
        try:
            return await self._forward(request, given)
        finally:
            await ran

    async def _forward(self, request: web.Request, given: web.Request) -> web.StreamResponse:
        headers = [(name, value) for name, value in given.headers.items() if name.lower() not in _OF_ONE_HOP]
        body = request.content if request.can_read_body else None
        async with self._session.request(
            request.method, f"{self._worker.server}{request.raw_path}", headers=headers, data=body, allow_redirects=False
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OF_ONE_HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            try:
                async for piece in answer.content.iter_any():
                    await response.write(piece)
            except aiohttp.ClientPayloadError as error:
                raise ConnectionResetError("the worker's answer ended early") from error
            await response.write_eof()
            return response


@contextmanager
def working(folder: Path, log: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """A worker of its own process with the app of this folder; the address of the host before it.
    What it says is in the file `log`.
    """
    told = {**os.environ, **environment, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(_CHECKOUT)}
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.worker"], cwd=folder, env=told, stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        try:
            yield json.loads(line)["url"]
        finally:
            process.kill()


async def main() -> None:
    """Serve until killed."""
    worker = await Worker.start(os.getcwd())  # noqa: PTH109
    # The host speaks plain HTTP to its worker, and changes neither headers nor bodies.
    options: dict[str, Any] = {"auto_decompress": False, "skip_auto_headers": ("Accept", "Accept-Encoding", "User-Agent")}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), **options) as session:
        runner = web.AppRunner(answering(Front(worker, session).handle), **SERVER_OPTIONS)
        await runner.setup()
        listener = await listen(runner, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        print(json.dumps({"url": url}), flush=True)  # noqa: T201 - whoever started it reads this
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
