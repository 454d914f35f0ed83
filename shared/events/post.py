"""Sends one request to a receiver, and reads no more of its answer than is needed."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import msgspec

from shared.clock import Clock

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger("gateway")

_PATIENCE = 15.0  # seconds for a whole request, as Standard Webhooks has it
_PATIENCE_WITH_BODY = 2.0  # seconds for what is read of its answer


class Letter(msgspec.Struct, frozen=True):
    """A request that is to be made: a POST of `body`. Its headers may hold a key. Where `url` has
    an address in the place of a name, `server` is the name that the certificate must have. `reads`
    is how many bytes of the answer's body are wanted.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes
    server: str | None = None
    reads: int = 0

    def __repr__(self) -> str:
        return f"Letter({len(self.body)} bytes)"


class Answer(msgspec.Struct, frozen=True):
    """What came back: a status, or None where nothing did. `after` are the seconds of its
    `Retry-After`; `reason` says what happened, and quotes nothing. `body` is what the letter wanted
    of it and came in time.
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
        """Send a letter. Whatever the receiver does is an Answer; nothing is raised for it, and
        nothing for an address that cannot be asked.
        """
        import httpx

        try:
            async with asyncio.timeout(_PATIENCE):
                response = await self._send(letter)
                body = await _read(response, letter.reads)
                await response.aclose()  # the rest may be endless, and tells us nothing
        except (httpx.HTTPError, TimeoutError) as error:
            return Answer(None, type(error).__name__)
        except Exception as error:  # one letter must not hold up those that are sent with it
            logger.warning("a letter could not be sent: %s", type(error).__name__)
            return Answer(None, type(error).__name__)
        after = _seconds(response.headers.get("retry-after", ""), self.clock.now())
        return Answer(response.status_code, f"HTTP {response.status_code}", after, body)

    async def _send(self, letter: Letter) -> "httpx.Response":
        client = self.http()
        named = {"sni_hostname": letter.server} if letter.server else {}
        request = client.build_request("POST", letter.url, headers=dict(letter.headers), content=letter.body, extensions=named)
        return await client.send(request, stream=True, follow_redirects=False)


async def _read(response: "httpx.Response", most: int) -> bytes:
    """The beginning of a body, not unpacked. One that breaks off or hesitates is left: the status
    has been told.
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


def _seconds(text: str, now: datetime) -> float:
    """A `Retry-After`, a number of seconds or an HTTP date, in seconds from now; 0 where it is
    neither, or past.
    """
    if text.isascii() and text.isdigit() and len(text) < 9:
        return float(text)
    try:
        return max((parsedate_to_datetime(text) - now).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):  # no date, or one without a zone
        return 0.0
