"""The local command: what it understands, what it tells the app, and what the demo shows of the
public API.
"""

import asyncio
import io
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console

from local import configure
from local.__main__ import main, parse, until_told_to_stop
from local.demo import Demo
from local.simulator import film
from local.stack import Options, Stack, StackError, greeting, require_free
from shared.config import settings
from shared.config.catalog import KNOWN_MODELS, Model
from shared.errors import ConfigurationError
from tests.trials.import_time import shares

pytestmark = pytest.mark.anyio

CHECKOUT = Path(__file__).parents[2]


def derived(text: str, **options: Any) -> dict[str, Any]:
    return configure.derive(yaml.safe_load(text), **options)


def test_the_gateway_polls_as_much_faster_as_the_simulator_works() -> None:
    """Five seconds at the usual speed, a tenth of that at speed 10."""
    assert derived("model_list: []", speed=10)["gateway"] == {"poll_seconds": 0.5}
    assert derived("gateway: {poll_seconds: 8, log_prompts: false}", speed=2)["gateway"] == {
        "poll_seconds": 4,
        "log_prompts": False,
    }


def test_polling_has_a_shortest_interval() -> None:
    """However fast the simulator is, 0.2 s lie between two looks."""
    assert derived("{}", speed=1000)["gateway"]["poll_seconds"] == 0.2


@pytest.mark.parametrize("name", ["params", "litellm_params"])
def test_creates_per_minute_grow_with_the_speed(name: str) -> None:
    """The simulator's minute is shorter by the same factor; either name of the parameters is
    understood.
    """
    config = derived(f"model_list: [{{model_name: a, {name}: {{model: azure/sora-2}}}}]", speed=10)
    assert config["model_list"][0][name] == {"model": "azure/sora-2", "creates_per_minute": 20}
    config = derived(f"model_list: [{{model_name: a, {name}: {{creates_per_minute: 5}}}}]", speed=3)
    assert config["model_list"][0][name]["creates_per_minute"] == 15


def test_a_named_model_is_the_only_one() -> None:
    """--model replaces the list, with the upstream the stack started or was given."""
    config = derived("model_list: [{model_name: other}]", model="azure/sora-2-pro", speed=1)
    assert config["model_list"] == [
        {
            "model_name": "azure-sora-2-pro",
            "params": {"model": "azure/sora-2-pro", "creates_per_minute": 2},
        }
    ]


@pytest.mark.parametrize(
    "text",
    [
        "gateway: fast",
        "gateway: {poll_seconds: often}",
        "model_list: everything",
        "model_list: [sora-2]",
        "model_list: [{params: azure/sora-2}]",
        "model_list: [{params: {creates_per_minute: many}}]",
    ],
)
def test_what_makes_no_sense_is_left_for_the_app_to_complain_about(text: str) -> None:
    """Deriving never guesses, and never hides a mistake in the file."""
    config = derived(text, speed=10)
    for key, value in yaml.safe_load(text).items():
        assert config[key] == value


def test_the_app_reads_what_was_derived_from_the_projects_own_configuration(tmp_path: Path) -> None:
    """config.yaml, hurried for a simulator, is a configuration the app accepts, with the local
    defaults.
    """
    given = {
        "AzureWebJobsStorage": "UseDevelopmentStorage=true",
        "AZURE_OPENAI_API_BASE": "http://127.0.0.1:1",
        "AZURE_OPENAI_API_KEY": "simulated",
    }
    told = settings.load(configure.app_settings(given, configure.read(given), tmp_path, speed=10, model=None))
    assert told.master_key == "sk-1234"
    assert told.knobs.poll_seconds == 0.5
    assert told.catalog.models[0].name == "azure-sora-2"
    assert told.catalog.models[0].deployments[0].creates_per_minute == 20


def test_settings_that_are_given_win_over_the_local_defaults(tmp_path: Path) -> None:
    """A master key in the environment stays; one that is set to nothing counts as not given."""
    given = {"GATEWAY_MASTER_KEY": "mine", "TASK_HUB": ""}
    told = configure.app_settings(given, configure.read(given), tmp_path, speed=1, model=None)
    assert told["GATEWAY_MASTER_KEY"] == "mine"
    assert told["TASK_HUB"] == "VideoGateway"


