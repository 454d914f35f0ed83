"""The blobs: saves a finished video in bounded memory, checks it, reads ranges, signs URLs, and
removes it. Manifests are written by a binding of the host's, and only removed here.

A blob's name begins with its key's id: `videos/<key id>/<video id>.mp4`. A blob is complete or
absent: blocks are staged while the upstream is read, and committed after the whole was checked. A
save holds one block and its copy in memory.
"""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from shared.clock import Clock
from shared.config.settings import Storage
from shared.errors import Gone, NotAVideo, StorageUnavailable, TooLarge
from shared.media.content import Content
from shared.media.mp4 import Mp4Check
from shared.media.reference_image import LARGEST, Reference
from shared.media.video import Video, owner_of
from shared.storage.blob_service import blob_service, guarded

if TYPE_CHECKING:
    import httpx
    from azure.storage.blob import UserDelegationKey
    from azure.storage.blob.aio import BlobClient, BlobServiceClient

VIDEOS, REFERENCES, INPUTS, MANIFESTS = "videos", "references", "inputs", "manifests"

_BLOCK = 1024 * 1024  # bytes; Azure takes 50,000 blocks, so a video may have 50 GB
# Media types of a video's images, by the upstream's names of them.
VARIANTS = {"thumbnail": "image/webp", "spritesheet": "image/jpeg"}
MEDIA_TYPES = {"video": "video/mp4", **VARIANTS}
_LARGEST_IMAGE = 16 * 1024 * 1024
_RANGE = 8 * 1024 * 1024  # bytes of one read, each of which checks that the blob has not changed
_READ_SECONDS = 30.0  # for storage to connect, or to send the next bytes
_MOST_FAILURES, _PAUSE = 3, 0.2  # of a read in a row, and seconds after each
_AT_ONCE = 4  # requests for the pieces of one reference image or thumbnail


class Stored(msgspec.Struct, frozen=True):
    """A blob as it is now: its length in bytes, its entity tag in quotes, and when it was written
    (UTC, in whole seconds).
    """

    length: int
    etag: str
    modified: datetime


