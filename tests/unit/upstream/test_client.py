"""The client of the /videos dialect: what it sends, and what it makes of the answers."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import httpx
import msgspec
import pytest
from azure.core.exceptions import ClientAuthenticationError

from shared.config.catalog import Deployment
from shared.dialects import known
from shared.dialects.dialect import Ask
from shared.errors import (
    Busy,
    Denied,
    Misrouted,
    Missing,
    Refused,
    Retired,
    Uncertain,
    Unreachable,
    UpstreamError,
    envelope,
)
from shared.media.reference_image import Reference
from shared.upstream.client import Accepted, Upstream
from shared.upstream.jobs import JobError
from tests.fakes.clock import VirtualClock
from tests.fakes.upstream import unread

pytestmark = pytest.mark.anyio

AZURE = Deployment("east/sora-2", known.AZURE, "my-deployment", "https://east.example/openai/v1", api_key="key-secret")
BY_IDENTITY = Deployment(
    "east/sora-2", known.AZURE, "my-deployment", "https://east.example/openai/v1", token_scope="https://scope/.default"
)
OTHER = Deployment("gpu/wan", known.OPENAI, "wan-2", "https://gpu.example/v1", api_key="key-secret")
OPEN = Deployment("gpu/wan", known.OPENAI, "wan-2", "http://gpu.example/v1")
JOB = {"id": "video_1", "status": "queued"}
REFERENCE = Reference(b"\x89PNG...", "image/png")

Reply = httpx.Response | Exception


@dataclass
class Wire:
    """Answers with `replies`, one after the other, and keeps what was asked."""

    replies: list[Reply]
    asked: list[httpx.Request] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)
    renewals: int = 0

    def answer(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return unread(reply)

    async def token(self, scope: str, *, renew: bool = False) -> str:
        self.scopes.append(scope)
        self.renewals += renew
        return f"token-{len(self.scopes)}"


async def used(deployment: Deployment, do: Callable[[Upstream], Awaitable[Any]], *replies: Reply) -> tuple[Any, Wire]:
    """What comes of `do` with these answers, and the wire it went over."""
    wire = Wire(list(replies))
    async with httpx.AsyncClient(transport=httpx.MockTransport(wire.answer)) as client:
        return await do(Upstream(deployment, lambda: client, wire.token, VirtualClock())), wire


async def failure(do: Callable[[Upstream], Awaitable[Any]], *replies: Reply) -> UpstreamError:
    with pytest.raises(UpstreamError) as raised:
        await used(AZURE, do, *replies)
    return raised.value


async def create(upstream: Upstream) -> Accepted:
    return await upstream.create(Ask("A cat", 8, "1280x720"))


async def create_with_reference(upstream: Upstream) -> Accepted:
    return await upstream.create(Ask("Ein Käfer 🪲\r\n--edge--", 4, "720x1280"), REFERENCE)


async def remix(upstream: Upstream) -> Accepted:
    return await upstream.remix("video_1", "A dog")


async def get(upstream: Upstream) -> Any:
    return await upstream.get("video_1")


async def recent(upstream: Upstream) -> Any:
    return await upstream.recent(datetime(2026, 11, 22, 12, 0, tzinfo=UTC))


async def delete(upstream: Upstream) -> None:
    await upstream.delete("video_1")


async def download(upstream: Upstream) -> Any:
    async with upstream.content("video_1") as content:
        return content.length, content.media_type, b"".join([chunk async for chunk in content.chunks])


MAKING, LOOKING = [create, remix], [get, recent, delete, download]


def ok(body: Any = JOB, **headers: str) -> httpx.Response:
    return httpx.Response(200, json=body, headers=headers)


def film(body: bytes = b"film", **headers: str) -> httpx.Response:
    given = {"content-type": "video/mp4", "content-length": str(len(body)), **headers}
    return httpx.Response(200, stream=httpx.ByteStream(body), headers=given)


def moved(location: str, status: int = 302) -> httpx.Response:
    return httpx.Response(status, headers={"location": location})


def parts(request: httpx.Request) -> list[tuple[str, str | None, str | None, bytes]]:
    """Name, filename, declared type and content of each part of a form."""
    head = b"Content-Type: " + request.headers["content-type"].encode() + b"\r\n\r\n"
    message = BytesParser(policy=HTTP).parsebytes(head + request.content)
    found = []
    for part in message.iter_parts():
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        name = str(part.get_param("name", header="content-disposition"))
        found.append((name, part.get_filename(), part["content-type"], content))
    return found


async def test_a_create_is_a_form_of_texts() -> None:
    """One form that all servers of the dialect take: no part of text has a filename or a type, and
    seconds are text.
    """
    _, wire = await used(AZURE, create, ok())
    (request,) = wire.asked
    assert (request.method, str(request.url)) == ("POST", "https://east.example/openai/v1/videos")
    assert parts(request) == [
        ("model", None, None, b"my-deployment"),
        ("prompt", None, None, b"A cat"),
        ("seconds", None, None, b"8"),
        ("size", None, None, b"1280x720"),
    ]


async def test_a_reference_is_a_file_with_a_name_and_its_real_type() -> None:
    """Without a filename the upstream takes it for text; what the caller called it plays no
    part.
    """
    _, wire = await used(AZURE, create_with_reference, ok())
    *texts, file = parts(wire.asked[0])
    assert file == ("input_reference", "reference.png", "image/png", REFERENCE.data)
    assert texts[1] == ("prompt", None, None, "Ein Käfer 🪲\r\n--edge--".encode())


async def test_a_remix_is_json_with_a_prompt() -> None:
    """The upstream knows no other parameter for it."""
    _, wire = await used(AZURE, remix, ok())
    (request,) = wire.asked
    assert (request.method, request.url.path) == ("POST", "/openai/v1/videos/video_1/remix")
    assert request.headers["content-type"] == "application/json"
    assert msgspec.json.decode(request.content) == {"prompt": "A dog"}


@pytest.mark.parametrize(
    ("do", "line"),
    [
        (get, "GET https://gpu.example/v1/videos/video_1"),
        (recent, "GET https://gpu.example/v1/videos?limit=100&order=desc"),
        (delete, "DELETE https://gpu.example/v1/videos/video_1"),
        (download, "GET https://gpu.example/v1/videos/video_1/content"),
    ],
)
async def test_any_other_server_has_the_same_operations(do: Callable[[Upstream], Awaitable[Any]], line: str) -> None:
    """Under /v1, without an api-version."""
    _, wire = await used(OTHER, do, ok({"data": [], **JOB}))
    assert f"{wire.asked[0].method} {wire.asked[0].url}" == line


async def test_a_variant_is_a_parameter_and_the_video_itself_needs_none() -> None:
    """A server that only knows the video is not asked for what it may not understand."""

    async def thumbnail(upstream: Upstream) -> None:
        async with upstream.content("video_1", "thumbnail"):
            pass

    _, wire = await used(AZURE, thumbnail, film())
    assert wire.asked[0].url.query == b"variant=thumbnail"


async def test_a_configured_api_version_is_sent_with_every_operation() -> None:
    """And is not sent where none is configured."""
    preview = Deployment("e", known.AZURE, "m", "https://east.example/openai/v1", api_key="k", api_version="preview")
    for do in (create, remix, get, recent, delete, download):
        _, wire = await used(preview, do, ok({"data": [], **JOB}))
        assert wire.asked[0].url.params["api-version"] == "preview"
        _, wire = await used(AZURE, do, ok({"data": [], **JOB}))
        assert "api-version" not in wire.asked[0].url.params


@pytest.mark.parametrize(
    ("deployment", "expected"),
    [
        (AZURE, {"api-key": "key-secret"}),
        (BY_IDENTITY, {"authorization": "Bearer token-1"}),
        (OTHER, {"authorization": "Bearer key-secret"}),
        (OPEN, {}),
    ],
)
@pytest.mark.parametrize("do", [*MAKING, *LOOKING])
async def test_each_kind_of_upstream_has_its_credentials(
    do: Callable[[Upstream], Awaitable[Any]], deployment: Deployment, expected: dict[str, str]
) -> None:
    """A key in Azure's header or as a bearer, an identity's token of the configured scope, or
    nothing; never two.
    """
    _, wire = await used(deployment, do, ok({"data": [], **JOB}))
    headers = wire.asked[0].headers
    assert {name: headers[name] for name in ("api-key", "authorization") if name in headers} == expected
    assert wire.scopes == (["https://scope/.default"] if deployment is BY_IDENTITY else [])


async def test_every_call_asks_for_a_token_anew() -> None:
    """A long wait outlives a token; whoever gives them keeps and renews them."""

    async def twice(upstream: Upstream) -> None:
        await upstream.get("video_1")
        await upstream.get("video_1")

    _, wire = await used(BY_IDENTITY, twice, ok(), ok())
    assert [each.headers["authorization"] for each in wire.asked] == ["Bearer token-1", "Bearer token-2"]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_renewed_once_and_the_request_repeated_once(status: int) -> None:
    """A token may run out between two polls; a second refusal is the vendor's word."""
    denied = httpx.Response(status, json={"error": {"code": str(status), "message": "Access denied"}})
    _, wire = await used(BY_IDENTITY, create, denied, ok())
    assert ([each.headers["authorization"] for each in wire.asked], wire.renewals) == (["Bearer token-1", "Bearer token-2"], 1)
    raised = await failure(create, denied)
    assert isinstance(raised, Denied), "a key of our own cannot be renewed: it is asked once"