def test_a_configuration_file_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    """GATEWAY_CONFIG names the file to derive from; the message says what is wrong with it."""
    broken = tmp_path / "broken.yaml"
    for content, complaint in [
        (None, "does not exist"),
        ("a: [", "broken.yaml, line 1 is not valid YAML"),
        ("- a", "a mapping"),
    ]:
        if content is not None:
            broken.write_text(content)
        with pytest.raises(ConfigurationError, match=complaint):
            configure.read({"GATEWAY_CONFIG": str(broken)})


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--port", "http"], "'http' is not a port"),
        (["--port", "65536"], "'65536' is not a port"),
        (["run", "--speed", "0"], "'0' is not a number above 0"),
        (["run", "--speed", "fast"], "'fast' is not a number above 0"),
        (["demo", "--speed", "nan"], "'nan' is not a number above 0"),
        (["run", "--upstream", "sora"], "invalid choice: 'sora'"),
        (["demo", "--model", "sora-2"], "'sora-2' does not begin with one of azure/, openai/"),
        (["dance"], "invalid choice: 'dance'"),
    ],
)
def test_arguments_that_make_no_sense_are_explained(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message quotes what was given, and the exit code is that of a wrong usage."""
    with pytest.raises(SystemExit) as stopped:
        parse(arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


def test_the_demo_keeps_its_data_where_the_gateway_does_and_takes_a_free_port() -> None:
    """Its video is in the list of the gateway that is served next."""
    demo = getattr(parse(["demo", "--seconds", "8"]).run, "__self__", None)
    assert demo == Demo(Options(port=0, data=Path(".local"), quiet=True), seconds="8")


def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names --port, the exit code is 1, and no data directory has been made."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port), "--data", str(tmp_path / "data")]) == 1
    assert f"Port {port} cannot be used" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    require_free(port)


def test_it_serves_until_told_to_stop(azurite: str, tmp_path: Path) -> None:
    """Given storage and an upstream it starts neither, answers on the port it names, and SIGTERM
    ends it with code 0.
    """
    given = {"AzureWebJobsStorage": azurite, "AZURE_OPENAI_API_BASE": "http://127.0.0.1:1", "TASK_HUB": "StackTest"}
    with subprocess.Popen(
        [sys.executable, "-m", "local", "--port", "0", "--data", str(tmp_path)],
        cwd=CHECKOUT,
        env={**os.environ, **given, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as stack:
        assert stack.stdout is not None
        url = next(line.split()[1] for line in stack.stdout if line.startswith("  URL"))
        answer = httpx.get(f"{url}/v1/models", headers={"Authorization": "Bearer sk-1234"}, trust_env=False)
        stack.terminate()
        assert stack.wait(timeout=30) == 0
        told = stack.stdout.read()
    assert re.search(r"^GET /v1/models 200 \d+ ms$", told, re.MULTILINE)
    assert answer.json()["data"][0]["id"] == "azure-sora-2"
    assert not (tmp_path / "azurite").exists()
    assert not (tmp_path / "simulator").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_lets_the_command_clean_up(number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end the command where it waits, and what it started is stopped."""
    told: list[str] = []

    async def command() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            told.append("stopped")

    assert await until_told_to_stop(command) is False
    assert told == ["stopped"]


def test_a_demo_that_was_stopped_has_not_succeeded() -> None:
    """Serving is meant to be stopped; a demo without its video is a failure to whoever reads the
    exit code.
    """
    assert parse(["run"]).stopped == 0
    assert parse(["demo"]).stopped == 130


def test_a_newcomer_is_told_address_key_and_a_line_to_paste() -> None:
    """The curl line creates a video with values the model accepts."""
    model = Model("azure-sora-2", KNOWN_MODELS["sora-2"], ())
    text = greeting(Stack("http://localhost:4000", "sk-1234", model, Path(".local"), "a simulated Azure OpenAI"))
    assert "curl http://localhost:4000/v1/videos" in text
    assert '"Authorization: Bearer sk-1234"' in text
    assert '"model": "azure-sora-2"' in text
    assert '"size": "720x1280"' in text
    assert ".local" in text
    assert text.index("/v1/videos \\") < text.index("/v1/videos/VIDEO_ID\n") < text.index("/v1/videos/VIDEO_ID/content")


def test_open_keys_are_announced_before_all_else() -> None:
    """Nobody starts it so by mistake and does not see it."""
    model = Model("azure-sora-2", KNOWN_MODELS["sora-2"], ())
    text = greeting(Stack("http://localhost:4000", "sk-1234", model, Path(".local"), "upstream", open=True))
    assert text.startswith("*** OPEN: ANY KEY IS THE OPERATOR'S.")


def test_a_master_key_of_ones_own_is_not_printed() -> None:
    """The curl line reads it from the environment instead."""
    model = Model("azure-sora-2", KNOWN_MODELS["sora-2"], ())
    text = greeting(Stack("http://localhost:4000", "sk-secret", model, Path(".local"), "upstream"))
    assert "sk-secret" not in text
    assert '"Authorization: Bearer $GATEWAY_MASTER_KEY"' in text


def test_import_time_is_added_up_by_package() -> None:
    """Own times, not cumulative ones; the parts of the `azure` namespace are told apart."""
    report = """\
import time: self [us] | cumulative | imported package
import time:       100 |        100 |     azure.functions.http
import time:        50 |        150 |   azure.functions
import time:        30 |         30 |   azure.core
import time:        20 |        200 | shared.settings
"""
    assert shares(report) == {"azure.functions": 150, "azure.core": 30, "shared": 20}


class ScriptedGateway:
    """Speaks as much of the gateway's public API as the demo uses; `states` are told one at each
    look.
    """

    def __init__(self, states: list[dict[str, Any]], content: bytes = b"", refusal: int | None = None) -> None:
        self._states = states
        self._content = content
        self._refusal = refusal
        self.keys_seen_by_storage: list[str | None] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/videos", self._create)
        app.router.add_get("/v1/videos/video_1", self._status)
        app.router.add_get("/v1/videos/video_1/content", self._redirect)
        return app

    def storage(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/signed", self._serve)
        return app

    storage_url = ""

    async def _create(self, request: web.Request) -> web.Response:
        if self._refusal:
            error = {"message": "That prompt is too long.", "type": "invalid_request_error", "param": "prompt", "code": None}
            return web.json_response({"error": error}, status=self._refusal)
        return web.json_response(
            self._video({"status": "queued"}), headers={"x-response-cost": "0.4", "openai-poll-after-ms": "1"}
        )

    async def _status(self, request: web.Request) -> web.Response:
        headers = {"openai-poll-after-ms": "1"}
        return web.json_response(self._video(self._states.pop(0)), headers=headers)

    async def _redirect(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": f"{self.storage_url}/signed"})

    async def _serve(self, request: web.Request) -> web.Response:
        self.keys_seen_by_storage.append(request.headers.get("Authorization"))
        return web.Response(body=self._content, content_type="video/mp4")

    def _video(self, state: dict[str, Any]) -> dict[str, Any]:
        return {"id": "video_1", "progress": 0, "seconds": "1", "size": "128x72", "error": None} | state


async def make(gateway: ScriptedGateway, out: Path) -> tuple[str, bytes]:
    """What the demo prints of the video it makes, and what it saves."""
    async with TestServer(gateway.storage()) as storage, TestServer(gateway.app()) as server:
        gateway.storage_url = str(storage.make_url("/")).rstrip("/")
        url = str(server.make_url("/")).rstrip("/")
        printed = io.StringIO()
        path = await Demo(Options(), seconds="1", out=out).make(url, "sk-1234", Console(file=printed, width=200))
        assert path == out / "video_1.mp4"
        return printed.getvalue(), path.read_bytes()


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """One second of 128x72."""
    folder = tmp_path_factory.mktemp("film")
    film.shoot(film.Scene("a cat", (128, 72), 1), folder)
    return (folder / film.VIDEO).read_bytes()


async def test_the_demo_saves_and_describes_the_video(tmp_path: Path, mp4: bytes) -> None:
    """It waits, follows the redirect without its key, saves under the id, and prints what a person
    asked about.
    """
    gateway = ScriptedGateway([{"status": "in_progress", "progress": 40}, {"status": "completed", "progress": 100}], mp4)
    shown, saved = await make(gateway, tmp_path / "out")
    assert saved == mp4
    assert gateway.keys_seen_by_storage == [None]
    for part in ("video_1", str(tmp_path / "out" / "video_1.mp4"), "1.0 s", "128x72", "$0.40"):
        assert part in shown


@pytest.mark.parametrize(
    ("gateway", "complaint"),
    [
        (ScriptedGateway([], refusal=400), "^That prompt is too long.$"),
        (
            ScriptedGateway([{"status": "failed", "error": {"code": "x", "message": "It was moderated."}}]),
            "^video_1 failed: It was moderated.$",
        ),
        (ScriptedGateway([{"status": "completed"}], b"<html>"), "does not play"),
    ],
)
async def test_the_demo_fails_with_the_gateways_words(tmp_path: Path, gateway: ScriptedGateway, complaint: str) -> None:
    """A refusal, a failed video and a file that does not play each end it with the reason."""
    with pytest.raises(StackError, match=complaint):
        await make(gateway, tmp_path)


async def test_a_video_of_another_length_is_noticed(tmp_path: Path, mp4: bytes) -> None:
    """The file is measured, not believed."""
    gateway = ScriptedGateway([{"status": "completed", "seconds": "4"}], mp4)
    with pytest.raises(StackError, match=r"Asked for 128x72, 4 s; .* is 128x72, 1\.0 s"):
        await make(gateway, tmp_path)
