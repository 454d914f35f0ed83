"""The thumbnail and the sprite sheet of a finished video. They are stored when they are first asked
for: fetched if the upstream has made them, or else drawn from the film.
"""

import asyncio
import logging

import msgspec

from shared.capacity.pool import Pool
from shared.clock import Clock
from shared.config.catalog import Catalog
from shared.errors import Gone, Misrouted, Missing, NotAVideo, NotFound, Refused, Retired, Unavailable, UpstreamError
from shared.media.video import Video
from shared.storage.blobs import Archive
from shared.storage.video_store import VideoStore
from shared.upstream.client import log_failure
from shared.upstream.upstreams import Upstreams

logger = logging.getLogger("gateway")

_LONGEST = 60.0  # seconds until an image is stored, while the caller waits
_LOOK_AGAIN = 5.0  # seconds of `retry-after`, if the upstream names none


class Images(msgspec.Struct, frozen=True):
    """Stores images of videos. Draws one at a time: each takes a processor and much memory."""

    catalog: Catalog
    videos: VideoStore
    pool: Pool
    archive: Archive
    upstreams: Upstreams
    clock: Clock
    _turns: asyncio.Semaphore = msgspec.field(default_factory=lambda: asyncio.Semaphore(1))

    async def store(self, video: Video, variant: str) -> None:
        """Store an image of a video that has its bytes. May be repeated, and run at the same time.

        Raises NotFound if the model has no such `variant` or none can be drawn, Gone if the bytes
        are deleted meanwhile, and Unavailable if a later try may succeed.
        """
        model = self.catalog.get(video.model)
        if model is None or variant not in model.capability.variants:
            raise _no_such(variant)
        # While the pool has the video, the sweep looks after it. If the video is deleted meanwhile
        # and this process is killed, the sweep deletes the image.
        await self.pool.enter(model, video.id)
        try:
            async with asyncio.timeout(_LONGEST):
                if not await self._fetched(video, variant):
                    await self._draw(video, variant)
            await self._drop_if_gone(video)
        except (UpstreamError, TimeoutError) as error:
            wait = (isinstance(error, UpstreamError) and error.retry_after) or _LOOK_AGAIN
            raise Unavailable(f"The {variant} cannot be had just now: try again.", retry_after=wait) from error
        finally:
            await self.pool.leave(model.name, video.id)

    async def _fetched(self, video: Video, variant: str) -> bool:
        """Fetch and store the upstream's image. Returns False if it has none. Raises UpstreamError
        if it cannot send it now.
        """
        upstream = self.upstreams.of(video)
        if upstream is None or variant not in upstream.deployment.dialect.variants:
            return False
        try:
            async with upstream.content(video.upstream_id or "", variant) as content:
                await self.archive.save_image(video, variant, content)
        except (Missing, Misrouted, NotAVideo, Refused, Retired) as error:
            log_failure(video.id, variant, error)
            return False
        return True

    async def _draw(self, video: Video, variant: str) -> None:
        """Draw the image from the film and store it, unless another call has done so meanwhile.
        Raises NotFound or Gone.
        """
        from shared.media.previews import drawn

        async with self._turns:
            film = await self.archive.stored(video)
            if await self.archive.stored(video, variant) is not None:
                return
            if film is None:
                raise Gone("The video's bytes are no longer stored.")
            try:
                image = await drawn(variant, film.length, lambda first, last: self.archive.read(video, film, first, last))
            except NotAVideo as error:
                logger.warning("video %s: %s: %s", video.id, variant, error.message)
                raise _no_such(variant) from error
            await self.archive.put_image(video, variant, image)

    async def _drop_if_gone(self, video: Video) -> None:
        """Delete the images of a video that was deleted or has expired while one was stored, since
        its deletion could not see that image yet. Raises NotFound or Gone then.
        """
        entry = await self.videos.find(video.id)
        deleted = entry is None or entry.video.deleted
        if deleted or video.expired(self.clock.now()):
            await self.archive.drop_images(video)
            raise NotFound("No such video.", param="video_id") if deleted else Gone("The video's retention time is over.")


def _no_such(variant: str) -> NotFound:
    return NotFound(f"No {variant} of this video can be had.", code="variant_not_found", param="variant")
