"""A span that is exported after the fact, with given times."""

from datetime import datetime

import msgspec

from shared.telemetry.telemetry import Attributes, Kind
from shared.telemetry.trace_parent import TraceParent


class FinishedSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A span from `first` to `last`. `parent` is the id of its parent span in the same trace.
    `error` is a line that says why it failed, or None if it did not.
    """

    span: TraceParent
    parent: str | None
    name: str
    kind: Kind
    first: datetime
    last: datetime
    attributes: Attributes = {}
    error: str | None = None
