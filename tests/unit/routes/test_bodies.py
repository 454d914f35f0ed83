"""Bodies are read as they come: refused as soon as it shows, and held no more than once."""

import asyncio
import base64
import json
import os
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.callers.key_settings import parse_settings
from shared.config.catalog import Catalog
from shared.errors import GatewayError, InvalidRequest, RequestTimeout, TooLarge
from shared.routes.bodies import LARGEST_TEXT, Scanner, within_limits
from shared.routes.calls import Answer, Call, pieces
from shared.routes.json_bodies import read_json
from tests.fakes.asking import ask
from tests.fakes.asking import request as asked
from tests.fakes.loop import JumpingLoop

MIB = 1024 * 1024
PIECE = 64 * 1024
PREFIX = b"data:image/png;base64,"
FILE = b'--edge\r\nContent-Disposition: form-data; name="input_reference"; filename="a"\r\n\r\n'
FORM = "multipart/form-data; boundary=edge"


def cut(body: bytes, size: int) -> AsyncIterator[bytes]:
    return pieces(*(body[at : at + size] for at in range(0, len(body), size)))


def parsed(body: bytes, size: int = 7) -> Any:
    return asyncio.run(read_json(cut(body, size)))


@contextmanager
def costing(most: float) -> Iterator[None]:
    """What is done here holds at most so many MiB at once."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= most * MIB


async def endless(start: bytes, unit: bytes, count: int, end: bytes = b"") -> AsyncIterator[bytes]:
    yield start
    for _ in range(count):
        yield unit
    yield end


async def fields(call: Call) -> Answer:
    """How long each field is."""
    return Answer({name: len(value) for name, value in (await call.fields()).items()})


async def sent(body: AsyncIterator[bytes], content_type: str = "application/json", **headers: str) -> tuple[int, Any]:
    request = asked("POST", headers={"content-type": content_type, **headers})
    reply = await ask(type(request)("POST", request.headers, body=body), fields)
    return reply.status, reply.json if reply.status == 200 else reply.code


def test_an_image_of_20_mib_costs_at_most_twice_its_size() -> None:
    """As a file, and as a data URL in JSON or in a form."""
    unit = base64.b64encode(os.urandom(PIECE * 3 // 4))
    count = 20 * MIB * 4 // 3 // len(unit)
    inline = b'--edge\r\nContent-Disposition: form-data; name="input_reference"\r\n\r\n' + PREFIX
    with costing(40):
        body = endless(FILE, os.urandom(PIECE), 20 * MIB // PIECE, b"\r\n--edge--")
        assert asyncio.run(sent(body, FORM)) == (200, {"input_reference": 20 * MIB})
    with costing(40):
        body = endless(b'{"input_reference": "' + PREFIX, unit, count, b'"}')
        assert asyncio.run(sent(body)) == (200, {"input_reference": count * PIECE * 3 // 4})
    with costing(40):
        body = endless(inline, unit, count, b"\r\n--edge--")
        assert asyncio.run(sent(body, FORM)) == (200, {"input_reference": count * PIECE * 3 // 4})


@pytest.mark.parametrize(
    ("start", "content_type", "most"),
    [
        (b'{"prompt": "', "application/json", 1.5),
        (b"prompt=", "application/x-www-form-urlencoded", 1.5),
        (b'--edge\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n', FORM, 1.5),
        (b"preamble", FORM, 1.5),
        (FILE, FORM, 24.0),
        (b'{"input_reference": "' + PREFIX, "application/json", 24.0),
    ],
)
def test_a_body_of_100_mib_is_refused_when_it_shows(start: bytes, content_type: str, most: float) -> None:
    """It costs 1 MiB and what is on its way; an image, no more than the largest may have."""
    with costing(most):
        body = endless(start, b"A" * PIECE, 100 * MIB // PIECE)
        assert asyncio.run(sent(body, content_type)) == (413, "request_too_large")


def test_a_declared_length_is_believed() -> None:
    """Nothing is read."""
    with costing(0.5):
        body = endless(b"", b"A" * PIECE, 1600)
        assert asyncio.run(sent(body, **{"content-length": str(100 * MIB)})) == (413, "request_too_large")


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, identity"])
def test_packed_bodies_are_refused(encoding: str) -> None:
    """Before anything is read of them; `identity` is no packing."""
    assert asyncio.run(sent(pieces(b"{}"), **{"content-encoding": encoding})) == (415, "unsupported_encoding")
    assert asyncio.run(sent(pieces(b"{}"), **{"content-encoding": "Identity"})) == (200, {})


async def dripping(seconds: float, piece: bytes, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        await asyncio.sleep(seconds)
        yield piece


async def read(body: AsyncIterator[bytes]) -> int:
    """How many bytes came, and in the end how long it took."""
    return sum([len(piece) async for piece in within_limits(body, {})])


@pytest.mark.parametrize(("seconds", "piece"), [(1.0, b"x"), (1e9, b"x"), (5.0, b"x" * 8 * 1024)])
def test_a_body_that_comes_too_slowly_is_given_up(seconds: float, piece: bytes) -> None:
    """A byte a second, nothing at all, and less than a phone's worst link would bring."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner, pytest.raises(RequestTimeout):
        runner.run(read(dripping(seconds, piece, 10_000)))


