"""Every client and every operation of it, against a running gateway: the table of docs/clients.md.

A row that is missing or wrong is printed as it has to be.
"""

import asyncio
import base64
import inspect
import json
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import openai
import pytest
from aiohttp import web

from local.azurite import share_blobs
from tests.fakes.chromium import CHROMIUM, browsing
from tests.fakes.simulator import picture
from tests.fakes.stack import CHECKOUT, MASTER_KEY, Served, serving

PAGE = (CHECKOUT / "docs" / "clients.md").read_text()
NODE = CHECKOUT / "node_modules" / "openai"


@pytest.fixture(scope="module")
def served(azurite: str, site: str, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    knobs: dict[str, Any] = {"webhook_networks": ["127.0.0.0/8"], "cors": {"origins": [site, f"http://127.0.0.1:{port}"]}}
    asyncio.run(share_blobs(azurite, with_pages=True))
    with serving(azurite, tmp_path_factory.mktemp("clients"), **knobs) as gateway:
        yield gateway


class Listener(BaseHTTPRequestHandler):
    """Takes every webhook, and has an empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing of it."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The origin of somebody's own server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def port() -> int:
    """A free one, for the server of a page."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def listener(site: str) -> str:
    """The address that takes webhooks."""
    return f"{site}/hook"


# Operations of `client.videos`, which stand without its name, and those of `client.webhooks`.
VIDEOS, WEBHOOKS = r"[^|.]*", r"webhooks\.[^|]*"


def rows(client: str, operations: str) -> dict[str, str]:
    """What the page says of a client: operation → outcome."""
    found = re.findall(rf"^\| {re.escape(client)} \| `({operations})` \| ([^|]*) \|$", PAGE, re.MULTILINE)
    return dict(found)


def expect(client: str, outcomes: Mapping[str, str], operations: str = VIDEOS) -> None:
    told = "\n".join(f"| {client} | `{operation}` | {outcome} |" for operation, outcome in outcomes.items())
    assert rows(client, operations) == outcomes, f"docs/clients.md has to say:\n{told}"


@dataclass
class Outcomes:
    """How each call ended, by the name of its operation."""

    found: dict[str, str] = field(default_factory=dict)

    async def step(self, name: str, call: Callable[[], Any]) -> Any:
        """What a call gives, synchronous or not; None where it is refused."""
        try:
            result = call()
            result = await result if inspect.isawaitable(result) else result
        except openai.APIStatusError as error:
            self.found[name] = f"{error.status_code} `{error.code}`"
            return None
        self.found[name] = "works"
        return result


async def of_videos(client: Any, model: str) -> dict[str, str]:
    """Every method of `client.videos`."""
    outcomes, videos = Outcomes(), client.videos
    step = outcomes.step
    asked = {"prompt": f"A cat, for {type(client).__name__}", "model": model, "seconds": "4", "size": "720x1280"}
    image = ("cat.png", picture((720, 1280)), "image/png")
    film = ("mia.mp4", b"x", "video/mp4")  # this client sends no id of a video here, only a file

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
    return outcomes.found


async def of_webhooks(client: Any, url: str) -> dict[str, str]:
    """Every method of `client.webhooks` that asks a server."""
    outcomes, webhooks = Outcomes(), client.webhooks
    step = outcomes.step
    made = await step("webhooks.create", lambda: webhooks.create(name="studio", url=url, event_types=["video.completed"]))
    await step("webhooks.retrieve", lambda: webhooks.retrieve(made.id))
    await step("webhooks.update", lambda: webhooks.update(made.id, event_types=["video.failed"]))
    await step("webhooks.list", lambda: webhooks.list(limit=1))
    await step("webhooks.rotate_secret", lambda: webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True))
    await step("webhooks.test", lambda: webhooks.test(made.id, event_type="video.failed"))
    await step("webhooks.event_types.list", webhooks.event_types.list)
    await step("webhooks.delete", lambda: webhooks.delete(made.id))
    return outcomes.found


CLIENTS: Mapping[str, Callable[[str, str], Any]] = {
    "`openai` (Python)": lambda url, key: openai.OpenAI(base_url=f"{url}/v1", api_key=key),
    "`openai` (Python, async)": lambda url, key: openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key),
    "`AzureOpenAI` (Python)": lambda url, key: openai.AzureOpenAI(azure_endpoint=url, api_key=key, api_version="preview"),
    "`AzureOpenAI` (Python, async)": lambda url, key: openai.AsyncAzureOpenAI(
        azure_endpoint=url, api_key=key, api_version="preview"
    ),
}


