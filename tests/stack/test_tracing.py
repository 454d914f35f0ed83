"""One trace through the whole stack: real HTTP, a real engine that replays, and the app's steps."""

from pathlib import Path

import pytest

from tests.fakes.collector import collecting, tree
from tests.fakes.stack import serving, wait_for_end

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_video_is_one_tree_below_its_callers_span(azurite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The looks that its caller takes at it are in no trace of the video's, and replays add no
    spans.
    """
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with serving(azurite, tmp_path) as served, served.client() as client:
            asked = {"model": served.model, "prompt": "A cat", "seconds": "4"}
            made = client.post("/v1/videos", json=asked, headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
            assert wait_for_end(client, made.json()["id"])["status"] == "completed"
    spans = [each for each in collector.spans if each.trace == TRACE]
    below = tree(spans)
    assert below[""] == ["POST create_video"]
    assert below["POST create_video"] == [f"generate_video {served.model}"]
    steps = below[f"generate_video {served.model}"]
    assert set(steps) == {"wait", "generate", "save", "submit", "check", "finish"}
    assert [steps.count(each) for each in ("wait", "generate", "save", "finish")] == [1, 1, 1, 1]
    assert len({each.id for each in spans}) == len(spans)
    assert "GET get_video" in {each.name for each in collector.spans} - {each.name for each in spans}
