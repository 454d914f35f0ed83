"""Spans of the steps: each is a child of its video's span, whichever instance runs it.

The orchestrator has no span, because it is replayed. Its waits are the gaps between the steps, and
the video's own spans show them at its end (`events.video_spans`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from shared.storage.video_store import VideoStore
from shared.telemetry.telemetry import Span, Telemetry
from shared.telemetry.trace_parent import TraceParent, span_of
from shared.videos.step_result import StepResult

_MOST_KNOWN = 10_000  # videos whose span an instance remembers


class Tracing(msgspec.Struct, frozen=True):
    """Makes the spans, if there is telemetry."""

    telemetry: Telemetry
    videos: VideoStore
    _known: dict[str, TraceParent] = msgspec.field(default_factory=dict)

    @asynccontextmanager
    async def step(self, name: str, video_id: str) -> AsyncIterator[Span]:
        """The span of a step, which ends with the block. With telemetry, a video's first step on an
        instance reads its record once more. Raises StorageUnavailable.
        """
        parent = await self._span_of(video_id) if self.telemetry.on else None
        with self.telemetry.span(name, parent=parent) as span:
            span.set({"video.id": video_id})
            yield span

    async def _span_of(self, video_id: str) -> TraceParent:
        if video_id not in self._known:
            entry = await self.videos.find(video_id)
            if len(self._known) >= _MOST_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[video_id] = span_of(video_id, TraceParent.read(entry.video.traceparent if entry else None))
        return self._known[video_id]


def tell(span: Span, outcome: StepResult) -> None:
    """Put a step's result on its span."""
    (result,) = outcome.keys() - {"seen"}
    span.set({"video.step.result": result, "video.step.again_seconds": outcome.get("again")})
    if "failed" in outcome:
        span.fail(outcome["failed"]["code"])
