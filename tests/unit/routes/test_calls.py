"""From a request as the host gives it to a response as clients read it."""

import io
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import gateway as composition
from shared.errors import BudgetExceeded, Conflict, GatewayError, NotFound, RateLimited, Retired, StorageUnavailable
from shared.routes import content, health, models, paths, videos
from shared.routes.calls import Answer, Call, Handler, Request
from tests.fakes import asking
from tests.fakes.asking import Reply, ask

# What the client says of the API's own end, at every call.
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")]

KEY = "sk-master-of-the-tests"
BEARER = {"Authorization": f"Bearer {KEY}"}
FORM = "multipart/form-data; boundary=edge"


@pytest.fixture(autouse=True)
def app_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the app is told. Nothing here connects to storage."""
    monkeypatch.setenv("GATEWAY_CONFIG", str(Path(__file__).parents[3] / "config.yaml"))
    monkeypatch.setenv("AzureWebJobsStorage", "UseDevelopmentStorage=true")
    monkeypatch.setenv("AZURE_OPENAI_API_BASE", "https://resource.openai.azure.com")
    monkeypatch.setenv("GATEWAY_MASTER_KEY", KEY)


def request(body: bytes = b"", content_type: str | None = None, headers: Mapping[str, str] | None = None) -> Request:
    typed = {"content-type": content_type} if content_type else {}
    return asking.request("POST", body, {**(headers or {}), **typed})


async def answered(handler: Handler, asked: Request | None = None) -> Reply:
    return await ask(asked or request(), handler)


def error_of(response: Reply) -> dict[str, Any]:
    error: dict[str, Any] = response.json["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    return error


async def fields(call: Call) -> Answer:
    """A handler that says what it was sent, and what it is in Python."""
    return Answer(
        {name: value if isinstance(value, str | dict) else repr(value) for name, value in (await call.fields()).items()}
    )


async def sent(body: bytes, content_type: str | None = None) -> Any:
    """The fields that come of a body."""
    response = await answered(fields, request(body, content_type))
    assert response.status == 200, response.body
    return response.json


def part(disposition: str, content: str = "x", *lines: str) -> str:
    return "\r\n".join(["--edge", f"Content-Disposition: form-data; {disposition}", *lines, "", content, ""])


def form(*parts: str) -> bytes:
    return ("".join(parts) + "--edge--\r\n").encode()


def captured(ask: Callable[[openai.OpenAI], Any]) -> Request:
    """What the official client sends, as the host hands it on."""
    kept: list[Request] = []

    def keep(sent: httpx2.Request) -> httpx2.Response:
        kept.append(asking.request(sent.method, sent.read(), sent.headers))
        return httpx2.Response(200, json={"id": "video_1", "object": "video", "status": "queued"})

    with httpx2.Client(transport=httpx2.MockTransport(keep)) as transport:
        ask(openai.OpenAI(api_key=KEY, base_url="http://gateway/v1", http_client=transport))
    return kept[0]


async def read(ask: Callable[[openai.OpenAI], Any]) -> Any:
    response = await answered(fields, captured(ask))
    assert response.status == 200, response.body
    return response.json


async def test_the_official_clients_create_is_read() -> None:
    """It is always multipart, even without a file; what is not given is not there."""
    assert await read(lambda client: client.videos.create(prompt="Ein Käfer 🪲\r\nim Gras")) == {
        "prompt": "Ein Käfer 🪲\r\nim Gras"
    }
    full = await read(lambda client: client.videos.create(prompt="A cat", model="azure-sora-2", seconds="8", size="1280x720"))
    assert full == {"prompt": "A cat", "model": "azure-sora-2", "seconds": "8", "size": "1280x720"}


@pytest.mark.parametrize(
    "image", [b"image", io.BytesIO(b"image"), ("cat.png", b"image", "image/png")], ids=["bytes", "file", "named"]
)
async def test_the_official_clients_reference_is_read(image: Any) -> None:
    """Bytes, an open file, or bytes with a name and a type: the bytes arrive."""
    assert (await read(lambda client: client.videos.create(prompt="A cat", input_reference=image)))[
        "input_reference"
    ] == "b'image'"


async def test_the_official_clients_extra_metadata_is_read() -> None:
    """In a form an object becomes one part for each of its keys."""
    extra = {"metadata": {"shot": "7", "a b": "c"}, "user": "u"}
    read_back = await read(lambda client: client.videos.create(prompt="A cat", extra_body=extra))
    assert (read_back["metadata"], read_back["user"]) == ({"shot": "7", "a b": "c"}, "u")


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", None, "text/plain"])
async def test_json_is_read_whatever_it_is_called(content_type: str | None) -> None:
    """Tools forget the content type, and there is nothing else it could be."""
    assert await sent(b'{"prompt":"A cat","metadata":{"a":"b"}}', content_type) == {"prompt": "A cat", "metadata": {"a": "b"}}


async def test_a_form_without_files_is_read() -> None:
    """As simple tools send it."""
    assert await sent(b"prompt=A+cat&seconds=8", "application/x-www-form-urlencoded") == {"prompt": "A cat", "seconds": "8"}


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"x"', b"null", b"\xff", b'{"a":"\\ud83d"}', b"[" * 100_000, b'{"a":1}x'])
async def test_broken_json_is_the_callers_mistake(body: bytes) -> None:
    """400, whatever it is that is broken."""
    response = await answered(fields, request(body, "application/json"))
    assert response.status == 400
    assert (error_of(response)["code"], error_of(response)["param"]) == ("invalid_json", "request_body")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", FORM),
        (b"garbage", FORM),
        (b"garbage", "multipart/form-data"),
        (b"garbage", "multipart/form-data; boundary="),
        (form(part('name="prompt"'))[:-30], FORM),
        (form(part('name="prompt"')), "multipart/form-data; boundary=other"),
        (b"--edge\r\n\r\n\r\nx\r\n--edge--", FORM),
        (form(part("")), FORM),
        (form(part('filename="a"')), FORM),
        (form(part('name="metadata"'), part('name="metadata[a]"')), FORM),
        (form(part('name="metadata[a]"'), part('name="metadata"', "{")), FORM),
        (form(part('name="prompt[a]"')), FORM),
        (form(part('name="prompt"; filename="a"')), FORM),
        (form(part('name="prompt"', "x", "Content-Type: text/plain; charset=klingon")).replace(b"prompt", b"promt"), FORM),
        (b"=&&%zz=%", "application/x-www-form-urlencoded"),
    ],
)
async def test_a_broken_form_is_the_callers_mistake(body: bytes, content_type: str) -> None:
    """400 and never 500: what can be read of it is not a valid request."""
    asked = request(body, content_type, BEARER)
    response = await answered(videos.create_video, asked)
    assert response.status == 400
    assert error_of(response)["type"] == "invalid_request_error"


PIECES = [
    "--edge",
    "--",
    "\r\n",
    "\r\n\r\n",
    "Content-Disposition: form-data; ",
    'name="prompt"',
    'filename="a"',
    "name=",
    "*=utf-8''%ff",
]


@settings(max_examples=60, suppress_health_check=list(HealthCheck))  # settings stay the same
@given(
    st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=15).map("".join),
    st.sampled_from([FORM, "application/json"]),
)
async def test_no_body_crashes_the_reading(body: str, content_type: str) -> None:
    """It has fields, or it is the caller's mistake."""
    asked = request(body.encode(), content_type)

    async def counted(call: Call) -> Answer:
        return Answer(len(await call.fields()))

    assert (await answered(counted, asked)).status in (200, 400)


