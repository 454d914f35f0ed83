"""Every client and every operation of it, against a running gateway: the table of docs/clients.md.

A row that is missing or wrong is printed as it has to be.
"""

import asyncio
import inspect
import json
import re
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.fakes.simulator import picture
from tests.fakes.stack import CHECKOUT, Served, serving

PAGE = (CHECKOUT / "docs" / "clients.md").read_text()
NODE = CHECKOUT / "node_modules" / "openai"

Outcomes = Mapping[str, str]


@pytest.fixture(scope="module")
def served(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(azurite, tmp_path_factory.mktemp("clients")) as gateway:
        yield gateway


def rows(client: str) -> dict[str, str]:
    """What the page says of a client: operation → outcome."""
    found = re.findall(rf"^\| {re.escape(client)} \| `([^|]*)` \| ([^|]*) \|$", PAGE, re.MULTILINE)
    return dict(found)


def expect(client: str, outcomes: Outcomes) -> None:
    told = "\n".join(f"| {client} | `{operation}` | {outcome} |" for operation, outcome in outcomes.items())
    assert rows(client) == outcomes, f"docs/clients.md has to say:\n{told}"


async def outcomes_of(videos: Any, model: str) -> dict[str, str]:
    """How every method of the official Python client ends, synchronous or not."""
    asked = {"prompt": f"A cat, for {type(videos).__name__}", "model": model, "seconds": "4", "size": "720x1280"}
    image = ("cat.png", picture((720, 1280)), "image/png")
    film = ("mia.mp4", b"x", "video/mp4")  # this client sends no id of a video here, only a file
    found: dict[str, str] = {}

    async def step(name: str, call: Callable[[], Any]) -> Any:
        try:
            result = call()
            result = await result if inspect.isawaitable(result) else result
        except openai.APIStatusError as error:
            found[name] = f"{error.status_code} `{error.code}`"
            return None
        found[name] = "works"
        return result

    made = await step("create", lambda: videos.create(**asked))
    await step("create with an image", lambda: videos.create(**asked, input_reference=image))
    await step("retrieve", lambda: videos.retrieve(made.id))
    await step("poll", lambda: videos.poll(made.id))
    await step("list", lambda: videos.list(limit=1))
    content = await step("download_content", lambda: videos.download_content(made.id))
    assert content.content[4:8] == b"ftyp"
    await step("remix", lambda: videos.remix(made.id, prompt="A dog"))
    await step("edit", lambda: videos.edit(prompt="A dog", video=film))
    await step("extend", lambda: videos.extend(prompt="A dog", seconds="8", video=film))
    await step("create_character", lambda: videos.create_character(name="Mia", video=film))
    await step("get_character", lambda: videos.get_character("char_1"))
    await step("delete", lambda: videos.delete(made.id))
    return found


CLIENTS: Mapping[str, Callable[[str, str], Any]] = {
    "`openai` (Python)": lambda url, key: openai.OpenAI(base_url=f"{url}/v1", api_key=key),
    "`openai` (Python, async)": lambda url, key: openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key),
    "`AzureOpenAI` (Python)": lambda url, key: openai.AzureOpenAI(azure_endpoint=url, api_key=key, api_version="preview"),
    "`AzureOpenAI` (Python, async)": lambda url, key: openai.AsyncAzureOpenAI(
        azure_endpoint=url, api_key=key, api_version="preview"
    ),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_the_official_clients_for_python(name: str, served: Served) -> None:
    """Every method that they have."""

    async def story() -> dict[str, str]:
        client = CLIENTS[name](served.url, served.new_key())
        try:
            return await outcomes_of(client.videos, served.model)
        finally:
            closed: Awaitable[None] | None = client.close()
            if closed is not None:
                await closed

    expect(name, asyncio.run(story()))


@pytest.mark.skipif(not NODE.exists(), reason="`make setup` installs the client for Node")
@pytest.mark.parametrize(("name", "kind"), [("`openai` (Node)", "openai"), ("`AzureOpenAI` (Node)", "azure")])
def test_the_official_clients_for_node(name: str, kind: str, served: Served, tmp_path: Path) -> None:
    """The same methods."""
    (tmp_path / "cat.png").write_bytes(picture((720, 1280)))
    script = Path(__file__).with_name("clients.mjs")
    command = ["node", str(script), kind, served.url, served.new_key(), served.model, str(tmp_path / "cat.png")]
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    expect(name, json.loads(ended.stdout))


CURL: Mapping[str, str] = {
    "create": '$api -H \'Content-Type: application/json\' -d \'{"prompt": "A cat", "model": "$model"}\'',
    "create with an image": "$api -F 'prompt=A cat' -F 'model=$model' -F 'size=720x1280' -F input_reference=@cat.png",
    "retrieve": "$api/$id",
    "list": "'$api?limit=1'",
    "download_content": "-L $api/$id/content",
    "remix": "$api/$id/remix -H 'Content-Type: application/json' -d '{\"prompt\": \"A dog\"}'",
    "edit": "$api/edits -H 'Content-Type: application/json' -d '{\"prompt\": \"A dog\"}'",
    "extend": "$api/extensions -H 'Content-Type: application/json' -d '{\"prompt\": \"A dog\"}'",
    "create_character": "$api/characters -F name=Mia -F video=@cat.png",
    "get_character": "$api/characters/char_1",
    "delete": "-X DELETE $api/$id",
}


def test_curl(served: Served, tmp_path: Path) -> None:
    """The lines that people paste."""
    (tmp_path / "cat.png").write_bytes(picture((720, 1280)))
    key, made, found = served.new_key(), "", {}
    for operation, line in CURL.items():
        told = line.replace("$api", f"{served.url}/v1/videos").replace("$id", made).replace("$model", served.model)
        command = f"curl -sS -H 'Authorization: Bearer {key}' -o answer -w '%{{http_code}}' {told}"
        ended = subprocess.run(["bash", "-euc", command], cwd=tmp_path, capture_output=True, text=True, check=True)
        answer = (tmp_path / "answer").read_bytes()
        found[operation] = "works" if ended.stdout == "200" else f"{ended.stdout} `{json.loads(answer)['error']['code']}`"
        if operation == "create":
            made = json.loads(answer)["id"]
            _wait(served, key, made)
    expect("curl", found)


def _wait(served: Served, key: str, video_id: str) -> None:
    """Until the video has ended, as its client would."""
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=key) as client:
        assert client.videos.poll(video_id).status == "completed"


@pytest.mark.skipif(not NODE.exists(), reason="`make setup` installs the client for Node")
def test_the_page_says_which_versions_were_tried() -> None:
    """Those that are installed."""
    node = json.loads((NODE / "package.json").read_text())["version"]
    assert f"`openai` {openai.__version__} for Python, {node} for Node" in " ".join(PAGE.split())


def test_no_client_is_on_the_page_that_is_not_tried() -> None:
    """Each is tried above, or the page says that it is not."""
    named = set(re.findall(r"^\| ([^|]*) \| `[^|]*` \| [^|]* \|$", PAGE, re.MULTILINE))
    assert named == {*CLIENTS, "`openai` (Node)", "`AzureOpenAI` (Node)", "curl"}
