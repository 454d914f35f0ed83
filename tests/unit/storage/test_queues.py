"""Messages in the account's queues: signed as real storage wants it, as Functions read them."""

import secrets
from base64 import b64decode

import httpx
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.storage.queue.aio import QueueClient

from shared.config.settings import Storage
from shared.errors import StorageUnavailable
from shared.storage.queues import LARGEST, Queues

pytestmark = pytest.mark.anyio


async def token(scope: str) -> str:
    return f"token-for-{scope}"


async def test_a_message_is_in_the_queue_when_it_is_due(azurite: str) -> None:
    """The queue is made where it is missing; a message may be seen later."""
    name = f"q{secrets.token_hex(8)}"
    async with httpx.AsyncClient(trust_env=False) as client:
        queues = Queues(Storage(connection_string=azurite), lambda: client, token)
        await queues.put(name, b'{"prompt": "<A cat> & \xc3\xa4"}')
        await queues.put(name, b"x" * LARGEST, after=60)
        with pytest.raises(StorageUnavailable, match="HTTP 413"):
            await queues.put(name, b"x" * (LARGEST + 1))
    async with QueueClient.from_connection_string(azurite, name) as queue:
        seen = [b64decode(message.content) async for message in queue.receive_messages()]
        assert seen == [b'{"prompt": "<A cat> & \xc3\xa4"}']
        assert (await queue.get_queue_properties()).approximate_message_count == 2


async def test_in_azure_the_apps_identity_puts_it() -> None:
    """No key is there to sign with."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(201)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        storage = Storage(blob_url="https://b", table_url="https://t", queue_url="https://account.queue.core.windows.net/")
        await Queues(storage, lambda: client, token).put("video-events", b"{}")
    (request,) = seen
    assert str(request.url) == "https://account.queue.core.windows.net/video-events/messages?visibilitytimeout=0"
    assert request.headers["authorization"] == "Bearer token-for-https://storage.azure.com/.default"


async def test_a_storage_that_is_away_is_told_as_such() -> None:
    """With what the library says kept out."""

    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no such host", request=request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        storage = Storage(queue_url="https://account.queue.core.windows.net")
        with pytest.raises(StorageUnavailable, match="cannot be reached"):
            await Queues(storage, lambda: client, token).put("video-events", b"{}")


async def test_an_identity_without_a_token_is_told_as_such() -> None:
    """The identity's endpoint may not answer: a courier then tries again later."""

    async def no_token(scope: str) -> str:
        raise ClientAuthenticationError(scope)

    async with httpx.AsyncClient(trust_env=False) as client:
        storage = Storage(queue_url="https://account.queue.core.windows.net")
        with pytest.raises(StorageUnavailable, match="cannot be reached"):
            await Queues(storage, lambda: client, no_token).put("video-events", b"{}")