async def test_a_body_beyond_every_limit_is_refused_unread() -> None:
    """A reference image of 20 MiB fits, in base64 too; a film does not."""
    response = await answered(fields, request(b" " * (32 * 1024 * 1024 + 1)))
    assert (response.status, error_of(response)["code"]) == (413, "request_too_large")


def raising(error: Exception) -> Handler:
    async def handler(call: Call) -> Answer:
        raise error

    return handler


async def test_an_unexpected_error_is_logged_once_and_told_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets a clean 500 with the id under which the log has the rest."""
    response = await answered(raising(ValueError("secret inside")))
    assert response.status == 500
    request_id = response.headers["x-request-id"]
    assert request_id in error_of(response)["message"]
    assert b"secret" not in response.body
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.ERROR, "gateway")
    assert request_id in record.getMessage()
    assert record.exc_info is not None


async def test_an_expected_error_is_an_answer_and_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """The log is not for callers' mistakes."""
    response = await answered(raising(NotFound("No such video.", param="video_id")))
    assert response.status == 404
    assert error_of(response) == {
        "message": "No such video.",
        "type": "invalid_request_error",
        "param": "video_id",
        "code": "video_not_found",
    }
    assert caplog.records == []


async def test_a_mistake_in_the_configuration_is_for_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Callers learn that there is one, operators which; and the app still says that it is alive."""
    monkeypatch.setenv("AZURE_OPENAI_API_BASE", "https://r.services.ai.azure.com/api/projects/p")
    response = await answered(models.list_models)
    assert (response.status, response.headers["x-should-retry"]) == (500, "false")
    assert (await answered(health.health, asking.request(probe="liveliness"))).status == 200
    assert "projects" not in error_of(response)["message"]
    (record,) = caplog.records
    assert "/api/projects" in record.getMessage()


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (StorageUnavailable("Later."), 503, {}),
        (StorageUnavailable("Later.", retry_after=1.5), 503, {"retry-after": "2", "retry-after-ms": "1500"}),
        (RateLimited("Later.", retry_after=0.2), 429, {"retry-after": "1", "retry-after-ms": "200"}),
        (RateLimited("Later.", retry_after=0), 429, {"retry-after": "1", "retry-after-ms": "1"}),
        (BudgetExceeded("No."), 429, {"x-should-retry": "false"}),
        (Conflict("No."), 409, {"x-should-retry": "false"}),
        (Retired("Gone."), 502, {"x-should-retry": "false"}),
        (GatewayError("Oh."), 500, {}),
        (NotFound("No.", headers={"allow": "GET"}), 404, {"allow": "GET"}),
    ],
)
async def test_an_error_tells_the_client_whether_and_when_to_come_back(
    error: GatewayError, status: int, headers: dict[str, str]
) -> None:
    """In seconds and in milliseconds, both whole and never zero; the official client would drop a
    zero.
    """
    response = await answered(raising(error))
    told = {
        name: value for name, value in response.headers.items() if name not in ("x-request-id", "cache-control", "content-type")
    }
    assert (response.status, told) == (status, headers)


async def test_every_answer_has_a_request_id_of_its_own() -> None:
    """Good ones, bad ones, and ones that were never meant to be."""

    async def fine(call: Call) -> Answer:
        return Answer(b"", 302, {"location": "https://elsewhere"})

    handlers = [fine, raising(NotFound("No.")), raising(ValueError())]
    ids = [(await answered(handler)).headers["x-request-id"] for handler in handlers]
    assert len(set(ids)) == 3
    assert all(re.fullmatch("req_[0-9a-f]{24}", each) for each in ids)


async def test_a_body_is_json_unless_it_is_bytes() -> None:
    """And nothing of it is kept by caches on the way."""

    async def pieces(call: Call) -> Answer:
        return Answer(b"\0\1", 206, {"content-range": "bytes 0-1/9"}, "video/mp4")

    async def text(call: Call) -> Answer:
        return Answer({"ä": [1, None]})

    binary, plain = await answered(pieces), await answered(text)
    assert (binary.body, binary.headers["content-type"], binary.status) == (b"\0\1", "video/mp4", 206)
    assert (plain.body, plain.headers["content-type"]) == ('{"ä":[1,null]}'.encode(), "application/json")
    assert plain.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY} "},
        {"api-key": KEY},
        {"Authorization": "Basic x", "api-key": KEY},
    ],
)
async def test_a_key_comes_in_either_header(headers: dict[str, str]) -> None:
    """As the official client sends it, and as its Azure form does."""
    assert (await answered(models.list_models, request(headers=headers))).status == 200


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": ""}, {"Authorization": "Bearer "}, {"Authorization": f"Basic {KEY}"}, {"api-key": ""}]
)
async def test_without_a_key_nobody_gets_in(headers: dict[str, str]) -> None:
    """401, with the two ways to send one."""
    response = await answered(models.list_models, request(headers=headers))
    assert (response.status, error_of(response)["type"]) == (401, "authentication_error")
    assert "api-key" in error_of(response)["message"]


@pytest.mark.parametrize("secret", ["\udcff\udcfe", "sk-ünïcode", "sk-" + "x" * 10_000, KEY + "\udcff", KEY[:-1]])
async def test_another_key_is_no_key(secret: str, azurite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one of bytes that are no text."""
    monkeypatch.setenv("AzureWebJobsStorage", azurite)

    async def listed(call: Call) -> Answer:
        try:
            return await models.list_models(call)
        finally:
            await call.gateway.close()

    response = await answered(listed, request(headers={"api-key": secret}))
    assert (response.status, error_of(response)["code"]) == (401, "invalid_api_key")


