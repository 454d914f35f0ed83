"""The client of an account's blob service, and its errors as ours."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from shared.config.settings import Storage
from shared.errors import StorageUnavailable

if TYPE_CHECKING:
    from azure.storage.blob.aio import BlobServiceClient

_RETRIES: dict[str, Any] = {"retry_total": 4, "initial_backoff": 1, "increment_base": 2}
# Bytes of one write: aiohttp warns of larger ones, which hold the event loop up.
_WRITES = {"max_single_put_size": 1024 * 1024, "max_block_size": 1024 * 1024}


def blob_service(storage: Storage, credential: Callable[[], Any], **more: Any) -> "BlobServiceClient":
    """The client, which connects when it is first used. `more` are options of the library."""
    from azure.storage.blob.aio import BlobServiceClient, ExponentialRetry

    options: dict[str, Any] = {"retry_policy": ExponentialRetry(**_RETRIES), **_WRITES, **more}
    if storage.connection_string:
        return BlobServiceClient.from_connection_string(storage.connection_string, **options)
    return BlobServiceClient(storage.blob_url or "", credential=credential(), **options)


@asynccontextmanager
async def guarded() -> AsyncIterator[None]:
    """Turns the library's errors into StorageUnavailable."""
    from azure.core.exceptions import AzureError

    try:
        yield
    except AzureError as error:
        raise StorageUnavailable("Storage refused or did not answer a blob operation; try again.") from error