class Archive:
    """The blob containers. A signed URL works for `url_seconds`."""

    def __init__(self, storage: Storage, credential: Callable[[], Any], clock: Clock, url_seconds: int) -> None:
        self._storage = storage
        self._credential = credential
        self._clock = clock
        self._url_seconds = url_seconds
        self._service: BlobServiceClient | None = None
        self._http: httpx.AsyncClient | None = None
        self._containers: set[str] = set()
        self._delegation: tuple[UserDelegationKey, datetime] | None = None

    async def save(self, video: Video, content: Content) -> int:
        """Store the video's bytes and return their number. Raises NotAVideo, StorageUnavailable, or
        what the stream raises.

        May be repeated: a second save of the same video replaces the first, or finds that another
        save has committed.
        """
        check = Mp4Check()
        blob = await self._blob(VIDEOS, f"{video.owner}/{video.id}.mp4", writing=True)
        attempt = secrets.token_hex(4)  # so that two saves at once do not mix their blocks
        blocks: list[str] = []
        async for block in _blocks(content.chunks):
            check.feed(block)
            blocks.append(f"{attempt}{len(blocks):08d}")
            async with guarded():
                await blob.stage_block(blocks[-1], block)
        check.finish()
        if content.length is not None and check.length != content.length:
            raise NotAVideo(f"The upstream sent {check.length} of {content.length} bytes.")
        await self._commit(blob, blocks, video, check.length)
        return check.length

    async def _commit(self, blob: "BlobClient", blocks: list[str], video: Video, length: int) -> None:
        from azure.core.exceptions import HttpResponseError
        from azure.storage.blob import BlobBlock, ContentSettings

        async with guarded():
            try:
                await blob.commit_block_list(
                    [BlobBlock(block) for block in blocks],
                    content_settings=ContentSettings(
                        content_type="video/mp4", content_disposition=f'attachment; filename="{video.id}.mp4"'
                    ),
                    metadata={"video": video.id, "model": video.model, "seconds": str(video.seconds), "size": video.size},
                )
            except HttpResponseError as error:
                # Another save of this video committed first, which dropped our staged blocks.
                if (
                    getattr(error, "error_code", None) != "InvalidBlockList"
                    or (await blob.get_blob_properties()).size != length
                ):
                    raise

    async def stored(self, video: Video, variant: str = "video") -> "Stored | None":
        """A stored video, or an image of it, as it is now; None if it is not stored."""
        from azure.core.exceptions import ResourceNotFoundError

        blob = await self._blob(VIDEOS, blob_name(video, variant))
        async with guarded():
            try:
                found = await blob.get_blob_properties()
            except ResourceNotFoundError:
                return None
        return Stored(int(found.size), found.etag if found.etag.startswith('"') else f'"{found.etag}"', found.last_modified)

    async def length(self, video: Video, variant: str = "video") -> int | None:
        """The length of a stored video or image in bytes; None if it is not stored."""
        found = await self.stored(video, variant)
        return None if found is None else found.length

    async def read(self, video: Video, file: "Stored", first: int, last: int, variant: str = "video") -> AsyncIterator[bytes]:
        """The bytes from `first` to `last`, both included, as they come from storage.

        Raises Gone if the blob is no longer the `file`, also in the middle: bytes of two files are
        never mixed. Raises StorageUnavailable.
        """
        pieces = self._pieces(video, file, first, last, variant)
        return _resumed(await anext(pieces), pieces)

    async def _pieces(self, video: Video, file: "Stored", first: int, last: int, variant: str) -> AsyncGenerator[bytes]:
        """One range after the other. Storage breaks connections whose reader is slow. A broken read
        goes on from where it broke, unless three in a row bring nothing.
        """
        import httpx

        at, failures = first, 0
        while at <= last:
            begun = at
            try:
                async for piece in self._range(await self.url(video, variant), file, at, min(at + _RANGE - 1, last)):
                    at += len(piece)
                    yield piece
            except httpx.TransportError as error:
                failures = failures + 1 if at == begun else 0
                if failures == _MOST_FAILURES:
                    raise StorageUnavailable("Storage broke off a read; try again.") from error
                await self._clock.sleep(failures * _PAUSE)

    async def _range(self, url: str, file: "Stored", first: int, last: int) -> AsyncIterator[bytes]:
        # Azure's own client holds each range in memory, twice, before it gives a byte of it.
        headers = {"range": f"bytes={first}-{last}", "if-match": file.etag}
        async with self._reader().stream("GET", url, headers=headers) as response:
            if response.status_code in (404, 412):
                raise Gone("The video's bytes are no longer stored as they were.")
            if response.status_code != 206:
                raise StorageUnavailable(f"Storage answered a read with {response.status_code}; try again.")
            async for piece in response.aiter_raw():
                yield piece

    def _reader(self) -> "httpx.AsyncClient":
        if self._http is None:
            import httpx

            # Slow readers keep their connections, and must not make others wait for one.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
            self._http = httpx.AsyncClient(limits=limits, timeout=_READ_SECONDS, trust_env=False)
        return self._http

    async def url(self, video: Video, variant: str = "video") -> str:
        """A signed URL of the bytes, with media type and filename, that works for `url_seconds`."""
        from azure.storage.blob import BlobSasPermissions, generate_blob_sas

        name, media_type = blob_name(video, variant), MEDIA_TYPES[variant]
        service = self._connect()  # a client of the blob itself costs more than the signature
        expiry = self._clock.now() + timedelta(seconds=self._url_seconds)
        signature = generate_blob_sas(
            account_name=str(service.account_name),
            container_name=VIDEOS,
            blob_name=name,
            permission=BlobSasPermissions(read=True),
            expiry=expiry,
            content_type=media_type,
            content_disposition=f'attachment; filename="{filename(video, variant)}"',
            **await self._signing_key(),
        )
        return f"{service.url.rstrip('/')}/{VIDEOS}/{name}?{signature}"

    async def save_image(self, video: Video, variant: str, content: Content) -> None:
        """Store the upstream's thumbnail or spritesheet. Raises NotAVideo if it is not such an
        image, incomplete, or larger than 16 MiB.
        """
        if content.media_type.partition(";")[0] != VARIANTS[variant]:
            raise NotAVideo(f"The upstream's {variant} is not a {VARIANTS[variant]} image.")
        data = bytearray()
        async for chunk in content.chunks:
            data += chunk
            if len(data) > _LARGEST_IMAGE:
                raise NotAVideo(f"The upstream's {variant} is larger than {_LARGEST_IMAGE // 1024**2} MiB.")
        if (content.length or len(data)) != len(data):
            raise NotAVideo(f"The upstream's {variant} was cut short after {len(data)} bytes.")
        await self.put_image(video, variant, bytes(data))

    async def put_image(self, video: Video, variant: str, data: bytes) -> None:
        """Store an image that was drawn."""
        await self._put(VIDEOS, blob_name(video, variant), data, VARIANTS[variant])

    async def keep_reference(self, video: Video, reference: Reference) -> None:
        """Store a reference image until its video is finished."""
        await self._put(REFERENCES, f"{video.owner}/{video.id}", reference.data, reference.media_type)

    async def reference(self, video: Video) -> Reference | None:
        """The stored reference image; None if there is none."""
        from azure.core.exceptions import ResourceNotFoundError

        blob = await self._blob(REFERENCES, f"{video.owner}/{video.id}")
        async with guarded():
            try:
                download = await blob.download_blob(max_concurrency=_AT_ONCE)
                return Reference(await download.readall(), video.reference or "")
            except ResourceNotFoundError:
                return None

    async def input(self, name: str) -> bytes | None:
        """A reference image that the operator's pipeline has put into the container for inputs;
        None if there is none of this name. Raises TooLarge.
        """
        from azure.core.exceptions import ResourceNotFoundError

        blob = await self._blob(INPUTS, name)
        async with guarded():
            try:
                if (await blob.get_blob_properties()).size > LARGEST:
                    raise TooLarge(f"The image is larger than {LARGEST // 1024**2} MiB.", param="input_reference")
                download = await blob.download_blob(0, LARGEST, max_concurrency=_AT_ONCE)
                return await download.readall()
            except ResourceNotFoundError:
                return None

    async def drop_reference(self, video_id: str) -> None:
        """Remove a video's reference image. May be repeated."""
        await self._delete(REFERENCES, f"{owner_of(video_id)}/{video_id}")

    async def drop(self, video: Video) -> None:
        """Remove everything stored for a video. May be repeated."""
        await self._delete(VIDEOS, blob_name(video))
        await self.drop_manifest(video)
        await self.drop_images(video)

    async def drop_manifest(self, video: Video) -> None:
        """Remove its manifest, if it has one. May be repeated."""
        await self._delete(MANIFESTS, f"{video.id}.json")

    async def drop_images(self, video: Video) -> None:
        """Remove its thumbnail and its spritesheet. May be repeated."""
        for variant in VARIANTS:
            await self._delete(VIDEOS, blob_name(video, variant))

    async def _put(self, container: str, name: str, data: bytes, media_type: str) -> None:
        from azure.storage.blob import ContentSettings

        blob = await self._blob(container, name, writing=True)
        async with guarded():
            settings = ContentSettings(content_type=media_type)
            await blob.upload_blob(data, overwrite=True, max_concurrency=_AT_ONCE, content_settings=settings)

    async def _delete(self, container: str, name: str) -> None:
        from azure.core.exceptions import ResourceNotFoundError

        blob = await self._blob(container, name)
        async with guarded():
            try:
                await blob.delete_blob()
            except ResourceNotFoundError:
                return

    async def _blob(self, container: str, name: str, *, writing: bool = False) -> "BlobClient":
        from azure.core.exceptions import ResourceExistsError

        service = self._connect()
        # In Azure the templates make the containers; on a new laptop this does, once per process.
        if writing and container not in self._containers:
            async with guarded():
                with suppress(ResourceExistsError):
                    await service.create_container(container)
            self._containers.add(container)
        return service.get_blob_client(container, name)

    def _connect(self) -> "BlobServiceClient":
        if self._service is None:
            self._service = blob_service(self._storage, self._credential)
        return self._service

    async def _signing_key(self) -> dict[str, Any]:
        """The account's key from the connection string, or else a delegation key of the app's
        identity, kept until shortly before it expires.
        """
        service = self._connect()
        if self._storage.connection_string:
            return {"account_key": service.credential.account_key}
        now = self._clock.now()
        wanted = now + timedelta(seconds=self._url_seconds)
        if self._delegation is None or self._delegation[1] < wanted:
            until = wanted + timedelta(hours=1)
            async with guarded():
                # Valid from five minutes ago, because clocks differ.
                key = await service.get_user_delegation_key(now - timedelta(minutes=5), until)
            self._delegation = (key, until)
        return {"user_delegation_key": self._delegation[0]}

    async def close(self) -> None:
        if self._service is not None:
            await self._service.close()
        if self._http is not None:
            await self._http.aclose()


def filename(video: Video, variant: str) -> str:
    """The name of the file, in our storage and for downloads."""
    ending = {"thumbnail": "thumbnail.webp", "spritesheet": "spritesheet.jpg"}.get(variant, "mp4")
    return f"{video.id}.{ending}"


def blob_name(video: Video, variant: str = "video") -> str:
    """Where a film or an image is in the container `videos`."""
    return f"{video.owner}/{filename(video, variant)}"


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in blocks of `_BLOCK` bytes, the last one shorter."""
    buffer = bytearray()
    async for chunk in chunks:
        buffer += chunk
        while len(buffer) >= _BLOCK:
            yield bytes(buffer[:_BLOCK])
            del buffer[:_BLOCK]
    if buffer:
        yield bytes(buffer)


async def _resumed(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """The first piece, which was waited for already, and the rest."""
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece
