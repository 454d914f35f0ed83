"""Requests on the wire, byte by byte: what is read of them, and what is left of those that end
early.
"""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.fakes.stack import MODEL, Served, eventually, serving, wait_for_end


@pytest.fixture(scope="module")
def served(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(azurite, tmp_path_factory.mktemp("stack")) as served:
        yield served


class Caller:
    """Somebody at a socket, who sends what they like."""

    def __init__(self, served: Served, connection: socket.socket) -> None:
        self._host = urlsplit(served.url).netloc
        self._connection = connection

    def head(self, key: str, *lines: str) -> None:
        """The head of a create."""
        given = [f"Host: {self._host}", f"Authorization: Bearer {key}", "Content-Type: application/json", *lines]
        self.send(("POST /v1/videos HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in given) + "\r\n").encode())

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def status(self) -> int:
        """Of the next answer, whose body is read as far as it has come."""
        found = re.match(rb"HTTP/1.1 (\d+)", self._connection.recv(64 * 1024))
        assert found is not None
        return int(found[1])

    def leave(self) -> None:
        """At once, with an RST."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._connection.close()


@contextmanager
def calling(served: Served) -> Iterator[Caller]:
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        yield Caller(served, connection)


def body(**fields: Any) -> bytes:
    return json.dumps({"prompt": "A cat", "model": MODEL, "seconds": "4", "size": "720x1280", **fields}).encode()


def listed(served: Served, key: str) -> list[dict[str, Any]]:
    with served.client(key) as client:
        videos: list[dict[str, Any]] = client.get("/v1/videos").json()["data"]
    return videos


def test_who_waits_for_100_is_told_to_send_what_will_be_read(served: Served) -> None:
    """And what will not be is refused before it is sent."""
    given = body()
    for key, length, status in (
        (served.key, len(given), 100),
        ("sk-nobody", len(given), 401),
        (served.key, 100 * 1024**2, 413),
    ):
        with calling(served) as caller:
            caller.head(key, "Expect: 100-continue", f"Content-Length: {length}")
            assert caller.status() == status
            if status == 100:
                caller.send(given)
                assert caller.status() == 200


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_a_caller_who_goes_away_in_the_middle_leaves_nothing(framing: str, served: Served) -> None:
    """Nothing is admitted, and the next one is answered."""
    key = served.new_key()
    with calling(served) as caller:
        caller.head(key, framing)
        caller.send(b"ff\r\n" + body() if "chunked" in framing else body())
        caller.leave()
    assert listed(served, key) == []


def test_a_create_whose_caller_has_gone_after_it_still_runs(served: Served) -> None:
    """It was admitted; nobody waits for the answer."""
    key, given = served.new_key(), body(prompt="A cat for nobody")
    with calling(served) as caller:
        caller.head(key, f"Content-Length: {len(given)}")
        caller.send(given)
        (video,) = eventually(lambda: listed(served, key))
        caller.leave()
    with served.client(key) as client:
        assert wait_for_end(client, video["id"])["status"] == "completed"


@pytest.mark.parametrize(
    ("line", "sent", "status"),
    [
        ("Content-Encoding: gzip\r\nContent-Length: 3", b"abc", 415),
        ("Content-Length: 40000000", b"", 413),
        ("Transfer-Encoding: chunked", b"200000\r\n" + b" " * 2 * 1024**2 + b"\r\n", 413),
    ],
    ids=["packed", "too large", "too large, in pieces"],
)
def test_a_refused_body_is_answered_at_once(line: str, sent: bytes, status: int, served: Served) -> None:
    """Without waiting for the rest of it."""
    with calling(served) as caller:
        caller.head(served.key, line)
        caller.send(sent)
        assert caller.status() == status
