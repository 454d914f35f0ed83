"""Sends one HTTP request to a receiver, and reads no more of its answer than is needed."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from shared.clock import Clock
from shared.http_dates import delay

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger("gateway")

_PATIENCE = 15.0  # seconds for a whole request: the shortest that Standard Webhooks suggests
_PATIENCE_WITH_BODY = 2.0  # seconds for the answer's body


class Letter(msgspec.Struct, frozen=True):
    """A POST of `body` that is to be sent. Its headers may hold a key, so its repr shows none. If
    `url` names an IP address, `server` is the name that the certificate must have. `reads` is how
    many bytes of the answer's body are wanted.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes
    server: str | None = None
    reads: int = 0

    def __repr__(self) -> str:
        return f"Letter({len(self.body)} bytes)"


class Answer(msgspec.Struct, frozen=True):
    """The receiver's answer: `status` is None if there was none. `after` is its `Retry-After` in
    seconds. `reason` says what happened and quotes nothing of the answer. `body` holds at most the
    bytes that the letter wanted.
    """

    status: int | None
    reason: str
    after: float = 0.0
    body: bytes = b""

    @property
    def arrived(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Post(msgspec.Struct, frozen=True):
    """Sends letters through the app's HTTP client. Redirects are not followed."""

    http: "Callable[[], httpx.AsyncClient]"
    clock: Clock

    async def post(self, letter: Letter) -> Answer:
        """Send a letter. A failure is an Answer too: nothing is raised for what the receiver does,
        nor for an address that nobody can connect to.
        """
        import httpx

        try:
            async with asyncio.timeout(_PATIENCE):
                response = await self._send(letter)
                body = await _read(response, letter.reads)
                await response.aclose()  # the rest is not needed, and may be endless
        except (httpx.HTTPError, TimeoutError) as error:
            return Answer(None, type(error).__name__)
        except Exception as error:  # one letter must not stop the others of its batch
            logger.warning("a letter could not be sent: %s", type(error).__name__)
            return Answer(None, type(error).__name__)
        after = delay(response.headers.get("retry-after", ""), self.clock.now()) or 0.0
        return Answer(response.status_code, f"HTTP {response.status_code}", after, body)

    async def _send(self, letter: Letter) -> "httpx.Response":
        client = self.http()
        named = {"sni_hostname": letter.server} if letter.server else {}
        request = client.build_request("POST", letter.url, headers=dict(letter.headers), content=letter.body, extensions=named)
        return await client.send(request, stream=True, follow_redirects=False)


async def _read(response: "httpx.Response", most: int) -> bytes:
    """At most `most` bytes of a body, not decompressed. If it breaks off or is slow, what came so
    far is enough: the status is known.
    """
    import httpx

    body = b""
    if not most:
        return body
    with suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(_PATIENCE_WITH_BODY):
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) >= most:
                    break
    return body[:most]
