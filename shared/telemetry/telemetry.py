"""Telemetry: spans of what the app does, and measurements of it. Without configuration there is
none, and nothing is imported for it.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec

from shared.telemetry.trace_parent import TraceParent

Kind = Literal["internal", "server", "client"]
Attributes = Mapping[str, Any]
"""Values are texts, numbers or flags; None is left out."""


class FinishedSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A span that is told of afterwards. `error` is a line that says why it failed, None where it
    has not.
    """

    span: TraceParent
    parent: str | None
    name: str
    kind: Kind
    first: datetime
    last: datetime
    attributes: Attributes = {}
    error: str | None = None


class Instrument(msgspec.Struct, frozen=True):
    """Something that is measured."""

    kind: Literal["counter", "histogram", "gauge"]
    name: str
    unit: str
    description: str


# The GenAI conventions have this one: how long the whole operation took.
OPERATION = Instrument("histogram", "gen_ai.client.operation.duration", "s", "From a video's request to its end")
VIDEOS = Instrument("counter", "video_gateway.videos", "{video}", "Videos that have ended, by status")
QUEUE_WAIT = Instrument("histogram", "video_gateway.queue_wait", "s", "From a request to its acceptance upstream")
GENERATION = Instrument("histogram", "video_gateway.generation", "s", "From the start of a job to its end upstream")
SPEND = Instrument("counter", "video_gateway.spend", "USD", "What completed videos have cost")
POLL_LAG = Instrument("histogram", "video_gateway.poll_lag", "s", "How much later than planned a job was looked at")
SLOTS_USED = Instrument("gauge", "video_gateway.slots.used", "{slot}", "Jobs that a model's deployments run")
SLOTS = Instrument("gauge", "video_gateway.slots.limit", "{slot}", "Jobs that a model's deployments may run")
UNFINISHED = Instrument("gauge", "video_gateway.unfinished", "{video}", "Videos that wait or run")
DELIVERIES = Instrument("counter", "video_gateway.deliveries", "{event}", "Events sent, by destination and outcome")


class Span(Protocol):
    """A span that lasts."""

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

    def tell(self, spans: Sequence[FinishedSpan]) -> None: ...

    def measure(self, instrument: Instrument, value: float, attributes: Attributes) -> None: ...

    def close(self) -> None:
        """Send what is left. Takes seconds where nobody takes it, so not on the event loop."""
        ...


class _NoSpan:
    def set(self, attributes: Attributes) -> None: ...

    def fail(self, error: str) -> None: ...


_NO_SPAN = nullcontext(_NoSpan())


class Silent(msgspec.Struct, frozen=True):
    """Keeps nothing."""

    on: bool = False
    current: TraceParent | None = None

    def span(
        self, name: str, kind: Kind = "internal", *, parent: TraceParent | None = None, root: bool = False
    ) -> AbstractContextManager[Span]:
        del name, kind, parent, root
        return _NO_SPAN

    def tell(self, spans: Sequence[FinishedSpan]) -> None: ...

    def measure(self, instrument: Instrument, value: float, attributes: Attributes) -> None: ...

    def close(self) -> None: ...


SILENT = Silent()