PREFIXES = ["", "v1/", "openai/v1/", "openai/", "/", "/v1/"]


@pytest.mark.parametrize("spelling", ["{}", "{}/", "/{}", "v1/{}", "/v1/{}/", "openai/v1/{}", "openai/{}", "openai/{}/"])
@pytest.mark.parametrize(
    ("asked", "handler", "parts"),
    [
        ("POST videos", videos.create_video, {}),
        ("POST videos/generations", videos.create_video, {}),
        ("GET videos", videos.list_videos, {}),
        ("GET videos/video_1", videos.get_video, {"video_id": "video_1"}),
        ("GET videos/video_1/content", content.get_content, {"video_id": "video_1"}),
        ("HEAD videos/video_1/content", content.get_content, {"video_id": "video_1"}),
        ("GET models", models.list_models, {}),
    ],
)
def test_every_spelling_leads_to_the_same_handler(spelling: str, asked: str, handler: Handler, parts: dict[str, str]) -> None:
    """With /v1 and without, and as the official client for Azure has it."""
    method, _, path = asked.partition(" ")
    route = paths.find(method, spelling.format(path))
    assert (route.handler, route.parts) == (handler, parts)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "v2/videos",
        "videos/a/b/c",
        "video",
        "favicon.ico",
        "openai/openai/videos",
        "videos/a/content/b",
        "V1/VIDEOS",
        "x" * 9_000,
    ],
)
async def test_an_unknown_path_is_a_404_in_openais_form(path: str) -> None:
    """For every method, and without a page of HTML."""
    response = await answered(paths.other_path, asking.request("POST", headers=BEARER, path=path))
    assert (response.status, error_of(response)["code"]) == (404, "unknown_url")
    assert len(response.body) < 600


