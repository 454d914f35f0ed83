"""docs/pipelines.md: every block of Python on it does what the page says."""

import asyncio
import csv
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableServiceClient
from azure.storage.blob import BlobClient
from azure.storage.queue import QueueClient

from local.azurite import Azurite
from tests.fakes.stack import CHECKOUT, MASTER_KEY, Served, eventually, serving, wait_for_end
from tests.fakes.worker import working

PAGE = (CHECKOUT / "docs" / "pipelines.md").read_text()
ROWS = 100
PATIENCE = 300.0  # seconds for a hundred messages on a busy machine


def block(heading: str) -> str:
    """The block of Python under a heading."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return str(code)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway with storage of its own: the queues have the page's names, and a hundred videos on
    four places are left as they are.
    """
    told = {"VIDEO_REQUESTS_QUEUE": "video-requests"}
    knobs: dict[str, Any] = {"manifests": True, "webhook_networks": ["127.0.0.0/8"]}
    with asyncio.Runner() as runner:
        storage = Azurite(tmp_path_factory.mktemp("azurite"))
        runner.run(storage.__aenter__())
        try:
            with QueueClient.from_connection_string(storage.connection_string, "video-requests") as queue:
                queue.create_queue()
            data = tmp_path_factory.mktemp("pipelines")
            with serving(storage.connection_string, data, environment=told, max_running=4, **knobs) as gateway:
                yield gateway
        finally:
            runner.run(storage.__aexit__(None, None, None))


def test_a_hundred_prompts_from_a_file(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent twice, each is made once; one that is wrong is in the poison queue."""
    with (tmp_path / "prompts.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["shot", "prompt", "seconds"])
        rows.writerows([number, f"A cat, shot {number}", "4"] for number in range(ROWS))
        rows.writerow([ROWS, "A cat, for too long", "5"])
    monkeypatch.chdir(tmp_path)
    with served.client(MASTER_KEY) as operator:
        made = operator.post("/key/generate", json={}).json()
    storage = served.settings["AzureWebJobsStorage"]
    for _ in range(2):
        exec(block("A hundred prompts from a file"), {"storage": storage, "key_id": made["key_id"], "model": served.model})
    with served.client(made["key"]) as client:
        with QueueClient.from_connection_string(storage, "video-requests") as queue:
            eventually(lambda: queue.get_queue_properties().approximate_message_count == 0, PATIENCE)
        page = client.get("/v1/videos?limit=100").json()
        assert {video["prompt"] for video in page["data"]} == {f"A cat, shot {number}" for number in range(ROWS)}
        assert not page["has_more"]
        assert eventually(lambda: client.get("/v1/videos?limit=1&status=completed").json()["data"], PATIENCE)
    with QueueClient.from_connection_string(storage, "video-requests-poison") as poison:
        assert len(poison.peek_messages(32)) == 2


def made(served: Served) -> str:
    """The id of a video that is completed."""
    with served.client() as client:
        asked = {"prompt": "A cat", "model": served.model, "seconds": "4"}
        video_id = str(client.post("/v1/videos", json=asked).json()["id"])
        assert wait_for_end(client, video_id, PATIENCE)["status"] == "completed"
    return video_id


def test_a_function_that_reacts_to_finished_videos(served: Served, tmp_path: Path) -> None:
    """The page's app in Microsoft's own worker: it gets the manifest as it is in storage, however
    often, and what it puts out leads to the film.
    """
    (tmp_path / "function_app.py").write_text(block("A function that reacts to finished videos"))
    (tmp_path / "host.json").write_text(json.dumps({"version": "2.0"}))
    storage, video_id = served.settings["AzureWebJobsStorage"], made(served)
    path = f"manifests/{video_id}.json"
    manifest = eventually(lambda: _blob(storage, path))
    with working(tmp_path, tmp_path / "log", {}) as worker:
        told = {"BlobTrigger": path, "Uri": f"https://storage.example/{path}", "name": video_id}
        ran = [httpx.post(f"{worker}/admin/functions/finished", content=manifest, params=told, timeout=60) for _ in range(2)]
    first, again = (each.json() for each in ran)
    assert first == again
    published = json.loads(first["outputs"]["publish"])
    film = _blob(storage, published.pop("film"))
    assert published == {"id": video_id, "title": "A cat", "dollars": 0.4}
    assert (film or b"")[4:8] == b"ftyp"


def _blob(storage: str, path: str) -> bytes | None:
    with BlobClient.from_connection_string(storage, *path.split("/", 1)) as blob:
        try:
            return bytes(blob.download_blob().readall())
        except ResourceNotFoundError:
            return None


@contextmanager
def receiving(receiver: type[Any]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), receiver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook"
        finally:
            server.shutdown()


def test_a_receiver_of_webhooks(served: Served) -> None:
    """What is signed is handed on once, however often it is sent; what is not is refused."""
    handed: list[tuple[str, str]] = []
    tables = TableServiceClient.from_connection_string(served.settings["AzureWebJobsStorage"])
    page: dict[str, Any] = {"hand_on": lambda *event: handed.append(event), "secret": None}
    page["handled"] = tables.create_table_if_not_exists("handled")
    exec(block("A receiver of webhooks"), page)
    answers, receive = [], page["receive"]

    def noted(body: bytes, headers: dict[str, str]) -> int:
        answers.append(receive(body, headers))
        return int(answers[-1])

    page["receive"] = noted
    with receiving(page["Receiver"]) as url, served.client() as owner:
        asked = {"name": "pipeline", "url": url, "event_types": ["video.completed"]}
        endpoint = owner.post("/v1/webhook_endpoints", json=asked).json()
        page["secret"] = endpoint["signing_secret"]
        video_id = made(served)
        eventually(lambda: handed)
        path = f"/v1/webhook_endpoints/{endpoint['id']}/deliveries"
        (sent,) = eventually(lambda: owner.get(path).json()["data"])
        assert owner.post(f"{path}/{sent['id']}").status_code == 200
        eventually(lambda: len(answers) == 2)
        assert (answers, handed) == ([202, 202], [("video.completed", video_id)])
        forged = {"webhook-id": "evt_1", "webhook-timestamp": "1", "webhook-signature": "v1,Zm9yZ2Vk"}
        assert [httpx.post(url, content=b"{}", headers=headers).status_code for headers in (forged, {})] == [401, 401]
    tables.close()
