"""Generate videos: through an Azure Video Gateway, or with Azure OpenAI itself."""

from video_gateway import exceptions
from video_gateway.functions import (
    avideo_content,
    avideo_delete,
    avideo_edit,
    avideo_extension,
    avideo_generation,
    avideo_list,
    avideo_remix,
    avideo_status,
    avideo_wait,
    video_content,
    video_delete,
    video_edit,
    video_extension,
    video_generation,
    video_list,
    video_remix,
    video_status,
    video_wait,
)
from video_gateway.video import VideoObject

__all__ = [
    "VideoObject",
    "avideo_content",
    "avideo_delete",
    "avideo_edit",
    "avideo_extension",
    "avideo_generation",
    "avideo_list",
    "avideo_remix",
    "avideo_status",
    "avideo_wait",
    "exceptions",
    "video_content",
    "video_delete",
    "video_edit",
    "video_extension",
    "video_generation",
    "video_list",
    "video_remix",
    "video_status",
    "video_wait",
]
