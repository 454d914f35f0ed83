"""Reads a request's body as it arrives, within limits.

A body that is too large, too slow, compressed or cut short is refused as soon as that shows, so it
takes no more memory or time than until then.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from shared.errors import InvalidRequest, RequestTimeout, TooLarge, UnsupportedMedia

LARGEST_BODY = 32 * 1024 * 1024  # bytes: a reference image of 20 MiB, in base64, and the rest
LARGEST_TEXT = 1024 * 1024  # bytes of everything but images
# Seconds that every body may take, and bytes that it must bring for each further second.
_PATIENCE, _SLOWEST = 20.0, 8 * 1024

Sink = Callable[[bytes], Awaitable[None]]


async def within_limits(pieces: AsyncIterator[bytes], headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    """The pieces of a body, while they keep within the limits. Raises UnsupportedMedia, TooLarge,
    RequestTimeout, or InvalidRequest if the body is cut short.
    """
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMedia("Send the body as it is: packed ones are not read.", param="content-encoding")
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:18]) > LARGEST_BODY:
        raise _too_large()
    begun, received = asyncio.get_running_loop().time(), 0
    try:
        while piece := await _next(pieces, begun + _PATIENCE + received / _SLOWEST):
            received += len(piece)
            if received > LARGEST_BODY:
                raise _too_large()
            yield piece
    except ConnectionError as error:
        raise InvalidRequest("The body is incomplete.", code="incomplete_body", param="request_body") from error


async def resumed(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The first piece, which was read already, and the rest."""
    yield first
    async for piece in rest:
        yield piece


async def _next(pieces: AsyncIterator[bytes], deadline: float) -> bytes:
    """The next piece that is not empty; b"" after the last."""
    try:
        async with asyncio.timeout_at(deadline):
            async for piece in pieces:
                if piece:
                    return piece
            return b""
    except TimeoutError as error:
        raise RequestTimeout("The body came too slowly.", param="request_body") from error


def _too_large() -> TooLarge:
    return TooLarge(f"The request is larger than {LARGEST_BODY // 1024**2} MiB.")


class Scanner:
    """Splits a body at marks. It holds one piece of the body at a time."""

    def __init__(self, pieces: AsyncIterator[bytes], start: bytes = b"") -> None:
        self._pieces = pieces
        self._held = bytearray(start)

    async def until(self, mark: bytes, sink: Sink) -> bool:
        """Give the bytes before the next `mark` to `sink`, and drop the mark. Returns False if
        there is none: then all the rest was given.
        """
        while (at := self._held.find(mark)) < 0:
            await self._give(max(len(self._held) - len(mark) + 1, 0), sink)
            if not await self._more():
                await self._give(len(self._held), sink)
                return False
        await self._give(at, sink)
        del self._held[: len(mark)]
        return True

    async def begins_with(self, mark: bytes) -> bool:
        """Whether the rest of the body begins with these bytes, which are not dropped."""
        while len(self._held) < len(mark) and await self._more():
            pass
        return self._held.startswith(mark)

    async def _more(self) -> bool:
        piece = await anext(self._pieces, b"")
        self._held += piece
        return bool(piece)

    async def _give(self, count: int, sink: Sink) -> None:
        if count:
            await sink(bytes(self._held[:count]))
            del self._held[:count]


class Text:
    """Collects the bytes of a text. All texts that share a `budget` may have LARGEST_TEXT bytes
    together.
    """

    def __init__(self, budget: list[int] | None = None) -> None:
        self.bytes = bytearray()
        self._budget = [LARGEST_TEXT] if budget is None else budget

    async def take(self, data: bytes) -> None:
        """Raises TooLarge."""
        self._budget[0] -= len(data)
        if self._budget[0] < 0:
            raise TooLarge(f"All but the image is larger than {LARGEST_TEXT // 1024**2} MiB.", param="request_body")
        self.bytes += data
