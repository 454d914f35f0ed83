"""Telemetry: spans and metrics of what the app does. Without configuration there is none, and
nothing is imported for it.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, Protocol

from shared.telemetry.trace_parent import TraceParent

if TYPE_CHECKING:
    from shared.telemetry.finished_span import FinishedSpan

Kind = Literal["internal", "server", "client"]
Attributes = Mapping[str, Any]
"""Values are texts, numbers or booleans; an attribute that is None is left out."""

# The names of the instruments. `open_telemetry` describes each.
OPERATION = "gen_ai.client.operation.duration"  # of the GenAI conventions
VIDEOS = "video_gateway.videos"
QUEUE_WAIT = "video_gateway.queue_wait"
GENERATION = "video_gateway.generation"
SPEND = "video_gateway.spend"
POLL_LAG = "video_gateway.poll_lag"
SLOTS_USED = "video_gateway.slots.used"
SLOTS = "video_gateway.slots.limit"
UNFINISHED = "video_gateway.unfinished"
QUEUE_AGE = "video_gateway.queue_age"
DELIVERIES = "video_gateway.deliveries"


class Span(Protocol):
    """A span that has not ended."""

    def rename(self, name: str) -> None: ...

    def set(self, attributes: Attributes) -> None: ...

    def fail(self, error: str) -> None:
        """Mark it as failed, with the error's code. Its text may quote a prompt."""
        ...


class Telemetry(Protocol):
    """Takes spans and metrics. No method raises, and only `close` waits."""

    @property
    def on(self) -> bool:
        """Whether there is any receiver."""
        ...

    def span(
        self, name: str, kind: Kind = "internal", *, parent: TraceParent | None = None, root: bool = False
    ) -> AbstractContextManager[Span]:
        """A span that ends with the block. Its parent is `parent`, or else the span of the block
        around it; with `root` it has no other parent than `parent`. An exception that leaves the
        block marks it as failed.
        """
        ...

    @property
    def current(self) -> TraceParent | None:
        """The span of the block around, or None if there is none."""
        ...

    def tell(self, spans: "Sequence[FinishedSpan]") -> None:
        """Export spans, unless they are not sampled."""
        ...

    def measure(self, name: str, value: float, attributes: Attributes) -> None:
        """Record a value of an instrument, in its unit."""
        ...

    def close(self) -> None:
        """Send what is left. This takes seconds if a receiver does not answer, so it must not run
        on the event loop.
        """
        ...


class _NoSpan:
    def rename(self, name: str) -> None: ...

    def set(self, attributes: Attributes) -> None: ...

    def fail(self, error: str) -> None: ...


NO_SPAN = _NoSpan()
_NOWHERE = nullcontext(NO_SPAN)


class Silent:
    """The telemetry of an app that has no receiver."""

    on = False
    current = None

    def span(
        self, name: str, kind: Kind = "internal", *, parent: TraceParent | None = None, root: bool = False
    ) -> AbstractContextManager[Span]:
        del name, kind, parent, root
        return _NOWHERE

    def tell(self, spans: "Sequence[FinishedSpan]") -> None: ...

    def measure(self, name: str, value: float, attributes: Attributes) -> None: ...

    def close(self) -> None: ...


SILENT = Silent()
