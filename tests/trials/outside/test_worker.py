"""Every route through Microsoft's own Python worker: its library loads the app, starts the app's
web server and invokes the functions, as in Azure. The stand-in beside it runs the orchestrations.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from local.durable import rpc
from shared.routes import paths
from tests.fakes.simulator import picture
from tests.fakes.stack import MASTER_KEY, MODEL, Served, arm, client, serving, wait_for_end
from tests.fakes.worker import working

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

CHECKOUT = Path(__file__).parents[3]
UNKNOWN = f"video_{'0' * 32}"


@pytest.fixture(scope="module")
def served(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(azurite, tmp_path_factory.mktemp("stack"), delivery="proxy", manifests=True) as served:
        yield served


@pytest.fixture(scope="module")
def worker(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the host before the worker."""
    binding = rpc.client_binding(served.hub.name, served.url)
    environment = {**served.settings, "WORKER_DURABLE": binding, "VIDEO_REQUESTS_QUEUE": "video-requests"}
    with working(CHECKOUT, tmp_path_factory.mktemp("worker") / "log", environment) as url:
        yield url


def told(answer: httpx.Response) -> tuple[int, dict[str, str], Any]:
    """An answer without what no two have in common."""
    varying = ("date", "x-request-id", "server")
    headers = {name: value for name, value in answer.headers.items() if name not in varying}
    body = re.sub(r"req_\w+|video_\w+|key_\w+|sk-\w+|\d{10}|127\.0\.0\.1:\d+", "…", answer.text)
    headers.pop("content-length", None)
    return answer.status_code, headers, body


