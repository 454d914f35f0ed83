"""How a letter reaches a receiver in Azure: with the app's identity, not with a key."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from shared.errors import StorageUnavailable
from shared.events.post import Answer, Letter
from shared.storage.queues import Queues


class Carrier(Protocol):
    async def post(self, letter: Letter) -> Answer:
        """Send a letter. A failure is an Answer too: nothing is raised for what a receiver does."""
        ...


class IdentityPost(msgspec.Struct, frozen=True):
    """Adds a bearer token of the app's identity for `scope`, the receiver's OAuth scope."""

    inner: Carrier
    token: Callable[[str], Awaitable[str]]
    scope: str

    async def post(self, letter: Letter) -> Answer:
        from azure.core.exceptions import AzureError

        try:
            token = await self.token(self.scope)
        except AzureError as error:
            return Answer(None, f"no token: {type(error).__name__}")
        headers = {**letter.headers, "authorization": f"Bearer {token}"}
        return await self.inner.post(msgspec.structs.replace(letter, headers=headers))


class QueuePost(msgspec.Struct, frozen=True):
    """Puts the body into the queue that the letter's address names."""

    queues: Queues

    async def post(self, letter: Letter) -> Answer:
        try:
            await self.queues.put(letter.url, letter.body)
        except StorageUnavailable as error:
            return Answer(None, error.message)
        return Answer(201, "")
