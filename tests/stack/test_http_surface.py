"""What anybody sees who speaks HTTP to the real stack: routes, keys, broken requests, ids, and what
never gets out.
"""

import json
import logging
import re
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from local.functions_host.functions import load
from local.functions_host.routing import Router
from shared.config.version import VERSION
from tests.fakes.stack import MASTER_KEY, UPSTREAM_KEY, Served, arm, client, eventually, serving, wait_for_end

# Spelled as a person would not, so that a hit is a leak.
CANARY = "Zymurgy-canary-7f3a"
FORM = "multipart/form-data; boundary=edge"


@pytest.fixture(scope="module")
def gateway(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(azurite, tmp_path_factory.mktemp("stack"), log_prompts=False) as served:
        yield served


@pytest.fixture
def caller(gateway: Served) -> Iterator[httpx.Client]:
    with gateway.client() as made:
        yield made


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error object, which has the four keys whatever went wrong."""
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, Any] = answer.json()["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    assert re.fullmatch(r"req_[0-9a-f]{24}", answer.headers["x-request-id"])
    return error


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v2/videos", "/v1/videos/a/b", "/v1/chat/completions", "/%2e%2e/x", "/v1//videos"]
)
def test_an_unknown_path_is_a_404_in_openais_form(method: str, path: str, caller: httpx.Client) -> None:
    """Whatever the method, with a key or without."""
    answer = caller.request(method, path)
    assert answer.status_code == 404
    assert error_of(answer)["code"] == "unknown_url"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v1/videos", {"GET", "POST"}),
        ("PUT", "/videos", {"GET", "POST"}),
        ("POST", "/v1/videos/video_1", {"GET", "DELETE"}),
        ("PATCH", "/openai/v1/videos/video_1", {"GET", "DELETE"}),
        ("GET", "/v1/videos/video_1/remix", {"POST"}),
        ("POST", "/v1/videos/video_1/content", {"GET", "HEAD"}),
        ("POST", "/v1/models", {"GET"}),
        ("GET", "/v1/videos/edits", {"POST"}),
        ("DELETE", "/v1/videos/extensions", {"POST"}),
        ("GET", "/v1/videos/generations", {"POST"}),
        ("DELETE", "/v1/videos/models", {"GET"}),
        ("DELETE", "/openai/v1/videos/characters/char_1", {"GET"}),
        ("GET", "/videos/video_1/remix/", {"POST"}),
    ],
)
def test_a_known_path_with_another_method_says_which_it_takes(
    method: str, path: str, allow: set[str], caller: httpx.Client
) -> None:
    """405, with `allow`, in every spelling of the path."""
    answer = caller.request(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allow
    assert error_of(answer)["code"] == "method_not_allowed"


KEYED = [
    ("POST", "/v1/videos"),
    ("GET", "/v1/videos"),
    ("GET", f"/v1/videos/video_{'0' * 32}"),
    ("DELETE", f"/v1/videos/video_{'0' * 32}"),
    ("POST", f"/v1/videos/video_{'0' * 32}/remix"),
    ("GET", f"/v1/videos/video_{'0' * 32}/content"),
    ("GET", "/v1/models"),
    ("GET", "/model/info"),
    ("POST", "/key/generate"),
    ("GET", "/key/info"),
    ("GET", "/spend/logs"),
    ("POST", "/videos/generations"),
]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer sk-wrong"},
        {"authorization": "Basic c2stMTIzNA=="},
        {"authorization": MASTER_KEY},
        {"api-key": ""},
        {"api-key": "sk-wrong"},
        {"api-key": UPSTREAM_KEY},
    ],
    ids=["none", "blank", "wrong", "basic", "no-scheme", "blank-azure", "wrong-azure", "upstreams"],
)
@pytest.mark.parametrize(("method", "path"), KEYED)
def test_without_a_valid_key_nothing_is_told(method: str, path: str, headers: dict[str, str], gateway: Served) -> None:
    """401 on every route that is not a probe, before the body or the id is looked at."""
    with gateway.client("") as nobody:
        answer = nobody.request(method, path, headers=headers, content=b"{broken")
    assert answer.status_code == 401
    error = error_of(answer)
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")


@pytest.mark.parametrize("path", ["/health", "/health/readiness", "/health/liveliness", "/health/liveness"])
def test_probes_need_no_key(path: str, gateway: Served) -> None:
    """Who watches over the gateway holds no secret of it."""
    with gateway.client("") as nobody:
        answer = nobody.get(path)
        assert answer.status_code == 200
        assert "x-request-id" in answer.headers
        assert nobody.get("/health/else").status_code == 404


def test_health_tells_the_version(gateway: Served) -> None:
    """Who asks for help can say which release it is."""
    with gateway.client("") as nobody:
        assert nobody.get("/health").json()["version"] == VERSION


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/openai/v1/models"])
def test_models_are_listed_as_clients_expect_them(path: str, gateway: Served, caller: httpx.Client) -> None:
    """The name that clients ask for, in OpenAI's list."""
    models = caller.get(path).json()
    assert models["object"] == "list"
    assert [(each["id"], each["object"]) for each in models["data"]] == [(gateway.model, "model")]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"", "application/json"),
        (b"[" * 5000, "application/json"),
        (b"prompt", "multipart/form-data"),
        (b"--edge\r\n", FORM),
        (b"--other\r\n\r\n--other--", FORM),
        (b'--edge\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nA ca', FORM),
    ],
    ids=["cut", "list", "bytes", "empty", "deep", "no-boundary", "cut-form", "other-boundary", "cut-part"],
)
def test_a_broken_body_is_the_callers_mistake(body: bytes, content_type: str, caller: httpx.Client) -> None:
    """400 with a reason, never a 500, and no video."""
    answer = caller.post("/v1/videos", content=body, headers={"content-type": content_type})
    assert answer.status_code == 400
    assert error_of(answer)["type"] == "invalid_request_error"
    assert caller.get("/v1/videos").json()["data"] == []