ROUTES = [
    ("GET", "/health/liveliness"),
    ("GET", "/v1/models"),
    ("GET", "/v1/videos?limit=1&after=" + UNKNOWN),
    ("GET", f"/v1/videos/{UNKNOWN}"),
    ("DELETE", f"/v1/videos/{UNKNOWN}"),
    ("POST", f"/v1/videos/{UNKNOWN}/remix"),
    ("GET", f"/v1/videos/{UNKNOWN}/content"),
    ("HEAD", f"/v1/videos/{UNKNOWN}/content"),
    ("POST", "/v1/videos"),
    ("GET", "/key/info?key=nobody"),
    ("POST", "/key/generate"),
    ("GET", "/spend/logs?limit=1"),
    ("GET", "/spend/report"),
    ("GET", "/model/info"),
    ("GET", "/events/undelivered"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/studio"),
    ("HEAD", "/studio"),
    ("GET", "/studio/assets/none.js"),
    ("GET", f"/v1/videos/{UNKNOWN}/events"),
    ("GET", "/v1/webhook_endpoints"),
    ("POST", "/v1/webhook_endpoints"),
    ("GET", "/v1/webhook_endpoints/we_none"),
    ("DELETE", "/v1/webhook_endpoints/we_none"),
    ("POST", "/v1/webhook_endpoints/we_none/rotate_secret"),
    ("POST", "/v1/webhook_endpoints/we_none/test"),
    ("GET", "/v1/webhook_endpoints/we_none/deliveries"),
    ("GET", "/v1/webhook_event_types"),
    ("POST", "/v2/key/info"),
    ("GET", "/openai/v1/models"),
    ("PUT", "/v1/videos"),
    ("GET", "/nothing/%2Fat%20all"),
    ("OPTIONS", "/v1/videos"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=[f"{method} {path}" for method, path in ROUTES])
@pytest.mark.parametrize("key", ["", "sk-nobody", MASTER_KEY], ids=["no key", "a wrong key", "the master key"])
def test_every_route_answers_through_the_worker_as_on_the_stand_in(
    method: str, path: str, key: str, worker: str, served: Served
) -> None:
    """The same status, headers and body, and each with its length."""
    with client(worker, key) as through, client(served.url, key) as beside:
        answer = through.request(method, path)
        assert told(answer) == told(beside.request(method, path))
    assert "content-length" in answer.headers
    assert answer.status_code < 500


def test_no_trigger_is_left_out() -> None:
    """A route that is added shows up here."""
    asked = {path.removeprefix("/v1").partition("?")[0].split("/")[1] for _, path in ROUTES}
    assert {endpoint.path.removeprefix("global/").split("/")[0] for endpoint in paths.ENDPOINTS} <= asked


def test_the_official_client_makes_a_video_through_the_worker(worker: str, served: Served) -> None:
    """From its prompt to its bytes, which come through the app with their length."""
    with openai.OpenAI(api_key=served.key, base_url=f"{worker}/v1") as official:
        video = official.videos.create_and_poll(prompt="A cat", model=MODEL, seconds="4", size="1280x720")
        assert (video.status, video.error) == ("completed", None)
        content = official.videos.download_content(video.id)
        film = content.read()
        assert content.response.headers["content-length"] == str(len(film))
        assert film[4:8] == b"ftyp"
        assert next(each.id for each in official.videos.list(limit=1)) == video.id
        assert official.videos.delete(video.id).deleted


def test_an_image_is_drawn_beside_the_worker(worker: str, served: Served) -> None:
    """By a process that the worker starts: the upstream has forgotten its own."""
    with openai.OpenAI(api_key=served.key, base_url=f"{worker}/v1") as official:
        video = official.videos.create_and_poll(prompt="A cat", model=MODEL, seconds="4", size="1280x720")
        arm(served.upstream, kind="status", operation="content", status=404)
        image = official.videos.download_content(video.id, variant="spritesheet").read()
    with Image.open(BytesIO(image)) as sheet:
        assert (sheet.format, sheet.size) == ("JPEG", (4 * 320, 4 * 180)), "the simulator's has another size"


def test_a_message_starts_a_video_through_the_worker(worker: str, served: Served) -> None:
    """The worker's own converter makes of it what the function gets."""
    with client(served.url, MASTER_KEY) as operator:
        made = operator.post("/key/generate", json={}).json()
    asked = {"key_id": made["key_id"], "model": served.model, "prompt": "A cat, by a message"}
    told = {"Id": "message-1", "DequeueCount": "1", "PopReceipt": "r"}
    told |= {f"{each}Time": "2026-11-29T12:00:00Z" for each in ("Expiration", "Insertion", "NextVisible")}
    with client(worker, "") as host:
        ran = host.post("/admin/functions/video_requests", json=asked, params=told)
    assert ran.status_code == 200, ran.text
    with client(served.url, made["key"]) as owner:
        (video,) = owner.get("/v1/videos").json()["data"]
        assert wait_for_end(owner, video["id"])["prompt"] == "A cat, by a message"


def test_a_manifest_is_what_the_worker_gives_the_host(worker: str, served: Served) -> None:
    """As text, beside the answer to the orchestration; a step that runs again gives it again."""
    with openai.OpenAI(api_key=served.key, base_url=f"{worker}/v1") as official:
        video = official.videos.create_and_poll(prompt="A cat", model=MODEL, seconds="4", size="1280x720")
    with client(worker, "") as host:
        ran = host.post("/admin/functions/finish", json={"video": video.id, "failure": None}).json()
    assert ran["returned"] == "true"
    assert json.loads(ran["outputs"]["manifest"])["video_id"] == video.id


def test_a_body_without_a_length_arrives(worker: str, served: Served) -> None:
    """In pieces, as some clients send it."""
    pieces = iter([b'{"prompt": "A cat", ', b'"model": "nothing"}'])
    with client(worker, served.key) as caller:
        answer = caller.post("/v1/videos", content=pieces, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "model_not_found")


@pytest.mark.parametrize("way", ["stand-in", "worker"])
def test_the_official_client_for_node_works_through_both(way: str, worker: str, served: Served, tmp_path: Path) -> None:
    """With an image, bytes in both kinds of delivery, list, remix, delete, and error classes."""
    image = tmp_path / "image.png"
    image.write_bytes(picture((720, 1280)))
    given = {"GATEWAY": worker if way == "worker" else served.url, "KEY": served.new_key(), "MODEL": MODEL}
    script = [shutil.which("node") or "node", str(CHECKOUT / "tests/trials/outside/node_client.mjs"), str(image)]
    ran = subprocess.run(script, env={**os.environ, **given}, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "created": "queued",
        "ended": "completed",
        "same": True,
        "order": True,
        "unready": ["ConflictError", 409, "video_not_completed"],
        "gone": ["NotFoundError", 404, "video_not_found"],
        "wrong": ["BadRequestError", 400, "invalid_value"],
    }
