"""One try of one request to the table service: signed, on connections that are kept, with an answer
of bounded size. How long it may take in all is for who asks to say.
"""

from datetime import UTC, datetime
from email.utils import format_datetime
from io import BytesIO
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.storage.table_requests import Answer, Request, Unreadable
from shared.storage.table_signing import Signer

if TYPE_CHECKING:
    import aiohttp

_VERSION = {"x-ms-version": "2020-12-06"}
_TIMEOUTS = {"sock_connect": 5.0, "sock_read": 35.0}  # seconds; the service itself gives up after 30
_CONNECTIONS = 100
_LARGE = 256 * 1024  # bytes of a request
_LARGEST = 64 * 1024 * 1024  # bytes of an answer: a page of 1000 rows with long prompts


class Unanswered(Exception):
    """Storage was not reached, or its answer was lost: the request may have been carried out."""


class Connection:
    """The connections to one account. The first request makes them, on the event loop that it
    runs on.

    They know no proxy of the machine, keep no cookie and follow no redirect: what leads to another
    host would carry the token there.
    """

    def __init__(self, address: str, signer: Signer) -> None:
        self.address = address.rstrip("/")
        self._root = urlsplit(self.address).path
        self._signer = signer
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, request: Request) -> Answer:
        """Raises Unanswered or Unreadable, and StorageUnavailable where the app's identity has no
        token.
        """
        import aiohttp
        from yarl import URL

        headers = {**_VERSION, "x-ms-date": format_datetime(datetime.now(UTC), usegmt=True), **request.headers}
        headers["authorization"] = await self._signer.authorization(request.method, self._root + request.path, headers)
        query = f"?{request.query}" if request.query else ""
        url = URL(f"{self.address}{request.path}{query}", encoded=True)
        try:
            async with self._opened().request(
                request.method, url, headers=headers, data=_sent(request.body), allow_redirects=False
            ) as response:
                return Answer(response.status, response.headers, await _body(response))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unanswered from error

    def _opened(self) -> "aiohttp.ClientSession":
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(**_TIMEOUTS),
                skip_auto_headers=("accept-encoding", "user-agent", "content-type"),
                auto_decompress=False,
            )
            # A request that it sent once more would be none of the tries that are counted.
            self._session._retry_connection = False
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _sent(body: bytes) -> bytes | BytesIO | None:
    """A large body goes out piece by piece, so that others have their turns meanwhile."""
    return BytesIO(body) if len(body) > _LARGE else body or None


async def _body(response: "aiohttp.ClientResponse") -> bytes:
    """Raises Unreadable for one without an end."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _LARGEST:
            raise Unreadable(f"more than {_LARGEST} bytes")
    return bytes(body)
