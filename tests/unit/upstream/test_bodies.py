"""Answers are read no further than an answer may be long."""

import gzip
import tracemalloc
from collections.abc import AsyncIterator

import httpx
import pytest

from shared.upstream.bodies import Response, read_answer

pytestmark = pytest.mark.anyio

MOST = 1024 * 1024


class Pieces(httpx.AsyncByteStream):
    """A body in pieces of 64 KiB, which counts those that were read."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.body), 65_536):
            self.read += 1
            yield self.body[start : start + 65_536]


async def read(body: bytes | Pieces, encoding: str | None = None) -> Response:
    headers = {} if encoding is None else {"content-encoding": encoding}
    stream = body if isinstance(body, Pieces) else Pieces(body)
    return await read_answer(httpx.Response(200, headers=headers, stream=stream), MOST)


async def test_a_long_answer_is_left_unread() -> None:
    """What comes after the limit never reaches the memory."""
    endless = Pieces(bytes(64 * MOST))
    answer = await read(endless)
    assert (len(answer.body), answer.whole) == (MOST, False)
    assert endless.read <= 17


async def test_a_small_answer_that_unpacks_to_a_huge_one_is_left_packed() -> None:
    """The limit is on the bytes as they are after unpacking: 128 MiB fit into an eighth of one."""
    bomb = gzip.compress(bytes(128 * MOST))
    assert len(bomb) < MOST
    tracemalloc.start()
    try:
        answer = await read(bomb, "gzip")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(answer.body), answer.whole) == (MOST, False)
    assert peak < 8 * MOST


@pytest.mark.parametrize("length", [0, 1, 100_000, MOST])
async def test_an_answer_within_the_limit_is_whole(length: int) -> None:
    """Packed or not, up to the last byte that is allowed."""
    body = (b"a cat " * (length // 6 + 1))[:length]
    for answer in (await read(body), await read(gzip.compress(body), "gzip"), await read(body, "identity")):
        assert (answer.body, answer.whole) == (body, True)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(b"not packed", "gzip"), (gzip.compress(b"a cat" * 100)[:-12], "gzip"), (b"anything", "br"), (b"anything", "deflate")],
    ids=["damaged", "cut short", "br", "deflate"],  # gzip writes the time of day: workers must agree on names
)
async def test_what_cannot_be_unpacked_is_a_broken_answer(body: bytes, encoding: str) -> None:
    """Damaged, cut short, or packed in a way that was not asked for."""
    with pytest.raises(httpx.DecodingError):
        await read(body, encoding)
