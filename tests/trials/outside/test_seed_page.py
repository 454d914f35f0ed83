"""The page that the gateway was asked for by (`seed_page.md`): every block of it runs as it stands.

What is changed are import lines (`video_gateway` for `litellm`), addresses, and the ids of videos
that the page makes up.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import video_gateway

from shared.config.settings import load
from tests.fakes.simulator import picture
from tests.fakes.stack import CHECKOUT, play, simulating

PAGE = Path(__file__).with_name("seed_page.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
KEYS, BASIC, EXPORT, CONFIG, START, CURL, CLIENT, LOGGING, CONTENT, WORKFLOW, REMIX, ERRORS = (text for _, text in BLOCKS)
SPEED = 1000
IMPORTS = {
    "from litellm import": "from video_gateway import",
    "from litellm.exceptions import": "from video_gateway.exceptions import",
    "import litellm\n": "import video_gateway as litellm\n",
}


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The simulated Azure OpenAI, with the key that the page has."""
    with simulating(tmp_path_factory.mktemp("azure"), speed=SPEED, key="your-azure-api-key") as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a gateway with the page's config.yaml, for which any key will do."""
    data = tmp_path_factory.mktemp("page")
    (data / "config.yaml").write_text(CONFIG)
    with started("$ litellm --open\n", data, azurite, GATEWAY_CONFIG=str(data / "config.yaml")) as url:
        yield url


@contextmanager
def started(line: str, data: Path, storage: str, **settings: str) -> Iterator[str]:
    """What a line of the page starts; its address."""
    words = line.removeprefix("$ ").split()
    assert words[0] == "litellm"
    # Quietly: nobody reads on after the address, and a full pipe would hold up the gateway.
    options = ["--quiet", "--port", "0", "--data", str(data), "--speed", str(SPEED)]
    command = [sys.executable, "-m", "local", "run", *words[1:], *options]
    told = {"AzureWebJobsStorage": storage, "PYTHONUNBUFFERED": "1", "TASK_HUB": f"Page{data.name[-1]}"}
    environment = {**os.environ, **told, **settings}
    with subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True) as stack:
        assert stack.stdout is not None
        try:
            yield next(line.split()[1] for line in stack.stdout if line.startswith("  URL"))
        finally:
            stack.send_signal(signal.SIGTERM)
            stack.stdout.read()


