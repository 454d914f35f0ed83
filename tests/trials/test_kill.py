"""kill -9 of the local stack at chosen moments of a generation: no video is lost, and none is made
twice.

The moments are found by watching the simulated Azure OpenAI, not by sleeping: faults hold a request
where it is while the stack dies. Its jobs are in a file of its own, so that what it had accepted
before the kill is counted after it.
"""

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from azure.storage.blob import BlobClient

from shared.media.video import owner_of
from tests.fakes.stack import (
    MASTER_KEY,
    accepted,
    app_settings,
    arm,
    asked,
    client,
    eventually,
    play,
    simulating,
    wait_for_end,
    write_config,
)

CHECKOUT = Path(__file__).parents[2]
LONG = 600.0  # seconds: longer than anything here lives
PATIENCE = 120.0  # seconds for what takes ten: several stacks share the machine


@dataclass(frozen=True)
class Stack:
    """`python -m local run` in a session of its own: the leader of a process group that can be
    killed whole.
    """

    process: "subprocess.Popen[str]"
    url: str
    upstream: str

    def kill(self) -> None:
        """SIGKILL to the group and to the simulator. Storage gets SIGTERM from the kernel: it is no
        part of the app.
        """
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        simulators = [int(pid) for pid in children if b"local.simulator" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.killpg(self.process.pid, signal.SIGKILL)
        for pid in simulators:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def create(self, prompt: str) -> str:
        with client(self.url, MASTER_KEY) as gateway:
            answer = gateway.post("/v1/videos", json={"prompt": prompt})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def status(self, video_id: str) -> str:
        with client(self.url, MASTER_KEY) as gateway:
            return str(gateway.get(f"/v1/videos/{video_id}").json()["status"])


@contextmanager
def running(data: Path, port: str = "0", **settings: str) -> Iterator[Stack]:
    """The local stack on a data directory and a port, 0 for any; whatever is left of it at the end
    is killed.
    """
    given = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE", "Azure", "GATEWAY"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "local", "run", "--port", port, "--data", str(data), "--speed", "30", "--quiet"],
        cwd=CHECKOUT,
        env={**given, **settings, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield Stack(process, *_addresses(process))
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


def _addresses(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """The gateway's and the upstream's, from the greeting."""
    assert process.stdout is not None
    found: list[str] = []
    for line in process.stdout:
        found += re.findall(r"^  (?:URL|upstream)  .*?(http://[\d.:]+)", line)
        if len(found) == 2:
            return found[0], found[1]
    raise AssertionError("the stack did not start")


Moment = Callable[[Stack, str], bool]


def answered(stack: Stack, video_id: str) -> bool:
    """The create has just been answered: nothing more is known to have happened."""
    return True


def asked_for(stack: Stack, video_id: str) -> bool:
    """The upstream has the create, and has not accepted it yet."""
    return len(asked(stack.upstream, "create")) > 0 and not accepted(stack.upstream)


def accepted_unanswered(stack: Stack, video_id: str) -> bool:
    """The upstream has accepted the create, and its answer is on the way."""
    return len(accepted(stack.upstream)) > 0


def rendering(stack: Stack, video_id: str) -> bool:
    """The job is running, and has been looked at."""
    return stack.status(video_id) == "in_progress"


def saving(stack: Stack, video_id: str) -> bool:
    """The film is on its way into storage."""
    return any(each["status"] == 200 for each in asked(stack.upstream, "content"))


MOMENTS: list[tuple[Moment, dict[str, Any] | None]] = [
    (answered, None),
    (asked_for, {"kind": "delay", "operation": "create", "seconds": LONG, "when": "before"}),
    (accepted_unanswered, {"kind": "delay", "operation": "create", "seconds": LONG, "when": "after"}),
    (rendering, None),
    (saving, {"kind": "trickle", "operation": "content", "bytes_per_second": 1000}),
]


def survive(folder: Path, moment: Moment, fault: dict[str, Any] | None) -> None:
    """One stack: killed at the moment, started again on the same data; its video must come to a
    good end.
    """
    config = str(write_config(folder / "given.yaml", reconcile_seconds=4))
    with running(folder / "data", GATEWAY_CONFIG=config) as stack:
        if fault is not None:
            arm(stack.upstream, **fault)
        video_id = stack.create("A cat that survives")
        eventually(partial(moment, stack, video_id), PATIENCE)
        stack.kill()
    with running(folder / "data", GATEWAY_CONFIG=config) as stack:
        check_completed(stack.url, video_id, folder / "film.mp4")
        assert len(accepted(stack.upstream)) == 1, moment.__name__


def test_a_stack_that_is_killed_at_any_moment_completes_its_video_from_one_create(tmp_path: Path) -> None:
    """At every stage of a generation, one stack for each; started again, all have whole bytes from
    one accepted create.
    """
    with ThreadPoolExecutor(len(MOMENTS)) as threads:
        stacks = [threads.submit(survive, tmp_path / moment.__name__, moment, fault) for moment, fault in MOMENTS]
    for stack in stacks:
        stack.result()


def test_another_host_takes_over_from_one_that_is_killed(azurite: str, tmp_path: Path) -> None:
    """Two hosts share a data directory; the one that was saving dies, the other saves, and nothing
    is made twice.
    """
    data = tmp_path / "data"
    with simulating(tmp_path) as upstream, ExitStack() as hosts:
        settings = app_settings(azurite, upstream, tmp_path)
        arm(upstream, kind="trickle", operation="content", bytes_per_second=1000)
        first = hosts.enter_context(running(data, **settings))
        video_id = first.create("A cat between two hosts")
        eventually(partial(saving, first, video_id), PATIENCE)
        second = hosts.enter_context(running(data, **settings))
        assert second.status(video_id) == "in_progress"
        first.kill()
        check_completed(second.url, video_id, tmp_path / "film.mp4")
        assert len(accepted(upstream)) == 1
        assert 2 <= len(asked(upstream, "content")) <= 3  # once more where a busy machine lets a message become visible again


def test_a_kill_in_the_middle_of_an_upload_and_of_a_download_leaves_nothing_half(azurite: str, tmp_path: Path) -> None:
    """The caller of the one has no video and the reader of the other sees that the film is cut
    short; asked again, both have all.
    """
    data, film = tmp_path / "data", os.urandom(40 * 1024**2)
    with simulating(tmp_path) as upstream, ExitStack() as hosts:
        settings = app_settings(azurite, upstream, tmp_path, delivery="proxy")
        first = hosts.enter_context(running(data, **settings))
        video_id = first.create("A cat that is fetched")
        check_completed(first.url, video_id, tmp_path / "film.mp4")
        name = f"{owner_of(video_id)}/{video_id}.mp4"
        BlobClient.from_connection_string(azurite, "videos", name).upload_blob(film, overwrite=True)
        uploading, downloading = (hosts.enter_context(closing(connected(first.url))) for _ in range(2))
        uploading.putrequest("POST", "/v1/videos")
        uploading.putheader("content-length", "100")
        uploading.endheaders(b'{"prompt": "A cat that is half')
        downloading.request("GET", f"/v1/videos/{video_id}/content")
        answer = downloading.getresponse()
        begun = answer.read(1024**2)
        first.kill()
        with pytest.raises(http.client.RemoteDisconnected):
            uploading.getresponse()
        with pytest.raises(http.client.IncompleteRead) as cut:
            answer.read()
        assert film.startswith(begun + cut.value.partial)
        second = hosts.enter_context(running(data, **settings))
        with client(second.url, MASTER_KEY) as gateway:
            listed = gateway.get("/v1/videos").json()["data"]
            assert [each["id"] for each in listed if each["prompt"].startswith("A cat that is half")] == []
            assert gateway.get(f"/v1/videos/{video_id}/content").content == film


def connected(url: str) -> http.client.HTTPConnection:
    """A connection that sends the master key with its requests."""

    class Keyed(http.client.HTTPConnection):
        def putrequest(self, *given: Any, **options: Any) -> None:
            super().putrequest(*given, **options)
            self.putheader("authorization", f"Bearer {MASTER_KEY}")

    return Keyed(urlsplit(url).netloc, timeout=60)


def check_completed(url: str, video_id: str, file: Path) -> None:
    with client(url, MASTER_KEY) as gateway:
        video = wait_for_end(gateway, video_id, PATIENCE)
        assert (video["status"], video["error"]) == ("completed", None)
        content = gateway.get(f"/v1/videos/{video_id}/content", follow_redirects=True)
    assert int(content.headers["content-length"]) == len(content.content)
    file.write_bytes(content.content)
    assert (play(file).size, round(play(file).seconds)) == ("720x1280", 4)
