"""Puts messages into the queues of the storage account, by its REST interface
(https://learn.microsoft.com/rest/api/storageservices/put-message).

In Azure the app's identity may do that. On a laptop the connection string has the account's key,
with which each request is signed.
"""

from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from shared.config.settings import Storage
from shared.errors import StorageUnavailable
from shared.storage.account import Account

if TYPE_CHECKING:
    import httpx

_VERSION = "2021-12-02"  # of the interface
_SCOPE = "https://storage.azure.com/.default"
LARGEST = 48 * 1024  # bytes of a message; in base64, as Functions read them, 64 KiB


class Queues(msgspec.Struct, frozen=True):
    """The queues, reached through the app's HTTP client and `token`, which gives a bearer token."""

    storage: Storage
    http: "Callable[[], httpx.AsyncClient]"
    token: Callable[[str], Awaitable[str]]

    async def put(self, queue: str, message: bytes, after: int = 0) -> None:
        """Add a message that readers see after `after` seconds. A missing queue is made, as on a
        new laptop. Raises StorageUnavailable.
        """
        answer = await self._send("POST", f"{queue}/messages", _body(message), {"visibilitytimeout": str(after)})
        if answer.status_code == 404:
            await self._send("PUT", queue, b"", {})
            answer = await self._send("POST", f"{queue}/messages", _body(message), {"visibilitytimeout": str(after)})
        if not answer.is_success:
            raise StorageUnavailable(f"The queue {queue} took no message (HTTP {answer.status_code}); try again.")

    async def _send(self, method: str, path: str, body: bytes, query: Mapping[str, str]) -> "httpx.Response":
        import httpx
        from azure.core.exceptions import AzureError

        url = f"{self._address}/{path}"
        headers = {"x-ms-version": _VERSION, "x-ms-date": format_datetime(datetime.now(UTC), usegmt=True)}
        try:
            headers["authorization"] = await self._permission(method, url, len(body), headers, query)
            return await self.http().request(method, url, params=dict(query), content=body, headers=headers)
        except (httpx.HTTPError, AzureError) as error:  # the latter: the identity got no token
            raise StorageUnavailable("Storage cannot be reached; try again.") from error

    @property
    def _address(self) -> str:
        return (self.storage.queue_url or Account.of(self.storage.connection_string or "").endpoints["queue"]).rstrip("/")

    async def _permission(
        self, method: str, url: str, length: int, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> str:
        if not self.storage.connection_string:
            return f"Bearer {await self.token(_SCOPE)}"
        account = Account.of(self.storage.connection_string)
        named = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
        asked = "".join(f"\n{name}:{value}" for name, value in sorted(query.items()))
        resource = f"/{account.name}{urlsplit(url).path}{asked}"
        told = f"{method}\n\n\n{length or ''}{9 * chr(10)}{named}{resource}"
        return f"SharedKey {account.name}:{account.signature(told)}"


def _body(message: bytes) -> bytes:
    return b"<QueueMessage><MessageText>" + b64encode(message) + b"</MessageText></QueueMessage>"
