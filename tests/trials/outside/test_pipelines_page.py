"""docs/pipelines.md: every block of Python on it does what the page says."""

import asyncio
import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.storage.queue import QueueClient

from local.azurite import Azurite
from tests.fakes.stack import CHECKOUT, MASTER_KEY, Served, eventually, serving

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
    with asyncio.Runner() as runner:
        storage = Azurite(tmp_path_factory.mktemp("azurite"))
        runner.run(storage.__aenter__())
        try:
            with QueueClient.from_connection_string(storage.connection_string, "video-requests") as queue:
                queue.create_queue()
            data = tmp_path_factory.mktemp("pipelines")
            with serving(storage.connection_string, data, environment=told, max_running=4) as gateway:
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
