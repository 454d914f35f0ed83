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
    """A token of the app's identity, kept until shortly before its end. `credential` is asked for
    when a token is needed, and not before: its library takes half a second to import.
    """

    def __init__(self, credential: Callable[[], Any], now: Callable[[], float] = time.time) -> None:
        self._credential = credential
        self._now = now
        self._token = ""
        self._ends = self._renews = 0.0
        self._turn = asyncio.Lock()

    async def authorization(self, *_: object) -> str:
        if self._now() >= self._renews:
            async with self._turn:  # those who wait for it find it renewed
                if self._now() >= self._renews:
                    await self._renew()
        return f"Bearer {self._token}"

    async def _renew(self) -> None:
        """A renewal that fails is no harm while the old token is good."""
        from azure.core.exceptions import AzureError

        try:
            token = await self._credential().get_token(_SCOPE)
        except AzureError as error:
            if self._now() >= self._ends:
                raise StorageUnavailable("The app's identity has no token for storage; try again.") from error
            logger.warning("no new token for storage: %s", type(error).__name__)
            self._renews = self._now() + _ASK_AGAIN
            return
        self._token, self._ends = token.token, float(token.expires_on)
        # A token shorter than that is asked for again at once; its library keeps it meanwhile.
        self._renews = self._ends - _AHEAD