def test_every_answer_has_an_id_of_its_own(gateway: Served, caller: httpx.Client) -> None:
    """Good or bad, on every route."""
    with gateway.client("") as nobody:
        answers = [
            caller.get("/v1/models"),
            caller.get("/v1/videos"),
            caller.get("/nothing"),
            caller.put("/v1/videos"),
            caller.post("/v1/videos", content=b"{"),
            nobody.get("/health/liveliness"),
            nobody.get("/v1/videos"),
        ]
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)


def test_functions_sort_so_that_the_catch_all_comes_last_and_each_route_reaches_its_own() -> None:
    """The host tries them in the order of their names."""
    functions = load("function_app", {"TASK_HUB": "x"})
    names = [each.name for each in functions.triggered_by("httpTrigger")]
    assert names[-1] == "zz_other_path"
    router = Router(functions)
    video = f"/v1/videos/video_{'0' * 32}"
    for method, path, name in [
        ("POST", "/v1/videos", "create_video"),
        ("GET", "/v1/videos", "list_videos"),
        ("GET", video, "get_video"),
        ("DELETE", video, "delete_video"),
        ("POST", f"{video}/remix", "remix_video"),
        ("GET", f"{video}/content", "get_content"),
        ("HEAD", f"{video}/content", "get_content"),
        ("GET", "/v1/models", "list_models"),
        ("GET", "/health", "health"),
        ("GET", "/health/readiness", "health"),
        ("POST", "/key/generate", "keys"),
        ("GET", "/key/info", "keys"),
        ("GET", "/spend/logs", "spend_logs"),
        ("GET", "/spend/report", "spend_report"),
        ("GET", "/model/info", "model_info"),
        ("POST", "/videos/generations", "zz_other_path"),
        ("POST", "/v1/videos/generations", "zz_other_path"),
        ("GET", "/openai/v1/videos", "zz_other_path"),
        ("GET", "/", "zz_other_path"),
    ]:
        found = router.find(method, path)
        assert found is not None
        assert found.function.name == name


def test_no_route_has_a_neighbour_of_the_same_name_in_other_letters() -> None:
    """Names are compared without case: two that differ in nothing else would be one."""
    names = [each.name.upper() for each in load("function_app", {"TASK_HUB": "x"}).members]
    assert all(before < after for before, after in pairwise(names))


def test_no_secret_prompt_or_upstream_address_gets_out(gateway: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Through whole generations, good and bad, at the level that Azure logs: not in a log line, an
    error or a header.
    """
    caplog.set_level(logging.INFO)
    logging.getLogger("gateway").setLevel(logging.DEBUG)
    key = gateway.new_key()
    said: list[str] = []

    def faults() -> httpx.Response:
        return httpx.get(f"{gateway.upstream}/_sim/faults", trust_env=False)

    with client(gateway.url, key) as caller:

        def told(answer: httpx.Response) -> httpx.Response:
            """Headers, and the body of an error: a video has its own prompt."""
            headers = {name: value for name, value in answer.headers.items() if name != "location"}
            said.append(json.dumps(headers) + (answer.text if answer.is_error else ""))
            return answer

        arm(gateway.upstream, kind="garble", operation="get", form="malformed_json")
        arm(gateway.upstream, kind="truncate", operation="content")
        arm(gateway.upstream, kind="status", operation="create", status=500, message=f"{CANARY} at {gateway.upstream}")
        told(caller.post("/v1/videos", json={"prompt": f"{CANARY} unclear"}))
        for words in ("cat", "forbidden cat", "disturbing cat", "unlucky cat"):
            answer = told(caller.post("/v1/videos", json={"prompt": f"{CANARY} {words}", "user": "somebody"}))
            video = wait_for_end(caller, answer.json()["id"])
            told(caller.get(f"/v1/videos/{video['id']}"))
            told(caller.get(f"/v1/videos/{video['id']}/content"))
            told(caller.get(f"/v1/videos/{video['id']}/content", params={"variant": "thumbnail"}))
            said.append(json.dumps(video["error"]))
        eventually(lambda: faults().json() == {})
        for fault in ({"status": 400, "message": "Not possible."}, {"documented": "E1"}):
            arm(gateway.upstream, kind="status", operation="create", **fault)
            answer = told(caller.post("/v1/videos", json={"prompt": f"{CANARY} {fault}"}))
            said.append(json.dumps(wait_for_end(caller, answer.json()["id"])["error"]))
        told(caller.post("/v1/videos", json={"prompt": CANARY, "seconds": 5}))
        told(caller.post("/v1/videos", json={"prompt": CANARY, "model": UPSTREAM_KEY}))
        told(caller.post("/v1/videos", content=f'{{"prompt": "{CANARY}'.encode()))
    # The clients of this test, in this thread, may log what they like.
    ours = [record for record in caplog.records if record.thread != threading.main_thread().ident]
    lines = [f"{record.name}: {record.getMessage()} {record.exc_text or ''}" for record in ours]
    assert any(line.startswith("gateway: video ") for line in lines)
    for secret in (CANARY, UPSTREAM_KEY, key, MASTER_KEY, urlsplit(gateway.upstream).netloc, "sig="):
        assert [line for line in lines if secret in line] == []
        assert [line for line in said if secret in line] == []
