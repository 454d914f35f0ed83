"""Whatever a receiver does is an answer, and costs little."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import httpx
import msgspec
import pytest

from shared.events import post
from shared.events.post import Answer, Letter, Post
from tests.fakes.clock import SkippingClock

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 10, 21, 7, 28, tzinfo=UTC)
LETTER = Letter("https://receiver.example/in", {"x-key": "geheim"}, b"{}")


async def sent(answer: Callable[[httpx.Request], httpx.Response], letter: Letter = LETTER) -> Answer:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        return await Post(lambda: client, SkippingClock(NOW)).post(letter)


def failing(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error

    return answer


async def test_a_redirect_is_not_followed() -> None:
    """Nothing that a receiver says takes a key elsewhere."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(307, headers={"location": "https://elsewhere.example/"})

    assert await sent(answer) == Answer(307, "HTTP 307")
    assert asked == ["receiver.example"]


async def test_an_endless_body_is_not_read() -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b"x" * 65_536

    assert await sent(lambda request: httpx.Response(200, content=endless())) == Answer(200, "HTTP 200")
    assert read <= 1


@pytest.mark.parametrize(
    ("pieces", "read"),
    [([b"12", b"345", b"6"], b"1234"), ([b"12", None], b"12"), ([b"12", httpx.ReadError("x")], b"12")],
    ids=repr,
)
async def test_of_a_body_as_much_is_read_as_is_wanted_and_comes(
    pieces: list[bytes | httpx.ReadError | None], read: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that has told its status and then breaks off, or says no more, has answered."""
    monkeypatch.setattr(post, "_PATIENCE_WITH_BODY", 0.0)

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            if isinstance(piece, httpx.ReadError):
                raise piece
            if piece is None:
                await asyncio.Event().wait()
            else:
                yield piece

    letter = msgspec.structs.replace(LETTER, reads=4)
    assert await sent(lambda request: httpx.Response(200, content=body()), letter) == Answer(200, "HTTP 200", body=read)


@pytest.mark.parametrize("error", [httpx.ConnectError("to 10.0.0.1"), httpx.ReadTimeout("x"), TimeoutError()], ids=repr)
async def test_no_answer_is_told_by_its_kind_and_quotes_nothing(error: Exception) -> None:
    assert await sent(failing(error)) == Answer(None, type(error).__name__)


@pytest.mark.parametrize("url", ["https://127.0.0.1:99999/", "https://x:y/"])
async def test_an_address_that_cannot_be_asked_is_an_answer(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """With the real transport, which raises groups of errors that are none of its own; the log has
    the error's kind alone.
    """
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await Post(lambda: client, SkippingClock(NOW)).post(Letter(url, {}, b"{}"))
    assert answer.status is None and answer.reason
    assert url not in caplog.text and len(caplog.records) == 1


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("120", 120.0),
        ("Wed, 21 Oct 2026 08:28:00 GMT", 3600.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("Wed, 21 Oct 2026 08:28:00", 0.0),
        ("Wed, 21 Oct 99999999999 08:28:00 GMT", 0.0),
        *[(text, 0.0) for text in ("", "-5", "²", "9" * 400, "1e9")],
    ],
)
async def test_a_receiver_asks_for_a_wait_in_seconds_or_until_a_date(told: str, seconds: float) -> None:
    headers = [(b"retry-after", told.encode())]
    assert (await sent(lambda request: httpx.Response(503, headers=headers))).after == seconds


def test_a_letter_shows_no_key() -> None:
    assert "geheim" not in repr(LETTER)
