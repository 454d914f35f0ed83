"""The trace and the span that other spans belong to, in the format of W3C Trace Context:
https://www.w3.org/TR/trace-context/#traceparent-header.
"""

import re
from hashlib import sha256

import msgspec

# Compiled at the first use, not at the app's start.
_TRACEPARENT = r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
_LONGEST = 256
_SAMPLED = 1


class TraceParent(msgspec.Struct, frozen=True):
    """A span as the parent of others: its ids in hex. If it is not `sampled`, neither it nor its
    children are recorded. `str()` gives the header.
    """

    trace_id: str
    span_id: str
    sampled: bool = True

    @classmethod
    def read(cls, text: str | None) -> "TraceParent | None":
        """The parent that a header names, or None if the specification does not allow it: anybody
        may have sent it. A later version of the format may have more parts.
        """
        found = re.fullmatch(_TRACEPARENT, text) if text and len(text) <= _LONGEST else None
        if found is None or found["version"] == "ff" or (found["version"] == "00" and found["more"]):
            return None
        if not (int(found["trace"], 16) and int(found["span"], 16)):
            return None
        return cls(found["trace"], found["span"], bool(int(found["flags"], 16) & _SAMPLED))

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"


def span_of(video_id: str, parent: TraceParent | None, part: str = "video") -> TraceParent:
    """The span of a video, or of a part of its life. Its id is a hash of the video's, so that every
    instance knows it. Its trace is that of `parent`; without a parent, a hash of the video's id.
    """
    trace_id = parent.trace_id if parent else sha256(video_id.encode()).hexdigest()[:32]
    span_id = sha256(f"{video_id} {part}".encode()).hexdigest()[:16]
    return TraceParent(trace_id, span_id, parent.sampled if parent else True)