def test_a_slow_link_has_its_time() -> None:
    """Ten minutes for 20 MiB, with a pause in between."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        assert runner.run(read(dripping(2.0, b"x" * PIECE, 320))) == 20 * MIB


def test_a_caller_who_goes_away_leaves_nothing() -> None:
    """What had come by then is no request."""

    async def gone() -> AsyncIterator[bytes]:
        yield b'{"prompt": "A cat"}'
        raise ConnectionResetError

    assert asyncio.run(sent(gone())) == (400, "incomplete_body")


TEXTS = st.text('data:"\\,;ä🪲/', max_size=9) | st.text('data:"\\', max_size=9).map("data:".__add__)


@settings(max_examples=200)
@given(st.dictionaries(TEXTS, TEXTS | st.lists(TEXTS, max_size=2), max_size=3), st.integers(1, 9), st.booleans())
def test_json_is_what_it_was_however_it_comes(value: dict[str, Any], size: int, ascii_only: bool) -> None:
    """Quotes, backslashes and texts that begin like an image, cut anywhere."""
    assert parsed(json.dumps(value, ensure_ascii=ascii_only).encode(), size) == value


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize("escape", [("/", "/"), ("/", "\\/"), ("+", "\\u002B"), ("=", "\\u003d")])
def test_a_long_data_url_becomes_its_image(size: int, escape: tuple[str, str]) -> None:
    """In whatever way the encoder writes the characters of base64."""
    image = bytes(range(256)) * 100 + b"\xfb\xff\xbf!"
    url = (PREFIX + base64.b64encode(image)).decode().replace(*escape)
    body = f'{{"input_reference": {{"image_url": "{url}"}}, "prompt": "A \\"data:cat\\""}}'.encode()
    assert parsed(body, size) == {"input_reference": {"image_url": image}, "prompt": 'A "data:cat"'}


@pytest.mark.parametrize("end", [b"=A", b"A", b"AAA!", b"====", b"\\", b"\\u002", b"AA==AAAA", b"\xff\xff\xff\xff"])
def test_an_image_that_is_no_base64_is_refused(end: bytes) -> None:
    """Wherever that shows."""
    with pytest.raises(InvalidRequest):
        parsed(b'{"input_reference": {"image_url": "' + PREFIX + b"QUJD" * 10_000 + end + b'"}}', 1000)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": [' + b'"data:",' * 20_000,
        b'{"a": "' + b'\\"data:' * 20_000,
        b'{"a": "data:' + b"\\\\" * 200_000,
        b'{"a": "' + b"\\" * 400_000,
        b'{"a": "data:' + b'\\"' * 50_000,
    ],
)
@pytest.mark.no_cover  # whose tracing takes several times as long as what is timed
def test_marks_without_end_cost_little(body: bytes) -> None:
    """Each is looked at once. The least of three: what other threads of the process do is counted
    too.
    """

    def took() -> float:
        begun = time.process_time()
        with pytest.raises(GatewayError):
            parsed(body, PIECE)
        return time.process_time() - begun

    assert min(took() for _ in range(3)) < 2.0


def test_an_image_in_the_settings_of_a_key_is_refused() -> None:
    """A long data URL is bytes wherever it stands, and metadata is text."""
    with pytest.raises(InvalidRequest):
        parse_settings({"metadata": {"logo": bytes(12_000)}}, Catalog(()), datetime.now(UTC))


def test_a_mark_is_found_across_pieces() -> None:
    """And what is not one is not held back."""

    async def taken() -> tuple[bool, bytes, bool]:
        given = bytearray()
        scanner = Scanner(cut(b"abcab--edge", 1))

        async def take(data: bytes) -> None:
            given.extend(data)

        found = await scanner.until(b"--e", take)
        return found, bytes(given), await scanner.begins_with(b"dge")

    assert asyncio.run(taken()) == (True, b"abcab", True)


def test_a_long_text_is_no_image() -> None:
    """Whatever it begins with."""
    with pytest.raises(TooLarge):
        parsed(b'{"prompt": "data:' + b"x" * LARGEST_TEXT + b'"}', PIECE)
