"""The stand-in for the Functions host, with small apps in it: HTTP, settings, durable functions,
several hosts.
"""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import azure.durable_functions as df
import azure.functions as func
import pytest
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from local.durable import Timing
from local.functions_host.functions import LoadError, load, read
from local.functions_host.host import Host, timing_of
from shared.clock import SystemClock
from shared.routes.web import ROUTE

pytestmark = pytest.mark.anyio

CHECKOUT = Path(__file__).parents[2]


def anonymous() -> func.FunctionApp:
    return func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@asynccontextmanager
async def serving(app: Any, folder: Path, **options: Any) -> AsyncIterator[tuple[aiohttp.ClientSession, Host]]:
    """A host for `app` with an empty route prefix, and a client whose base URL is the host's."""
    settings, clock = options.pop("settings", {}), options.pop("clock", SystemClock())
    if not (folder / "host.json").exists():
        (folder / "host.json").write_text('{"extensions": {"http": {"routePrefix": ""}}}')
    host = Host(read(app, folder, settings), folder / "data", clock, **options)
    async with host, aiohttp.ClientSession(host.url) as client:
        yield client, host


async def test_a_request_reaches_its_function_as_the_host_forwards_it(tmp_path: Path) -> None:
    """Method, query, headers and body as they came; the route's parameters; who asked, in headers
    that a caller cannot set.
    """
    app = anonymous()

    @app.route("v1/things/{thing:int}/{*rest}", methods=["POST"])
    async def create(req: web.Request) -> web.Response:
        told = {
            "method": req.method,
            "query": req.rel_url.raw_query_string,
            "route": req[ROUTE],
            "colours": req.headers.getall("X-Colour"),
            "hosts": [
                req.host,
                req.headers["X-Forwarded-Host"],
                req.headers["X-Forwarded-Proto"],
                req.headers["X-Forwarded-For"],
            ],
            "invocation": req.headers["x-ms-invocation-id"],
            "body": (await req.read()).decode(),
        }
        return web.json_response(told, status=201)

    url = URL("/V1/Things/7/a%2Fb/%41/../%42?a=1&a=2&empty=&b=x%20y", encoded=True)
    headers = [("X-Colour", "red"), ("X-Colour", "blue"), ("X-Forwarded-Host", "evil"), ("x-ms-invocation-id", "1")]
    async with (
        serving(app, tmp_path) as (client, host),
        client.post(url, data=b"body", headers=headers) as answer,
    ):
        told = await answer.json()
    assert (answer.status, answer.headers["Content-Type"]) == (201, "application/json; charset=utf-8")
    assert UUID(told.pop("invocation"))
    assert told == {
        "method": "POST",
        "query": "a=1&a=2&empty=&b=x%20y",
        "route": {"thing": "7", "rest": "a%2Fb/B"},
        "colours": ["red", "blue"],
        "hosts": ["127.0.0.1", host.url.removeprefix("http://"), "http", "127.0.0.1"],
        "body": "body",
    }


async def test_a_response_goes_out_as_the_function_made_it(tmp_path: Path) -> None:
    """Headers that repeat, lengths, and none of what a gRPC answer would have been given."""
    app = anonymous()

    @app.route("film", methods=["GET", "HEAD"])
    def film(req: web.Request) -> web.Response:
        headers = CIMultiDict([("ETag", '"x"'), ("Set-Cookie", "a"), ("Set-Cookie", "b"), ("Content-Type", "video/mp4")])
        return web.Response(body=b"12345", headers=headers)

    async with serving(app, tmp_path) as (client, _):
        async with client.get("/film") as answer:
            assert answer.headers.getall("Content-Type") == ["video/mp4"]
            assert (answer.headers["ETag"], answer.headers["Content-Length"]) == ('"x"', "5")
            assert answer.headers.getall("Set-Cookie") == ["a", "b"]
        async with client.head("/film") as answer:
            assert answer.headers["Content-Length"] == "5"
            assert await answer.read() == b""


async def test_no_route_is_404_without_a_body(tmp_path: Path) -> None:
    """So is a method that no function lists; `/` is the host's home page, unless that is off."""
    app = anonymous()

    @app.route("thing", methods=["GET"])
    def thing(req: web.Request) -> web.Response:
        return web.Response(text="here")

    async with serving(app, tmp_path) as (client, _):
        async with client.get("/thing") as answer:
            assert (answer.status, await answer.text()) == (200, "here")
        for method, path in (("GET", "/nothing"), ("POST", "/thing")):
            async with client.request(method, path) as answer:
                assert (answer.status, await answer.read()) == (404, b"")
        async with client.get("/") as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
    quiet = {"AzureWebJobsDisableHomepage": "true"}
    async with serving(app, tmp_path, settings=quiet) as (client, _), client.get("/") as answer:
        assert answer.status == 204


