"""A video's bytes on the wire: by the rules of HTTP in both kinds of delivery, of any size, and
whole or visibly cut short.
"""

import hashlib
import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from azure.storage.blob import BlobClient

from shared.media.video import owner_of
from tests.fakes.stack import MODEL, Served, serving, wait_for_end

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

MIB = 1024 * 1024
KINDS = ["proxy", "redirect"]


@dataclass(frozen=True)
class Film:
    """A completed video and its stored bytes."""

    served: Served
    id: str
    data: bytes

    @property
    def path(self) -> str:
        return f"/v1/videos/{self.id}/content"

    @property
    def blob(self) -> BlobClient:
        """What storage keeps of it."""
        name = f"{owner_of(self.id)}/{self.id}.mp4"
        return BlobClient.from_connection_string(self.served.settings["AzureWebJobsStorage"], "videos", name)

    def get(self, kind: str, headers: dict[str, str] | None = None, method: str = "GET") -> httpx.Response:
        """What a client that follows redirects gets."""
        with self.served.client() as caller:
            return caller.request(method, self.path, params={"delivery": kind}, headers=headers, follow_redirects=True)


def made(served: Served) -> Film:
    with served.client() as caller:
        asked = {"prompt": "A cat", "model": MODEL, "seconds": "4", "size": "720x1280"}
        video_id = caller.post("/v1/videos", json=asked).json()["id"]
        assert wait_for_end(caller, video_id)["status"] == "completed"
        data = caller.get(f"/v1/videos/{video_id}/content?delivery=proxy").content
    return Film(served, video_id, data)


@pytest.fixture(scope="module")
def served(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(azurite, tmp_path_factory.mktemp("stack")) as served:
        yield served


@pytest.fixture(scope="module")
def film(served: Served) -> Film:
    return made(served)


@pytest.fixture(scope="module")
def large(served: Served) -> Film:
    """A video whose stored bytes are 40 MiB, none of them like its neighbours."""
    small = made(served)
    data = hashlib.shake_128(b"film").digest(40 * MIB)
    small.blob.upload_blob(data, overwrite=True)
    return Film(served, small.id, data)


NOW = "Sun, 01 Jan 2040 00:00:00 GMT"
LONG_AGO = "Sat, 01 Jan 2000 00:00:00 GMT"
# Headers (TAG is the file's, OTHER is not), the status, and which bytes of the file come.
CASES = [
    ({}, 200, slice(None)),
    ({"range": "bytes=0-"}, 206, slice(None)),
    ({"range": "bytes=0-0"}, 206, slice(0, 1)),
    ({"range": "bytes=10-19"}, 206, slice(10, 20)),
    ({"range": "bytes=1000-"}, 206, slice(1000, None)),
    ({"range": "bytes=10-999999999"}, 206, slice(10, None)),
    ({"range": "bytes=-5"}, 206, slice(-5, None)),
    ({"range": "bytes=-999999999"}, 206, slice(None)),
    ({"range": "Bytes=3-4"}, 206, slice(3, 5)),
    ({"range": "bytes=999999999-"}, 416, None),
    ({"range": "bytes=-0"}, 416, None),
    ({"range": "bytes=0-1,5-6"}, 200, slice(None)),
    ({"range": "bytes=5-1"}, 200, slice(None)),
    ({"range": "lines=1-2"}, 200, slice(None)),
    ({"range": "nonsense"}, 200, slice(None)),
    ({"range": "bytes=1-2", "if-range": "TAG"}, 206, slice(1, 3)),
    ({"range": "bytes=1-2", "if-range": "OTHER"}, 200, slice(None)),
    ({"range": "bytes=1-2", "if-range": "W/TAG"}, 200, slice(None)),
    ({"range": "bytes=1-2", "if-range": "MODIFIED"}, 206, slice(1, 3)),
    ({"range": "bytes=1-2", "if-range": LONG_AGO}, 200, slice(None)),
    ({"if-match": "TAG"}, 200, slice(None)),
    ({"if-match": "*"}, 200, slice(None)),
    ({"if-match": "OTHER"}, 412, None),
    ({"if-none-match": "TAG"}, 304, None),
    ({"if-none-match": "OTHER, W/TAG"}, 304, None),
    ({"if-none-match": "OTHER"}, 200, slice(None)),
    ({"if-none-match": "OTHER", "range": "bytes=1-2"}, 206, slice(1, 3)),
    ({"if-modified-since": "MODIFIED"}, 304, None),
    ({"if-modified-since": LONG_AGO}, 200, slice(None)),
    ({"if-unmodified-since": LONG_AGO}, 412, None),
    ({"if-unmodified-since": NOW}, 200, slice(None)),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("headers", "status", "part"), CASES, ids=[str(headers) for headers, _, _ in CASES])
def test_ranges_and_conditions_keep_to_rfc_9110(
    headers: dict[str, str], status: int, part: slice | None, kind: str, film: Film
) -> None:
    """Also where storage itself reads a header otherwise."""
    known = film.get("proxy", method="HEAD").headers
    names = {"TAG": known["etag"], "OTHER": '"another"', "MODIFIED": known["last-modified"]}
    for name, value in names.items():
        headers = {header: given.replace(name, value) for header, given in headers.items()}
    answer = film.get(kind, headers)
    assert answer.status_code == status
    if part is not None:
        wanted = film.data[part]
        start, end, _ = part.indices(len(film.data))
        assert answer.content == wanted
        assert answer.headers["content-length"] == str(len(wanted))
        assert (answer.headers["etag"], answer.headers["last-modified"]) == (known["etag"], known["last-modified"])
        assert answer.headers["content-type"] == "video/mp4"
        assert answer.headers["accept-ranges"] == "bytes"
        if status == 206:
            assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(film.data)}"
    if status == 416:
        assert answer.headers["content-range"] == f"bytes */{len(film.data)}"


