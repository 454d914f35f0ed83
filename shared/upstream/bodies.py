"""Reads an upstream's answer up to a limit, because a small compressed body can unpack to
gigabytes.
"""

import zlib
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import httpx

ACCEPTED = "gzip"  # the one encoding that is unpacked here, piece by piece
_GZIP = 16 + zlib.MAX_WBITS


class Response(msgspec.Struct, frozen=True):
    """An answer that was read. `whole` is False if its body is longer than the limit."""

    status: int
    headers: "httpx.Headers"
    body: bytes
    whole: bool

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


async def read_answer(response: "httpx.Response", most: int) -> Response:
    """Read and unpack at most `most` bytes of the body. Raises httpx.HTTPError if the body breaks
    off, or has another encoding than ACCEPTED.
    """
    import httpx

    try:
        unpacked = _Unpacked(response.headers.get("content-encoding", ""), most)
        async for chunk in response.aiter_raw():
            unpacked.feed(chunk)
            if not unpacked.fits:
                break
        body = unpacked.finish()
    except zlib.error as error:
        raise httpx.DecodingError(str(error)) from error
    return Response(response.status_code, response.headers, body, unpacked.fits)


class _Unpacked:
    """The bytes of a body, unpacked as they arrive."""

    def __init__(self, encoding: str, most: int) -> None:
        if encoding not in ("", "identity", "gzip"):
            raise zlib.error("an encoding that was not asked for")
        self._unpack = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
        self._most = most
        self._body = bytearray()

    @property
    def fits(self) -> bool:
        return len(self._body) <= self._most

    def feed(self, chunk: bytes) -> None:
        """Unpack a chunk, at most to one byte above the limit. Raises zlib.error."""
        room = self._most + 1 - len(self._body)
        self._body += self._unpack.decompress(chunk, room) if self._unpack else chunk

    def finish(self) -> bytes:
        """The body, at most up to the limit. Raises zlib.error if it breaks off."""
        if self._unpack and self.fits and not self._unpack.eof:
            raise zlib.error("the body breaks off")
        return bytes(self._body[: self._most])