async def test_without_a_token_nothing_is_sent() -> None:
    """So nothing happened upstream, and the create may be repeated."""

    async def no_token(scope: str, *, renew: bool = False) -> str:
        raise ClientAuthenticationError("The identity 1234 is not assigned.")

    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda request: ok())) as client:
        with pytest.raises(Unreachable) as raised:
            await create(Upstream(BY_IDENTITY, lambda: client, no_token, VirtualClock()))
    assert "1234" not in str(envelope(raised.value))


@asynccontextmanager
async def loopback(answer: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives every connection the same bytes, and keeps the request heads it
    was sent.
    """
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        heads.append(head)
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/openai/v1", heads


async def over_loopback(do: Callable[[Upstream], Awaitable[Any]], answer: bytes) -> tuple[Any, bytes]:
    """What comes of `do` over a real connection, and the request's head."""
    async with loopback(answer) as (base, heads), httpx.AsyncClient(trust_env=False) as client:
        deployment = Deployment("l", known.AZURE, "m", base, api_key="k", api_version="preview")
        upstream = Upstream(deployment, lambda: client, Wire([]).token, VirtualClock())
        try:
            return await do(upstream), heads[0]
        except UpstreamError as error:
            return error, heads[0]


ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 27\r\nConnection: close\r\n\r\n{"id":"video_1","data":[] }'


@pytest.mark.parametrize("do", [create_with_reference, remix, get, recent, delete, download])
async def test_no_request_has_more_headers_than_azure_takes(do: Callable[[Upstream], Awaitable[Any]]) -> None:
    """Ten at most, with everything that the HTTP client adds; more are answered with 431."""
    result, head = await over_loopback(do, ANSWER)
    assert not isinstance(result, UpstreamError)
    assert len(head.strip().splitlines()) - 1 <= 10


@pytest.mark.parametrize(
    ("answer", "do", "leaf"),
    [
        (b"", create, Uncertain),
        (b"", get, Unreachable),
        (ANSWER[:-5], create, Uncertain),
        (ANSWER[:-5], get, Unreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf a film", download, Unreachable),
        (b"220 mail ready\r\n", create, Uncertain),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nnot", create, Uncertain),
    ],
)
async def test_a_connection_that_breaks_after_the_request_leaves_a_create_uncertain(
    answer: bytes, do: Callable[[Upstream], Awaitable[Any]], leaf: type[UpstreamError]
) -> None:
    """Cut before, in or instead of an answer, over a real connection; a look may simply be
    repeated.
    """
    assert type((await over_loopback(do, answer))[0]) is leaf


BROKEN = [
    httpx.ReadTimeout,
    httpx.WriteTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.RemoteProtocolError,
    httpx.DecodingError,
]
NEVER_MADE = [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol]


@pytest.mark.parametrize("error", [*BROKEN, *NEVER_MADE], ids=lambda error: error.__name__)
@pytest.mark.parametrize("do", [*MAKING, *LOOKING])
async def test_only_a_connection_that_was_never_made_proves_that_nothing_happened(
    do: Callable[[Upstream], Awaitable[Any]], error: type[httpx.RequestError]
) -> None:
    """Then even a create may be repeated. The message names no address: errors reach
    callers.
    """
    found = await failure(do, error("Cannot connect to east.example"))
    assert type(found) is (Uncertain if do in MAKING and error in BROKEN else Unreachable)
    assert "east" not in str(envelope(found))
    assert found.report.message == error.__name__


@pytest.mark.parametrize(
    ("status", "making", "looking"),
    [
        (500, Uncertain, Unreachable),
        (408, Uncertain, Unreachable),
        (401, Denied, Denied),
        (410, Retired, Retired),
        (429, Busy, Busy),
    ],
)
async def test_refusals_are_classified_by_what_was_asked(
    status: int, making: type[UpstreamError], looking: type[UpstreamError]
) -> None:
    """Creates and remixes can have made a job, everything else cannot."""
    for do in (*MAKING, *LOOKING):
        assert type(await failure(do, httpx.Response(status))) is (making if do in MAKING else looking)


async def test_only_a_path_that_names_a_video_can_miss_one() -> None:
    """A 404 on the list is a wrong route."""
    body = {"error": {"message": "Video not found."}}
    kinds = [type(await failure(do, httpx.Response(404, json=body))) for do in LOOKING]
    assert kinds == [Missing, Misrouted, Missing, Missing]


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_any_2xx_is_an_acceptance(status: int) -> None:
    """The exact code of a create is not documented. The request id is kept for the vendor."""
    response = httpx.Response(status, json={"id": "video_1", "unknown": [1]}, headers={"apim-request-id": "a-1"})
    accepted, _ = await used(AZURE, create, response)
    assert (accepted.job.id, accepted.job.status, accepted.request_id) == ("video_1", "queued", "a-1")


async def test_a_job_is_read_in_every_spelling() -> None:
    """Whole numbers, decimals, numbers as text, and servers that say little."""
    error: dict[str, Any] = {"code": "moderation_blocked", "message": "No.", "type": None, "misalignment": {}}
    full = {**JOB, "progress": 12.5, "created_at": "1760627796", "seconds": 4, "error": error, "prompt": None}
    job, _ = await used(AZURE, get, ok(full))
    assert (job.progress, job.created_at, job.length, job.reason.code) == (12.5, 1760627796.0, "4", "moderation_blocked")
    unreadable = [{"id": 7}, {"created_at": 1760627796, "id": None}, "video_3"]
    listed, _ = await used(
        AZURE, recent, ok({"object": "list", "data": [JOB, *unreadable, {"id": "video_2"}], "has_more": False})
    )
    assert [each.id for each in listed.jobs] == ["video_1", "video_2"]
    assert listed.unreadable == [None, 1760627796, None]


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_a_failed_job_is_read_under_any_status(status: int) -> None:
    """vLLM-Omni tells it as an HTTP error, with an integer as its code."""
    failed = {**JOB, "status": "failed", "error": {"code": 500, "message": "CUDA out of memory"}}
    job, _ = await used(OTHER, get, httpx.Response(status, json=failed))
    assert (job.status, job.reason) == ("failed", JobError(None, "CUDA out of memory"))


@pytest.mark.parametrize("body", [{"id": "video_2", "status": "failed"}, {"detail": "engine"}, ["video_1"]])
async def test_an_error_about_something_else_is_no_job(body: Any) -> None:
    """Only the very job that was asked for."""
    assert type(await failure(get, httpx.Response(500, json=body))) is Unreachable


@pytest.mark.parametrize("told", [{"code": 500, "message": "no"}, {"code": 500.0}, [1], 7, "no", None])
async def test_a_neighbours_failure_leaves_its_job_readable(told: Any) -> None:
    """A list with an entry that cannot be read proves nothing."""
    listed, _ = await used(OTHER, recent, ok({"data": [{**JOB, "status": "failed", "error": told}], "has_more": False}))
    assert ([each.id for each in listed.jobs], listed.unreadable) == (["video_1"], [])


@pytest.mark.parametrize("body", [{"detail": "Not Found"}, {"error": {"message": "Resource not found"}}])
async def test_a_server_without_remix_says_nothing_of_its_other_routes(body: Any) -> None:
    """Else one remix would close the deployment for everybody."""
    error = await failure(remix, httpx.Response(404, json=body))
    assert (type(error), error.code) == (Refused, "not_supported")


async def test_a_refusal_that_quotes_where_and_with_what_it_was_asked_is_not_passed_on() -> None:
    """The upstream's words reach callers; its address and our key do not."""
    error = await failure(
        create, httpx.Response(400, json={"error": {"message": "Bad key key-secret at https://east.example/openai"}})
    )
    told = f"{error.message} {error.report}"
    assert "key-secret" not in told
    assert "east.example" not in told
    assert "Bad key" in told


UNREADABLE = [
    b"",
    b"{",
    b"<html>",
    b"\xff",
    b"[]",
    b"null",
    b"{}",
    b'{"id":7}',
    b'{"id":null}',
    b'{"id":""}',
    b'{"id":"%s"}' % (b"v" * 40_000),
    b'{"x":' + b"[" * 100_000,
]


@pytest.mark.parametrize("body", UNREADABLE, ids=lambda body: repr(body[:12]))
async def test_an_answer_that_cannot_be_read_leaves_a_create_uncertain(body: bytes) -> None:
    """A 2xx without a usable id: there may be a job. A look is repeated."""
    assert type(await failure(create, httpx.Response(200, content=body))) is Uncertain
    assert type(await failure(get, httpx.Response(200, content=body))) is Unreachable


async def test_an_endless_answer_to_a_create_is_no_refusal() -> None:
    """It came with a 2xx, so a job may have been made; a video that failed here could be running
    there.
    """
    huge = b"{" + b" " * (16 * 1024 * 1024) + b"}"
    assert type(await failure(create, httpx.Response(200, content=huge))) is Uncertain
    assert type(await failure(get, httpx.Response(200, content=huge))) is Unreachable


@pytest.mark.parametrize("upstream_id", ["a/b", "..", ".", "../models", "a?b=c", "a#b", "a%2Fb", "ä b", "a\r\nx: y"])
async def test_an_id_is_one_segment_of_the_path(upstream_id: str) -> None:
    """What another server named must not lead anywhere else."""

    async def look_and_load(upstream: Upstream) -> None:
        await upstream.get(upstream_id)
        async with upstream.content(upstream_id):
            pass

    _, wire = await used(AZURE, look_and_load, ok(), film())
    for request, ending in zip(wire.asked, (b"", b"/content"), strict=True):
        assert re.fullmatch(rb"/openai/v1/videos/[^/?#]+" + ending, request.url.raw_path), request.url.raw_path
        assert request.url.host == "east.example"


async def test_content_is_streamed_as_it_is() -> None:
    """With the length that was promised, and uncompressed, so that the two can be compared."""
    (length, media_type, body), wire = await used(AZURE, download, film(b"0123456789"))
    assert (length, media_type, body) == (10, "video/mp4", b"0123456789")
    assert wire.asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("deployment", [AZURE, BY_IDENTITY, OTHER])
async def test_a_redirected_download_takes_no_credentials_along(deployment: Deployment, status: int) -> None:
    """Neither to another server nor to a third, nor back: the address itself is what lets
    one in.
    """
    hops = [moved("https://store.example/a?sig=1", status), moved("/b", status), moved("https://east.example/c", status)]
    (_, _, body), wire = await used(deployment, download, *hops, film())
    assert body == b"film"
    first, *others = wire.asked
    assert {"api-key", "authorization"} & set(first.headers)
    assert [str(each.url) for each in others] == [
        "https://store.example/a?sig=1",
        "https://store.example/b",
        "https://east.example/c",
    ]
    for each in others:
        assert not {"api-key", "authorization", "cookie"} & set(each.headers)
        assert "secret" not in str(each.headers.raw)


@pytest.mark.parametrize(
    "replies",
    [
        [moved("https://store.example/a")] * 4,
        [moved("http://store.example/a")],
        [moved("ftp://store.example/a")],
        [moved("file:///etc/passwd")],
    ],
)
async def test_a_redirect_that_leads_nowhere_good_is_not_followed(replies: list[Reply]) -> None:
    """Round in circles, to an address without TLS, to another protocol."""
    assert type(await failure(download, *replies)) is Misrouted


@pytest.mark.parametrize(
    "location", ["https://store:port/", "https://store.example/\x00", "https://xn--a.example/", "https://xn--/"]
)
async def test_a_redirect_to_what_is_no_address_is_a_broken_answer(location: str) -> None:
    """To be asked for again, until the deadline."""
    assert type(await failure(download, moved(location))) is Unreachable


@pytest.mark.parametrize("status", [300, 304, 302])
async def test_a_redirect_to_nowhere_is_a_refusal(status: int) -> None:
    """Without a location there is nothing to follow."""
    assert type(await failure(download, httpx.Response(status))) is Refused


@pytest.mark.parametrize(("do", "kind"), [(create, Uncertain), (remix, Uncertain), (get, Unreachable), (delete, Unreachable)])
async def test_a_call_that_is_redirected_to_no_name_fails_as_if_cut(
    do: Callable[[Upstream], Awaitable[Any]], kind: type[UpstreamError]
) -> None:
    """The HTTP library looks at the address before anybody follows it."""
    assert type(await failure(do, moved("https://xn--a.example/"))) is kind


@pytest.mark.parametrize("do", [create, remix, get, recent, delete])
async def test_only_downloads_are_redirected(do: Callable[[Upstream], Awaitable[Any]]) -> None:
    """A create that moved elsewhere would take its prompt along."""
    with pytest.raises(UpstreamError):
        await used(AZURE, do, moved("https://elsewhere.example/"), ok())


async def test_a_download_that_is_given_up_is_closed() -> None:
    """Whatever the reason: no connection stays open."""
    response = film(b"x" * 100)

    async def give_up(upstream: Upstream) -> None:
        async with upstream.content("video_1") as content:
            await anext(content.chunks)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await used(AZURE, give_up, response)
    assert response.is_closed
