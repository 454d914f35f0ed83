"""One create at one deployment, as the video's record notes it before the upstream is asked."""

from dataclasses import dataclass
from datetime import UTC, datetime

from shared.config.catalog import Deployment, Model
from shared.media.video import Video
from shared.storage.video_store import VideoRow


@dataclass(frozen=True)
class Attempt:
    """`entry` is the video's row as it was last read or written, `model` the one it is made with,
    `deployment` the one that is asked.
    """

    entry: VideoRow
    model: Model
    deployment: Deployment

    @property
    def video(self) -> Video:
        return self.entry.video

    @property
    def noted_at(self) -> datetime:
        """When the attempt was noted, which is before the upstream was asked. Raises ValueError for
        a video that is not being asked for.
        """
        if self.video.attempted_at is None:
            raise ValueError("the upstream was never asked for it")
        return self.video.attempted_at.astimezone(UTC)
