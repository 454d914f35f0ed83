"""The metrics of a video that has ended."""

from datetime import datetime

from shared.config.catalog import MICROS
from shared.media.video import Video
from shared.telemetry.telemetry import GENERATION, OPERATION, QUEUE_WAIT, SPEND, VIDEOS, Telemetry


def measure(telemetry: Telemetry, video: Video) -> None:
    """Record the metrics of a video; to be called once for each. Error codes are no attributes: an
    upstream may invent any number of them, and each would be a time series.
    """
    model = {"gen_ai.request.model": video.model}
    cancelled = video.error_code == "cancelled"
    telemetry.measure(VIDEOS, 1, {**model, "video.status": "cancelled" if cancelled else video.status})
    telemetry.measure(SPEND, video.spent / MICROS, model)
    usual = {"gen_ai.operation.name": "generate_video", "gen_ai.provider.name": "azure-video-gateway", **model}
    error = {"error.type": "_OTHER"} if video.status == "failed" else {}
    spans: tuple[tuple[str, datetime | None, datetime | None], ...] = (
        (OPERATION, video.created_at, video.finished_at),
        (QUEUE_WAIT, video.created_at, video.accepted_at),
        (GENERATION, video.started_at or video.accepted_at, video.rendered_at),
    )
    for instrument, first, last in spans:
        if first is not None and last is not None:
            seconds = max((last - first).total_seconds(), 0.0)
            telemetry.measure(instrument, seconds, {**usual, **error} if instrument is OPERATION else model)