async def test_a_failure_is_logged_once_and_answered_without_details(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """500 and an empty body: nothing of the exception reaches the client."""
    app = anonymous()

    @app.route("broken", methods=["GET"])
    async def broken(req: web.Request) -> web.Response:
        raise RuntimeError("secret")

    @app.route("odd", methods=["GET"])
    async def odd(req: web.Request) -> Any:
        return {"not": "a response"}

    async with serving(app, tmp_path) as (client, _):
        for path in ("/broken", "/odd"):
            async with client.get(path) as answer:
                assert (answer.status, await answer.read()) == (500, b"")
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert messages == ["function broken failed", "function odd failed"]


async def test_no_more_requests_run_at_once_than_allowed(tmp_path: Path) -> None:
    """The others wait their turn and are answered."""
    app = anonymous()
    running, most = 0, 0

    @app.route("slow", methods=["GET"])
    async def slow(req: web.Request) -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(20):
            await asyncio.sleep(0)
        running -= 1
        return web.Response()

    async with serving(app, tmp_path, http_concurrency=3) as (client, _):
        answers = await asyncio.gather(*(client.get("/slow") for _ in range(12)))
        assert {answer.status for answer in answers} == {200}
    assert most == 3


async def test_a_plain_function_does_not_stall_the_others(tmp_path: Path) -> None:
    """It runs in the thread pool: here it waits for a request that is made while it runs."""
    app = anonymous()
    loop = asyncio.get_running_loop()

    @app.route("sync", methods=["GET"])
    def sync(req: web.Request) -> web.Response:
        async def inner() -> int:
            async with aiohttp.ClientSession() as client, client.get(req.query["other"]) as answer:
                return answer.status

        return web.Response(text=str(asyncio.run_coroutine_threadsafe(inner(), loop).result(10)))

    @app.route("other", methods=["GET"])
    async def other(req: web.Request) -> web.Response:
        return web.Response()

    async with serving(app, tmp_path) as (client, host):
        answer = await client.get("/sync", params={"other": f"{host.url}/other"})
        assert await answer.text() == "200"


async def start(req: web.Request, client: Any) -> web.Response:
    name = req[ROUTE]["name"]
    return web.Response(text=await client.start_new("greet", f"greet-{name}", {"name": name}))


async def status(req: web.Request, client: Any) -> web.Response:
    state = await client.get_status(f"greet-{req[ROUTE]['name']}")
    return web.Response(text=json.dumps([state.runtime_status.value, state.output]))


def greet(context: Any) -> Generator[Any, Any, Any]:
    name = yield context.call_activity("upper", context.get_input()["name"])
    return (yield context.call_activity("salute", {"name": name}))


def upper(name: str) -> str:
    return name.upper()


async def say(who: dict[str, str], client: Any) -> dict[str, Any]:
    own = await client.get_status("greet-ada")
    return {"hello": who["name"], "seen": own.runtime_status.value}


def greeter() -> df.DFApp:
    """An app that greets in an orchestration, with a plain activity and an async one that has a
    name and a client.
    """
    app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)
    client = app.durable_client_input(client_name="client")
    app.route("greet/{name}", methods=["POST"])(client(start))
    app.route("greeted/{name}", methods=["GET"])(client(status))
    app.orchestration_trigger(context_name="context")(greet)
    app.activity_trigger(input_name="name")(upper)
    app.activity_trigger(input_name="who", activity="salute")(client(say))
    return app


GREETED = ["Completed", {"hello": "ADA", "seen": "Running"}]


async def outcome(client: aiohttp.ClientSession, name: str) -> list[Any]:
    """The final status and output of a greeting."""
    async with asyncio.timeout(20):
        while True:
            async with client.get(f"/greeted/{name}") as answer:
                assert answer.status == 200
                status, output = json.loads(await answer.text())
            if status not in ("Pending", "Running"):
                return [status, output]
            await asyncio.sleep(0.02)


async def test_an_orchestration_runs_from_its_start_over_http_to_its_output(tmp_path: Path) -> None:
    """Client bindings, orchestrator, plain and async activities, and an activity's own name work
    together.
    """
    async with serving(greeter(), tmp_path) as (client, _):
        async with client.post("/greet/ada") as answer:
            assert await answer.text() == "greet-ada"
        assert await outcome(client, "ada") == GREETED


async def test_an_orchestration_outlives_its_host(tmp_path: Path) -> None:
    """Started on one host, it is known to the next one on the same data."""
    app = greeter()
    async with serving(app, tmp_path) as (client, _), client.post("/greet/ada") as answer:
        assert answer.status == 200
    async with serving(app, tmp_path) as (client, _):
        assert await outcome(client, "ada") == GREETED


