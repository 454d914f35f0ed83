"""The files that tables are exported to: blobs of a container, which may be in another account. A
file is complete or absent.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shared.config.settings import Storage
from shared.errors import StorageUnavailable
from shared.storage.blob_service import blob_service, guarded

if TYPE_CHECKING:
    from azure.storage.blob.aio import BlobClient, BlobServiceClient

# Bytes of one read.
_READS = {"max_single_get_size": 1024 * 1024, "max_chunk_get_size": 1024 * 1024}


class ExportFiles:
    """The files in a container. Nothing connects before it is used."""

    def __init__(self, storage: Storage, credential: Callable[[], Any], container: str) -> None:
        self._storage = storage
        self._credential = credential
        self._container = container
        self._service: BlobServiceClient | None = None

    async def names(self, prefix: str) -> list[str]:
        """The names that begin with `prefix`, in order; none where there is no container. Raises
        StorageUnavailable.
        """
        from azure.core.exceptions import ResourceNotFoundError

        container = self._connect().get_container_client(self._container)
        async with guarded():
            try:
                return [name async for name in container.list_blob_names(name_starts_with=prefix)]
            except ResourceNotFoundError:
                return []

    async def save(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Store a file of these bytes, or nothing where they end in an error. Holds a block of a
        MiB in memory. Raises StorageUnavailable, and what the bytes raise.
        """
        from azure.core.exceptions import ResourceExistsError

        service = self._connect()
        async with guarded():
            with suppress(ResourceExistsError):
                await service.create_container(self._container)
            await self._blob(name).upload_blob(chunks, overwrite=True)

    async def read(self, name: str) -> AsyncIterator[bytes]:
        """The bytes of a file. Raises StorageUnavailable, also for a file that is not there."""
        from azure.core.exceptions import ResourceNotFoundError

        async with guarded():
            try:
                download = await self._blob(name).download_blob()
            except ResourceNotFoundError as error:
                raise StorageUnavailable(f"There is no file {name!r} in the container {self._container!r}.") from error
            async for chunk in download.chunks():
                yield chunk

    async def drop(self, name: str) -> None:
        """May be repeated. Raises StorageUnavailable."""
        from azure.core.exceptions import ResourceNotFoundError

        async with guarded():
            with suppress(ResourceNotFoundError):
                await self._blob(name).delete_blob()

    async def close(self) -> None:
        if self._service is not None:
            await self._service.close()

    def _blob(self, name: str) -> "BlobClient":
        return self._connect().get_blob_client(self._container, name)

    def _connect(self) -> "BlobServiceClient":
        if self._service is None:
            self._service = blob_service(self._storage, self._credential, **_READS)
        return self._service
