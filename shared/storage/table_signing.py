"""Who asks the table service: the account's key signs each request, or the app's identity brings a
token (https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from shared.errors import StorageUnavailable
from shared.storage.account import Account

logger = logging.getLogger("gateway")

_SCOPE = "https://storage.azure.com/.default"
_AHEAD = 300.0  # seconds before its end at which azure-identity fetches a new token
_ASK_AGAIN = 30.0  # seconds until a renewal that failed is tried again, while the old token is good
_PATIENCE = 30.0  # seconds for a renewal


class Signer(Protocol):
    async def authorization(self, method: str, path: str, headers: Mapping[str, str], /) -> str:
        """The header `Authorization` of a request; `path` as it is sent, without the query. Raises
        StorageUnavailable.
        """


class SharedKey(msgspec.Struct, frozen=True):
    """Signs with the account's key."""

    account: Account

    async def authorization(self, method: str, path: str, headers: Mapping[str, str], /) -> str:
        resource = f"/{self.account.name}{path}"
        told = f"{method}\n\n{headers.get('content-type', '')}\n{headers['x-ms-date']}\n{resource}"
        return f"SharedKey {self.account.name}:{self.account.signature(told)}"


class BearerToken:
    """A token of the app's identity. `credential` is asked for when a token is needed, and not
    before: its library takes half a second to import.

    There is one renewal for all who need it, and it goes on where they go away. They wait for it
    only if the old token is over; one that fails or hangs is no harm before.
    """

    def __init__(self, credential: Callable[[], Any], now: Callable[[], float] = time.time) -> None:
        self._credential = credential
        self._now = now
        self._token = ""
        self._ends = self._renews = 0.0
        self._renewal: asyncio.Task[bool] | None = None

    async def authorization(self, *_: object) -> str:
        now = self._now()
        if now >= min(self._renews, self._ends):
            renewal = self._begin()
            if now >= self._ends and not await asyncio.shield(renewal):
                raise StorageUnavailable("The app's identity has no token for storage; try again.")
        return f"Bearer {self._token}"

    def _begin(self) -> "asyncio.Task[bool]":
        """Begin a renewal, unless there is one."""
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew())
        return self._renewal

    async def _renew(self) -> bool:
        """Returns whether there is a new token."""
        from azure.core.exceptions import AzureError

        try:
            async with asyncio.timeout(_PATIENCE):
                token = await self._credential().get_token(_SCOPE)
        except (AzureError, TimeoutError) as error:
            logger.warning("no new token for storage: %s", type(error).__name__)
            self._renews = self._now() + _ASK_AGAIN
            return False
        self._token, self._ends = token.token, float(token.expires_on)
        # A token shorter than that is asked for again at once; its library keeps it meanwhile.
        self._renews = self._ends - _AHEAD
        return True