@pytest.fixture(params=["straight to Azure", "through the gateway"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The page's functions go where the environment says; the address they are told for Azure."""
    for name in ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_API_BASE"):
        monkeypatch.setenv(name, "")  # so that what a block sets goes with the test
    azure: str = request.getfixturevalue("azure")
    others: set[str] = set()
    if request.param == "through the gateway":
        through(request.getfixturevalue("gateway"), monkeypatch)
        others.update(each.id for each in video_gateway.video_list()["data"])
    real = time.sleep

    def sleep(_: float) -> None:
        """The page's pauses: until everything is made, however fast this machine is. Videos that
        other tests have left on the same storage are nobody's any more.
        """
        while not all(each.ended or each.id in others for each in video_gateway.video_list()["data"]):
            real(0.05)

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.chdir(tmp_path)
    return azure


def through(gateway: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_GATEWAY_URL", gateway)
    monkeypatch.setenv("VIDEO_GATEWAY_KEY", "sk-1234")


def moved(block: str, addresses: dict[str, str]) -> str:
    """A block with other import lines and addresses."""
    for there, here in {**IMPORTS, **addresses}.items():
        block = block.replace(there, here)
    assert "litellm import" not in block
    return block


def run(place: str, *blocks: str, **ids: str) -> dict[str, Any]:
    """Run blocks of the page one after the other, as a reader would; what they define."""
    addresses = {"https://your-resource.openai.azure.com/": f"{place}/", **ids}
    defined: dict[str, Any] = {}
    for block in blocks:
        exec(compile(moved(block, addresses), "seed_page.md", "exec"), defined)
    return defined


def test_the_quick_start(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys, create, poll until it is completed, download, save."""
    defined = run(place, KEYS, BASIC)
    told = capsys.readouterr().out
    assert f"Video ID: {defined['response'].id}\n" in told
    assert told.endswith("Current Status: completed\n")
    assert defined["status_response"].id == defined["response"].id
    film = play(tmp_path / "generated_video.mp4")
    assert (film.size, round(film.seconds)) == ("720x1280", 8)


def test_the_workflow(place: str, tmp_path: Path) -> None:
    """One function from prompt to file, which asks for the bytes without looking first."""
    defined = run(place, KEYS, WORKFLOW)
    assert play(tmp_path / defined["video_file"]).size == "720x1280"


def test_content_and_errors(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A download by a known id; then what is caught, where all is well and where the key is
    wrong.
    """
    made = run(place, KEYS, BASIC)
    run(place, KEYS, BASIC.split("# Generate")[0] + CONTENT, video_1234567890=made["response"].id)
    assert play(tmp_path / "video.mp4").size == "720x1280"
    capsys.readouterr()
    usage = moved(BASIC.split("import os")[0], {})
    run(place, KEYS, usage, ERRORS)
    assert capsys.readouterr().out == ""
    run(place, KEYS.replace("your-azure-api-key", "no-key"), usage, "os.environ.pop('VIDEO_GATEWAY_URL', None)", ERRORS)
    assert capsys.readouterr().out.startswith("Authentication failed: ")


@pytest.mark.filterwarnings("ignore:.*path/to/image.jpg")  # the page leaves it open
def test_the_remix_with_an_image_and_a_length(
    gateway: str, azure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Azure's own remix takes neither, so the gateway makes it anew, and says so."""
    monkeypatch.chdir(tmp_path)
    through(gateway, monkeypatch)
    source = run(azure, "from litellm import video_generation\nsource = video_generation('A cat', seconds='4', wait=True)\n")
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "image.jpg").write_bytes(picture((720, 1280), "JPEG"))
    made = run(azure, "import litellm\n", REMIX, video_456=source["source"].id)["response"]
    assert capsys.readouterr().out == f"Video ID: {made.id}\n"
    assert (made.seconds, made.remixed_from_video_id, made["remix"]) == ("8", source["source"].id, "recreated")


def test_the_proxys_curl_line(gateway: str) -> None:
    """It answers with the video at once."""
    ended = subprocess.run(
        ["bash", "-euc", moved(CURL, {"http://0.0.0.0:4000": gateway})], capture_output=True, text=True, check=True
    )
    assert re.search(r'"id":"video_\w+".*"model":"azure-sora-2","status":"queued"', ended.stdout), ended.stderr


def test_the_official_client_with_any_key_and_no_version_in_its_address(
    gateway: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--open` takes "anything" for the operator's key."""
    made = run("", moved(CLIENT, {"http://0.0.0.0:4000": gateway}))["response"]
    assert (made.model, made.seconds) == ("azure-sora-2", "8")
    assert capsys.readouterr().out.startswith("Video(id='video_")


def test_the_start_from_the_command_line_alone(azurite: str, tmp_path: Path) -> None:
    """One model, no file: it is served under both of its names."""
    (line,) = re.findall(r"^\$ .*$", START, re.MULTILINE)
    with started(line, tmp_path, azurite) as url:
        headers = {"authorization": "Bearer sk-1234"}
        for model in ("azure/sora-2", "sora-2"):
            answer = httpx.post(f"{url}/videos", json={"model": model, "prompt": "A cat"}, headers=headers, trust_env=False)
            assert (answer.status_code, answer.json()["model"]) == (200, "azure-sora-2")
        assert httpx.get(f"{url}/videos", headers={"authorization": "Bearer no"}, trust_env=False).status_code == 401


def test_the_exports_name_what_the_configuration_reads(azure: str, tmp_path: Path) -> None:
    """A shell with the page's exports is all that the page's config.yaml needs."""
    script = moved(EXPORT, {"https://your-resource.openai.azure.com/": azure}) + f"exec {sys.executable} -c '{_READ}'\n"
    (tmp_path / "config.yaml").write_text(CONFIG)
    environment = {**os.environ, "GATEWAY_CONFIG": str(tmp_path / "config.yaml"), "AzureWebJobsStorage": "x"}
    ended = subprocess.run(["bash", "-euc", script], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["azure-sora-2", f"{azure}/openai/v1", "your-azure-api-key"]


_READ = """
from shared.config.settings import load
model = load().catalog.models[0]
print(model.name, model.deployments[0].base_url, model.deployments[0].api_key)
"""


def test_every_model_of_the_page_is_served_by_the_configuration_that_is_deployed() -> None:
    """Under its own name, with prices, on a deployment of its own."""
    catalog = load({"AzureWebJobsStorage": "x", "AZURE_OPENAI_API_BASE": "https://resource.openai.azure.com"}).catalog
    names = re.findall(r"^\| ?(sora[\w-]*) ?\| ?$", PAGE, re.MULTILINE)
    assert len(names) == 3
    for name in names:
        model = catalog.find(name)
        assert [each.model for each in model.deployments] == [name]
        assert all(model.capability.price(8, size) >= 800_000 for size in model.capability.sizes)


def test_the_logging_example_tells_datadog_of_everything(tmp_path: Path) -> None:
    """With the key that the page names."""
    (tmp_path / "config.yaml").write_text(f"{CONFIG}\n{LOGGING}")
    settings = {"AzureWebJobsStorage": "x", "AZURE_OPENAI_API_BASE": "https://a.example", "DATADOG_API_KEY": "d"}
    (sink,) = load({**settings, "GATEWAY_CONFIG": str(tmp_path / "config.yaml")}).sinks
    assert (sink.name, sink.on_success, sink.on_failure, sink.values["DD_API_KEY"]) == ("datadog", True, True, "d")
    assert "'d'" not in repr(sink)


def test_every_block_is_used() -> None:
    """So that one that is added to the page is missed here."""
    assert [language for language, _ in BLOCKS] == (
        ["python", "python", "bash", "yaml", "bash", "shell", "python", "yaml", "python", "python", "python", "python"]
    )