@pytest.mark.parametrize("kind", KINDS)
def test_head_tells_what_get_would_send(kind: str, film: Film) -> None:
    """Length, type, name and validators, without the bytes; a range is of a GET alone."""
    for headers in ({}, {"range": "bytes=1-2"}):
        answer = film.get(kind, headers, "HEAD")
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(len(film.data))
        assert answer.headers["content-disposition"] == f'attachment; filename="{film.id}.mp4"'


def test_a_large_video_comes_whole_through_the_app(large: Film) -> None:
    """With the official client, which asks for no ranges."""
    with openai.OpenAI(api_key=large.served.key, base_url=f"{large.served.url}/v1") as client:
        content = client.videos.download_content(large.id, extra_query={"delivery": "proxy"})
        assert content.read() == large.data
        assert content.response.headers["content-length"] == str(len(large.data))


DOTNET = {"user-agent": "OpenAI/2.15.0 (.NET 8.0)", "x-stainless-lang": "csharp"}
SCRIPT = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}  # `fetch` of a browser


@pytest.mark.parametrize("headers", [DOTNET, SCRIPT], ids=["dotnet", "script"])
def test_a_client_that_cannot_follow_a_redirect_gets_the_bytes(film: Film, headers: dict[str, str]) -> None:
    """They name themselves; somebody who knows better decides for them."""
    with film.served.client() as caller:
        assert caller.get(film.path, headers=headers).content == film.data
        assert caller.get(f"{film.path}?delivery=redirect", headers=headers).status_code == 302


NODE = {"sec-fetch-mode": "cors"}
LINK = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}


@pytest.mark.parametrize("headers", [{"x-stainless-lang": "python"}, NODE, LINK], ids=["python", "node", "link"])
def test_others_are_redirected(film: Film, headers: dict[str, str]) -> None:
    """A browser too, where no script reads the answer."""
    with film.served.client() as caller:
        assert caller.get(film.path, headers=headers).status_code == 302


def test_no_third_kind_of_delivery_is_taken(film: Film) -> None:
    with film.served.client() as caller:
        answer = caller.get(f"{film.path}?delivery=pigeon")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "delivery")


@contextmanager
def begun(film: Film) -> Iterator[http.client.HTTPResponse]:
    """A download that has its head and 1 MiB, with little room for more on its way."""
    address = urlsplit(film.served.url)
    with closing(http.client.HTTPConnection(address.hostname or "", address.port or 0, timeout=30)) as connection:
        connection.connect()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        connection.request("GET", f"{film.path}?delivery=proxy", headers={"authorization": f"Bearer {film.served.key}"})
        answer = connection.getresponse()
        assert answer.read(MIB) == film.data[:MIB]
        yield answer


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_a_blob_that_changes_on_the_way_ends_the_answer_short(change: str, large: Film) -> None:
    """Nobody gets half of one film and half of another, nor takes a part for the whole."""
    try:
        with begun(large) as answer:
            if change == "replaced":
                large.blob.upload_blob(bytes(len(large.data)), overwrite=True)
            else:
                large.blob.delete_blob()
            with pytest.raises(http.client.IncompleteRead) as cut:
                answer.read()
        assert large.data[MIB:].startswith(cut.value.partial)
    finally:
        large.blob.upload_blob(large.data, overwrite=True)


def test_readers_that_stand_still_hold_nobody_up(large: Film) -> None:
    """Thirty have asked for 40 MiB and read one; another one has it all, and small calls go on."""
    with ExitStack() as slow:
        for _ in range(30):
            slow.enter_context(begun(large))
        assert large.get("proxy").content == large.data
