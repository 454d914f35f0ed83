"""A span that is told of afterwards."""

from datetime import datetime

import msgspec

from shared.telemetry.telemetry import Attributes, Kind
from shared.telemetry.trace_parent import TraceParent


class FinishedSpan(msgspec.Struct, frozen=True, kw_only=True):
    """`parent` is the id of the span above it, in the same trace. `error` is a line that says why
    it failed, None where it has not.
    """

    span: TraceParent
    parent: str | None
    name: str
    kind: Kind
    first: datetime
    last: datetime
    attributes: Attributes = {}
    error: str | None = None