@asynccontextmanager
async def connected(name: str, served: Served) -> AsyncIterator[Any]:
    """A client, with a key of its own."""
    client = CLIENTS[name](served.url, served.new_key())
    try:
        yield client
    finally:
        closed: Awaitable[None] | None = client.close()
        if closed is not None:
            await closed


@pytest.mark.parametrize("name", CLIENTS)
def test_videos_of_the_official_clients_for_python(name: str, served: Served) -> None:
    """Every method that they have."""

    async def story() -> dict[str, str]:
        async with connected(name, served) as client:
            return await of_videos(client, served.model)

    expect(name, asyncio.run(story()))


@pytest.mark.parametrize("name", CLIENTS)
def test_webhooks_of_the_official_clients_for_python(name: str, served: Served, listener: str) -> None:
    """They manage endpoints since 3.57."""

    async def story() -> dict[str, str]:
        async with connected(name, served) as client:
            return await of_webhooks(client, listener)

    expect(name, asyncio.run(story()), WEBHOOKS)


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


BROWSER, ELSEWHERE = "`fetch` (Chromium)", "`fetch` (Chromium, another origin)"
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: `apt-get install chromium`")


async def of_fetch(served: Served, profile: Path, page_of: str, gateway: str) -> dict[str, str]:
    """What a script may do on this page, which asks the gateway at that origin."""
    script = Path(__file__).with_name("browser.js").read_text()
    image = base64.b64encode(picture((720, 1280))).decode()
    async with browsing(profile) as page:
        await page.visit(page_of)
        found: dict[str, str] = await page.run(script, served.new_key(), served.model, image, gateway)
        return found


@needs_chromium
def test_a_browser(served: Served, tmp_path: Path) -> None:
    """A page of the gateway's own origin. Any answer has that origin but `/docs`, whose policy
    lets no script ask for anything.
    """
    expect(BROWSER, asyncio.run(of_fetch(served, tmp_path, f"{served.url}/openapi.json", "")))


@needs_chromium
def test_a_page_of_another_origin(served: Served, site: str, tmp_path: Path) -> None:
    """One that the operator lists may do the same."""
    expect(ELSEWHERE, asyncio.run(of_fetch(served, tmp_path, site, served.url)))


def blocks(language: str) -> str:
    """The one block of this language under "A page of your own"."""
    (code,) = re.findall(rf"```{language}\n(.*?)```", PAGE.split("## A page of your own")[1], re.DOTALL)
    return str(code)


@needs_chromium
def test_a_page_with_a_key_for_one_video(served: Served, port: int, tmp_path: Path) -> None:
    """The page's recipe: its server, its script, and a key that is used up after one video."""

    async def empty(_: web.Request) -> web.Response:
        return web.Response(text="<body></body>", content_type="text/html")

    async def story(gateway: Served, port: int) -> list[Any]:
        names: dict[str, Any] = {"gateway": gateway.url, "model": gateway.model, "master_key": MASTER_KEY}
        exec(blocks("python"), names)
        app = web.Application()
        app.add_routes([web.get("/", empty), web.post("/mint", names["mint"])])
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            async with browsing(tmp_path / "profile") as page:
                await page.visit(f"http://127.0.0.1:{port}/")
                found: list[Any] = await page.run(blocks("js"), gateway.url, gateway.model)
                return found
        finally:
            await runner.cleanup()

    assert asyncio.run(story(served, port)) == ["completed", "video/mp4", 429]


@needs_chromium
def test_a_page_that_is_not_listed(served: Served, site: str, tmp_path: Path) -> None:
    """The same server by another name is another origin, and may read nothing."""

    async def story() -> str:
        async with browsing(tmp_path) as page:
            await page.visit(site.replace("127.0.0.1", "localhost"))
            ask = "async (url) => { try { return (await fetch(url)).status } catch (error) { return String(error) } }"
            return str(await page.run(ask, f"{served.url}/health/liveness"))

    assert asyncio.run(story()) == "TypeError: Failed to fetch"


@pytest.mark.skipif(not NODE.exists(), reason="`make setup` installs the client for Node")
def test_the_page_says_which_versions_were_tried() -> None:
    """Those that are installed."""
    node = json.loads((NODE / "package.json").read_text())["version"]
    assert f"`openai` {openai.__version__} for Python, {node} for Node" in " ".join(PAGE.split())


def test_no_client_is_on_the_page_that_is_not_tried() -> None:
    """Each is tried above, or the page says that it is not."""
    named = set(re.findall(r"^\| ([^|]*) \| `[^|]*` \| [^|]* \|$", PAGE, re.MULTILINE))
    assert named == {*CLIENTS, "`openai` (Node)", "`AzureOpenAI` (Node)", "curl", BROWSER, ELSEWHERE}
