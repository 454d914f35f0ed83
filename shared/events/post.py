"""Sends one request to a receiver, and reads no more of its answer than is needed."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import httpx

_PATIENCE = 15.0  # seconds for a whole request, as Standard Webhooks has it


class Letter(msgspec.Struct, frozen=True):
    """A request that is to be made: a POST of `body`. Its headers may hold a key. Where `url` has
    an address in the place of a name, `server` is the name that the certificate must have.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes
    server: str | None = None

    def __repr__(self) -> str:
        return f"Letter({len(self.body)} bytes)"


class Answer(msgspec.Struct, frozen=True):
    """What came back: a status, or None where nothing did. `after` are the seconds of its
    `Retry-After`; `reason` says what happened, and quotes nothing.
    """

    status: int | None
    reason: str
    after: float = 0.0


class Post(msgspec.Struct, frozen=True):
    """Sends letters through the app's HTTP client. Redirects are not followed."""

    http: "Callable[[], httpx.AsyncClient]"

    async def post(self, letter: Letter) -> Answer:
        """Send a letter. Whatever the receiver does is an Answer; nothing is raised for it."""
        import httpx

        client = self.http()
        named = {"sni_hostname": letter.server} if letter.server else {}
        request = client.build_request("POST", letter.url, headers=dict(letter.headers), content=letter.body, extensions=named)
        try:
            async with asyncio.timeout(_PATIENCE):
                response = await client.send(request, stream=True, follow_redirects=False)
                await response.aclose()  # its body may be endless, and tells us nothing
        except (httpx.HTTPError, TimeoutError) as error:
            return Answer(None, type(error).__name__)
        return Answer(response.status_code, f"HTTP {response.status_code}", _seconds(response.headers.get("retry-after")))


def _seconds(text: str | None) -> float:
    """A `Retry-After` in seconds; one that is a date is not read."""
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else 0.0