@pytest.mark.parametrize("path", ["openai/v1/video/generations/jobs", "video/generations", "openai/deployments/sora-2/videos"])
def test_the_paths_of_older_apis_get_a_hint(path: str) -> None:
    """People follow old instructions."""
    with pytest.raises(NotFound, match="POST /v1/videos"):
        paths.find("POST", path)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "v1/videos", "POST, GET"),
        ("PATCH", "models", "GET"),
        ("POST", "openai/videos/video_1/content", "GET, HEAD"),
    ],
)
async def test_a_known_path_with_another_method_says_which_it_takes(method: str, path: str, allow: str) -> None:
    """405 with `allow`."""
    response = await answered(paths.other_path, asking.request(method, headers=BEARER, path=path))
    assert (response.status, response.headers["allow"]) == (405, allow)


async def test_the_official_client_understands_our_errors() -> None:
    """Its exceptions carry the code, the parameter and the request's id."""

    async def gateway(sent: httpx2.Request) -> httpx2.Response:
        asked = asking.request(sent.method, await sent.aread(), sent.headers)
        response = await answered(videos.create_video, asked)
        return httpx2.Response(response.status, headers=response.headers, content=response.body)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(gateway)) as transport:
        client = openai.AsyncOpenAI(api_key=KEY, base_url="http://gateway/v1", http_client=transport)
        with pytest.raises(openai.BadRequestError) as raised:
            await client.videos.create(prompt="A cat", size="1024x1792")
    error = raised.value
    assert (error.param, error.code, error.type) == ("size", "invalid_value", "invalid_request_error")
    assert (error.request_id or "").startswith("req_")
    assert '"720x1280", "1280x720"' in error.message


async def test_a_gateway_that_cannot_be_made_is_a_clean_500(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a reason that nobody expected, which stays inside. What needs no gateway works."""

    def broken() -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(composition, "current", broken)
    refused = await answered(models.list_models)
    assert (refused.status, refused.code) == (500, "internal_error")
    assert b"secret" not in refused.body
    live = await ask(asking.request(probe="liveliness"), health.health)
    assert live.status == 200
