"""The bytes of a video on their way from the upstream to storage."""

from collections.abc import AsyncIterator

import msgspec


class Content(msgspec.Struct, frozen=True):
    """A download in progress. `length` is the number of bytes that the upstream announced, or None
    if it did not.
    """

    length: int | None
    media_type: str
    chunks: AsyncIterator[bytes]
    request_id: str | None = None
