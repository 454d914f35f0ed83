"""The check of a deployed gateway: what it asks, what it takes for a fault, and that its key goes
nowhere else.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from infra.tools import smoke
from infra.tools.smoke import Client, SmokeError

MP4 = b"\x00\x00\x00\x18ftypisom" + bytes(100)


class Cut(bytes):
    """A body whose last byte does not arrive."""

    __slots__ = ()


class Server(ThreadingHTTPServer):
    """Answers from a script: for each method and path the answers in turn, the last one again and
    again.
    """

    def __init__(self, script: dict[str, list[tuple[int, Any]]]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.script = script
        self.asked: list[tuple[str, str | None]] = []
        self.bodies: dict[str, Any] = {}
        self.once: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Server

    def answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length", 0)))
        call = f"{self.command} {self.path}"
        if sent:
            self.server.bodies[call] = json.loads(sent)
            self.server.once.append(self.headers["idempotency-key"])
        self.server.asked.append((call, self.headers.get("authorization")))
        answers = self.server.script.get(call, [(404, {})])
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        if status == 302:
            self.send_header("location", body)
            body = b""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_header("content-length", str(len(data) + isinstance(body, Cut)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names that the base class looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Tests are quiet."""


@contextmanager
def serving(script: dict[str, list[tuple[int, Any]]]) -> Iterator[Server]:
    with Server(script) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def deployment(model: str, name: str, retires: str | None = None) -> dict[str, Any]:
    return {"model_name": model, "model_info": {"id": name, "retires": retires}}


def healthy(**more: list[tuple[int, Any]]) -> dict[str, list[tuple[int, Any]]]:
    return {
        "GET /health/liveliness": [(200, "I'm alive!")],
        "GET /health/readiness": [(200, {"status": "healthy"})],
        "GET /v1/models": [(200, {"data": [{"id": "azure-sora-2"}]})],
        "GET /model/info": [(200, {"data": [deployment("azure-sora-2", "a")]})],
        **more,
    }


def video(status: str) -> tuple[int, Any]:
    return 200, {"id": "video_1", "status": status, "seconds": "4", "error": {"code": "model_retired"}}


def a_video(*states: str, content: tuple[int, Any]) -> dict[str, list[tuple[int, Any]]]:
    return {
        **healthy(),
        "POST /v1/videos": [video("queued")],
        "GET /v1/videos/video_1": [video(state) for state in states],
        "GET /v1/videos/video_1/content": [content],
        "DELETE /v1/videos/video_1": [(200, {"deleted": True})],
    }


