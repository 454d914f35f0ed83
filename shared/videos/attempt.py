"""One create at one deployment, as recorded before the upstream is asked."""

from datetime import UTC, datetime

import msgspec

from shared.config.catalog import Deployment, Model
from shared.media.video import Video
from shared.storage.video_store import VideoRow


class Attempt(msgspec.Struct, frozen=True):
    """`entry` is the video's row as last read or written, `model` the model that makes it,
    `deployment` the deployment that is asked.
    """

    entry: VideoRow
    model: Model
    deployment: Deployment

    @property
    def video(self) -> Video:
        return self.entry.video

    @property
    def mark(self) -> str | None:
        """The `model` that only this attempt's job has in the upstream's list. None if jobs of this
        deployment have no such mark.
        """
        return self.deployment.mark(self.video.id)

    @property
    def noted_at(self) -> datetime:
        """When the attempt was recorded, which is before the create was sent. Raises ValueError for
        a video without an attempt.
        """
        if self.video.attempted_at is None:
            raise ValueError("the upstream was never asked for it")
        return self.video.attempted_at.astimezone(UTC)
