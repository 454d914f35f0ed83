"""Trace contexts of callers, by the W3C's rules."""

import pytest

from shared.telemetry.trace_parent import TraceParent, span_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),  # flags that are not known are ignored
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
    ],
)
def test_a_trace_context_is_read(text: str, sampled: bool) -> None:
    assert TraceParent.read(text) == TraceParent(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "00", f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-1", f"00-{TRACE}-{SPAN}-01-more"),
        *(f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01"),
        *(f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01", f" 00-{TRACE}-{SPAN}-01"),
        *(
            f"00-{TRACE}-{SPAN}-01\n",
            f"cc-{TRACE}-{SPAN}-01-{'x' * 300}",
            f"cc-{TRACE}-{SPAN}-01x",
            "٠٠" + f"-{TRACE}-{SPAN}-01",
        ),
    ],
)
def test_what_is_no_trace_context_is_ignored(text: str | None) -> None:
    assert TraceParent.read(text) is None


def test_a_videos_span_follows_from_its_id_and_its_trace_from_the_caller() -> None:
    """Every instance knows it; without a caller's trace it has one of its own."""
    parent = TraceParent(TRACE, SPAN, sampled=False)
    assert span_of("video_1", parent) == TraceParent(TRACE, span_of("video_1", None).span_id, sampled=False)
    assert span_of("video_1", None) == span_of("video_1", None)
    others = {span_of("video_1", None).span_id, span_of("video_2", None).span_id, span_of("video_1", None, "wait").span_id}
    assert len(others) == 3
    assert TraceParent.read(str(parent)) == parent