async def test_two_hosts_share_one_data_directory(tmp_path: Path) -> None:
    """What is started on one can be asked of the other."""
    app = greeter()
    async with serving(app, tmp_path) as (one, _), serving(app, tmp_path) as (other, _):
        async with one.post("/greet/ada") as answer:
            assert answer.status == 200
        assert await outcome(other, "ada") == GREETED


class Later(SystemClock):
    """Six minutes ahead: what a host held that was killed just now can be seen again after five."""

    def now(self) -> datetime:
        return super().now() + timedelta(minutes=6)


def accepted_and_killed(folder: Path) -> str:
    """What a host answered right before SIGKILL."""
    program = f"""
import asyncio, pathlib
from tests.standins.test_host import greeter, serving
async def main():
    async with serving(greeter(), pathlib.Path({str(folder)!r})) as (client, _):
        async with client.post("/greet/ada") as answer:
            print(await answer.text(), flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        accepted = host.stdout.readline()
        host.kill()
    return accepted


async def test_a_host_starts_again_after_kill_9_without_help(tmp_path: Path) -> None:
    """An orchestration was accepted; the next host on that directory completes it."""
    assert accepted_and_killed(tmp_path) == "greet-ada\n"
    async with serving(greeter(), tmp_path, clock=Later()) as (client, _):
        status, output = await outcome(client, "ada")
    assert (status, output["hello"]) == ("Completed", "ADA")


def test_the_engine_has_the_times_of_host_json(tmp_path: Path) -> None:
    """What it does not say is the extension's default."""
    given = {"maxQueuePollingInterval": "00:00:02", "workItemQueueVisibilityTimeout": "00:01:30"}
    (tmp_path / "host.json").write_text(json.dumps({"extensions": {"durableTask": {"storageProvider": given}}}))
    timing = timing_of(read(greeter(), tmp_path, {}))
    assert timing == Timing(longest_poll=2, hold_activity=90)
    assert timing.hold_orchestration == 300


async def test_a_port_in_use_is_an_error_and_leaves_nothing_running(tmp_path: Path) -> None:
    """The second host of the same port does not start; the first one goes on."""
    app = greeter()
    async with serving(app, tmp_path) as (client, host):
        port = int(host.url.rpartition(":")[2])
        with pytest.raises(OSError, match="address already in use"):
            await Host(read(app, tmp_path, {}), tmp_path / "data", SystemClock(), port=port).__aenter__()
        async with client.get("/nothing") as answer:
            assert answer.status == 404


def test_an_app_is_loaded_from_its_module_as_often_as_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its functions come in the order of their names, and host.json from the module's folder,
    settings replaced.
    """
    (tmp_path / "small_app.py").write_text(
        "import azure.functions as func\n"
        "app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)\n"
        "@app.route('b', methods=['GET'])\ndef beta(req): ...\n"
        "@app.route('a', methods=['GET'])\ndef Alpha(req): ...\n"
    )
    (tmp_path / "host.json").write_text('{"extensions": {"durableTask": {"hubName": "%TASK_HUB%"}}}')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TASK_HUB", "FromEnvironment")
    once, again = load("small_app"), load("small_app", {"TASK_HUB": "Given"})
    assert [function.name for function in once.members] == ["Alpha", "beta"]
    assert once.extension("durableTask")["hubName"] == "FromEnvironment"
    assert again.extension("durableTask")["hubName"] == "Given"
    with pytest.raises(LoadError, match=r"app setting TASK_HUB is missing: host\.json needs it"):
        load("small_app", {})


def test_what_the_host_cannot_serve_is_refused_by_name(tmp_path: Path) -> None:
    """A binding this stand-in lacks, and a binding name that Azure would refuse, are errors at
    load.
    """
    blobs, underscored = anonymous(), anonymous()

    @blobs.blob_trigger(arg_name="blob", path="in/{name}", connection="Storage")
    def arrived(blob: func.InputStream) -> None: ...

    @underscored.queue_trigger(arg_name="video_id", queue_name="q", connection="Storage")
    def check(video_id: func.QueueMessage) -> None: ...

    with pytest.raises(LoadError, match="function arrived: the local host has no blobTrigger binding"):
        read(blobs, tmp_path, {})
    with pytest.raises(LoadError, match="function check: binding name 'video_id' may have only letters"):
        read(underscored, tmp_path, {})


async def test_an_error_of_the_block_comes_out_as_it_is(tmp_path: Path) -> None:
    """Not in a group: nothing of the host's has failed."""
    with pytest.raises(LookupError, match="mine"):
        async with serving(anonymous(), tmp_path):
            raise LookupError("mine")