class Time:
    """Passes by pauses alone."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def now(self) -> float:
        return sum(self.pauses)


def check(url: str, key: str | None = "sk-master", *, video: bool = False) -> list[float]:
    """Run the check with a clock of its own; the pauses it made."""
    time = Time()
    smoke.check(Client(url, key, sleep=time.pauses.append, clock=time.now), video=video)
    return time.pauses


def run(server: Server, *, video: bool = False, key: str | None = "sk-master") -> list[float]:
    return check(server.url, key, video=video)


def test_a_gateway_that_starts_slowly_is_waited_for() -> None:
    """A cold start, and roles that do not work yet, are no faults."""
    script = healthy()
    script["GET /health/liveliness"] = [(503, {}), (502, {}), (200, "I'm alive!")]
    script["GET /health/readiness"] = [(503, {}), (200, {})]
    with serving(script) as server:
        assert len(run(server)) == 3


def test_a_gateway_that_never_starts_is_a_fault() -> None:
    """After ten minutes, with what it answered."""
    with serving({"GET /health/liveliness": [(500, {"error": "broken"})]}) as server, pytest.raises(SmokeError, match="broken"):
        run(server)


def test_nobody_listening_is_a_fault() -> None:
    """No answer at all is told apart from a bad one."""
    with serving({}) as server:
        url = server.url
    with pytest.raises(SmokeError, match="answers nothing"):
        check(url)


def test_time_that_passes_without_an_answer_counts() -> None:
    """Ten minutes are ten minutes where each request is waited for as long as it may take."""
    minutes = iter(range(0, 1200, 60))
    with serving({"GET /health/liveliness": [(500, {})]}) as server, pytest.raises(SmokeError, match="after 600 s"):
        smoke.check(Client(server.url, sleep=lambda _: None, clock=lambda: next(minutes)), video=False)
    assert len(server.asked) == 10


def test_instances_that_restart_are_no_fault() -> None:
    """An update goes on after az has said that it is done. The video that was asked for twice is
    made once.
    """
    script = a_video("completed", content=(200, MP4))
    script["GET /v1/models"].insert(0, (502, {}))
    script["POST /v1/videos"].insert(0, (503, {}))
    script["GET /v1/videos/video_1/content"].insert(0, (200, Cut(MP4)))
    with serving(script) as server:
        assert len(run(server, video=True)) == 4  # one for each, and one for the video
        first, second = server.once
        assert first.startswith("smoke-")
        assert first == second


def test_a_gateway_that_goes_on_failing_is_a_fault() -> None:
    """After a minute."""
    script = healthy(**{"GET /v1/models": [(500, {"error": "broken"})]})
    with serving(script) as server, pytest.raises(SmokeError, match="broken"):
        run(server)
    assert len([call for call, _ in server.asked if call == "GET /v1/models"]) == 7


def test_without_a_key_only_health_is_checked() -> None:
    """And nothing is sent that needs one."""
    with serving(healthy()) as server:
        run(server, key=None)
        assert {call for call, _ in server.asked} == {"GET /health/liveliness", "GET /health/readiness"}


def test_a_video_is_made_checked_and_deleted() -> None:
    """With the key on every request to the gateway, and on none to where its content is."""
    with serving({"GET /signed": [(200, MP4)]}) as storage:
        with serving(a_video("queued", "in_progress", "completed", content=(302, f"{storage.url}/signed"))) as server:
            assert len(run(server, video=True)) == 3
            assert server.asked[-1] == ("DELETE /v1/videos/video_1", "Bearer sk-master")
        assert storage.asked == [("GET /signed", None)]


def test_a_video_is_made_by_a_model_that_can() -> None:
    """The first with a deployment that is neither closed nor past its retirement, in whichever
    account that is.
    """
    choices = [
        deployment("old", "a", "2020-01-01"),
        deployment("shut", "b"),
        deployment("works", "c", "2020-01-01"),
        deployment("works", "d", "9999-01-01"),
    ]
    script = a_video("completed", content=(200, MP4)) | {
        "GET /model/info": [(200, {"data": choices})],
        "GET /health/readiness": [(200, {"status": "degraded", "closed": {"shut": {"b": "gone"}, "works": {"x": "?"}}})],
    }
    with serving(script) as server:
        run(server, video=True)
        assert server.bodies["POST /v1/videos"]["model"] == "works"


def test_without_a_usable_deployment_no_video_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    """That is said, and is no fault: the gateway itself works."""
    script = healthy(**{"GET /model/info": [(200, {"data": [deployment("old", "a", "2020-01-01")]})]})
    with serving(script) as server:
        run(server, video=True)
        assert "POST /v1/videos" not in {call for call, _ in server.asked}
    assert "No video was made" in capsys.readouterr().out


def test_a_video_that_fails_is_a_fault() -> None:
    """With the reason it gave."""
    script = a_video("failed", content=(409, {}))
    with serving(script) as server, pytest.raises(SmokeError, match="model_retired"):
        run(server, video=True)


def test_content_that_is_no_video_is_a_fault() -> None:
    """Whatever the status of the video says."""
    with serving(a_video("completed", content=(200, b"<html>"))) as server, pytest.raises(SmokeError, match="not an MP4"):
        run(server, video=True)


def test_a_video_that_never_ends_is_a_fault() -> None:
    """After half an hour."""
    with serving(a_video("in_progress", content=(409, {}))) as server, pytest.raises(SmokeError, match="still in_progress"):
        run(server, video=True)


def test_the_exit_code_tells_a_script(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """0 for a gateway that works; 1, and the reason, for one that refuses the key."""
    monkeypatch.setenv("GATEWAY_MASTER_KEY", "sk-master")
    with serving(healthy()) as server:
        assert smoke.main([server.url]) == 0
    assert "azure-sora-2" in capsys.readouterr().out
    with serving(healthy(**{"GET /v1/models": [(401, {"error": "no such key"})]})) as server:
        assert smoke.main([server.url]) == 1
    assert "no such key" in capsys.readouterr().err
