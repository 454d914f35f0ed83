"""Telemetry: spans of what the app does, and measurements of it. Without configuration there is
none, and nothing is imported for it.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, Protocol

from shared.telemetry.trace_parent import TraceParent

if TYPE_CHECKING:
    from shared.telemetry.finished_span import FinishedSpan

Kind = Literal["internal", "server", "client"]
Attributes = Mapping[str, Any]
"""Values are texts, numbers or flags; None is left out."""

# What is measured, by name. `open_telemetry` says what each one is.
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
    """A span that lasts."""

    def rename(self, name: str) -> None: ...

    def set(self, attributes: Attributes) -> None: ...

    def fail(self, error: str) -> None:
        """Say that it failed, by a code: no text of an error, which may quote a prompt."""
        ...


class Telemetry(Protocol):
    """Where spans and measurements go. Nothing here waits, and nothing raises."""

    @property
    def on(self) -> bool:
        """Whether anybody gets them."""
        ...

    def span(
        self, name: str, kind: Kind = "internal", *, parent: TraceParent | None = None, root: bool = False
    ) -> AbstractContextManager[Span]:
        """A span for as long as the block runs, below `parent`, or below the span of the block
        around it; with `root`, below `parent` alone. An exception that leaves the block fails it.
        """
        ...

    @property
    def current(self) -> TraceParent | None:
        """The span of the block around; None where there is none."""
        ...

    def tell(self, spans: "Sequence[FinishedSpan]") -> None: ...

    def measure(self, name: str, value: float, attributes: Attributes) -> None: ...

    def close(self) -> None:
        """Send what is left. Takes seconds where nobody takes it, so not on the event loop."""
        ...


class _NoSpan:
    def rename(self, name: str) -> None: ...

    def set(self, attributes: Attributes) -> None: ...

    def fail(self, error: str) -> None: ...


NO_SPAN = _NoSpan()
_NOWHERE = nullcontext(NO_SPAN)


class Silent:
    """Keeps nothing."""

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
