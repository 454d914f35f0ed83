"""kill -9 of the local stack at chosen moments of a generation: no video is lost, and none is made twice.

The moments are found by watching the simulated Azure OpenAI, not by sleeping: faults hold a request where it is while the stack
dies. Its jobs are in a file of its own, so that what it had accepted before the kill is counted after it.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stack import MASTER_KEY, app_settings, client, eventually, play, serving, wait_for_end, write_config

CHECKOUT = Path(__file__).parent.parent
LONG = 60.0  # seconds: longer than anything here lives


@dataclass(frozen=True)
class Stack:
    """`python -m local run` in a session of its own: the leader of a process group that can be killed whole."""

    process: "subprocess.Popen[str]"
    url: str
    upstream: str

    def kill(self) -> None:
        """SIGKILL to the group and to the simulator. Storage gets SIGTERM from the kernel: it is no part of the app."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        simulators = [int(pid) for pid in children if b"local.sora" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.killpg(self.process.pid, signal.SIGKILL)
        for pid in simulators:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def create(self, prompt: str) -> str:
        with client(self.url, MASTER_KEY) as gateway:
            answer = gateway.post("/v1/videos", json={"prompt": prompt})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def arm(self, **fault: Any) -> None:
        assert httpx.post(f"{self.upstream}/_sim/faults", json=fault, trust_env=False).status_code == 200

    def asked(self, operation: str) -> list[dict[str, Any]]:
        requests = httpx.get(f"{self.upstream}/_sim/requests", trust_env=False).json()
        return [each for each in requests if each["operation"] == operation]

    def jobs(self) -> list[dict[str, Any]]:
        jobs: list[dict[str, Any]] = httpx.get(f"{self.upstream}/_sim/jobs", trust_env=False).json()["data"]
        return jobs

    def status(self, video_id: str) -> str:
        with client(self.url, MASTER_KEY) as gateway:
            return str(gateway.get(f"/v1/videos/{video_id}").json()["status"])


@contextmanager
def running(data: Path, **settings: str) -> Iterator[Stack]:
    """The local stack on a data directory; whatever is left of it at the end is killed."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE", "Azure", "GATEWAY"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "local", "run", "--port", "0", "--data", str(data), "--speed", "30"],
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


Moment = Callable[[Stack, str], None]


def answered(stack: Stack, video_id: str) -> None:
    """The create has just been answered: nothing more is known to have happened."""


def before_acceptance(stack: Stack, video_id: str) -> None:
    """The upstream has the create, and has not accepted it yet."""
    eventually(lambda: stack.asked("create"))
    assert stack.jobs() == []


def after_acceptance(stack: Stack, video_id: str) -> None:
    """The upstream has accepted the create, and its answer is on the way."""
    eventually(stack.jobs)


def rendering(stack: Stack, video_id: str) -> None:
    """The job is running, and has been looked at."""
    eventually(lambda: stack.status(video_id) == "in_progress")


def saving(stack: Stack, video_id: str) -> None:
    """Some of the film is on its way into storage."""
    eventually(lambda: [each for each in stack.asked("content") if each["status"] == 200])


@pytest.mark.parametrize(
    ("moment", "fault"),
    [
        (answered, None),
        (before_acceptance, {"kind": "delay", "operation": "create", "seconds": LONG, "when": "before"}),
        (after_acceptance, {"kind": "delay", "operation": "create", "seconds": LONG, "when": "after"}),
        (rendering, None),
        (saving, {"kind": "trickle", "operation": "content", "bytes_per_second": 1000}),
    ],
    ids=["answered", "before-acceptance", "after-acceptance", "rendering", "saving"],
)
def test_a_stack_that_is_killed_goes_on_where_it_was(moment: Moment, fault: dict[str, Any] | None, tmp_path: Path) -> None:
    """Started again on the same data, it completes the video with whole bytes, from exactly one accepted create."""
    config = str(write_config(tmp_path / "given.yaml", reconcile_seconds=4))
    data = tmp_path / "data"
    with running(data, GATEWAY_CONFIG=config) as stack:
        if fault is not None:
            stack.arm(**fault)
        video_id = stack.create("A cat that survives")
        moment(stack, video_id)
        stack.kill()
    with running(data, GATEWAY_CONFIG=config) as stack:
        check_completed(stack, video_id, tmp_path / "film.mp4")
        assert len(stack.jobs()) == 1


def check_completed(stack: Stack, video_id: str, file: Path) -> None:
    with client(stack.url, MASTER_KEY) as gateway:
        video = wait_for_end(gateway, video_id)
        assert (video["status"], video["error"]) == ("completed", None)
        content = gateway.get(f"/v1/videos/{video_id}/content", follow_redirects=True)
    assert int(content.headers["content-length"]) == len(content.content)
    file.write_bytes(content.content)
    assert (play(file).size, round(play(file).seconds)) == ("720x1280", 4)
