"""A video's id, its record and its wire form."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Video as OpenAIVideo

from shared.media.video import Video, dollars, is_id, new_id, owner_of
from shared.storage.tables import Row

NOW = datetime(2026, 11, 22, 12, 0, 0, 500_000, tzinfo=UTC)
OWNER = "key_0a1b2c3d"
OWNERS = st.text("0123456789abcdef", min_size=8, max_size=8).map("key_".__add__)
TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2500, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone is drawn


def video(**changes: Any) -> Video:
    given = {"model": "films", "created_at": NOW, "prompt": "A cat", "seconds": 8, "size": "720x1280", "cost": 800_000}
    return Video(**{"id": new_id(OWNER, NOW), **given, **changes})


@given(OWNERS, TIMES, st.timedeltas(timedelta(milliseconds=2), timedelta(days=4_000)))
def test_newer_ids_sort_first(owner: str, earlier: datetime, later_by: timedelta) -> None:
    """A list of a key's videos, newest first, is a plain range read."""
    assert new_id(owner, earlier + later_by) < new_id(owner, earlier)


@given(OWNERS, TIMES)
def test_an_id_names_its_owner(owner: str, now: datetime) -> None:
    """A video is found by its id alone."""
    video_id = new_id(owner, now)
    assert is_id(video_id)
    assert owner_of(video_id) == owner


def test_ids_of_one_moment_differ() -> None:
    """52 random bits: ten thousand at once do not meet."""
    assert len({new_id(OWNER, NOW) for _ in range(10_000)}) == 10_000


def test_an_id_does_not_depend_on_the_zone_of_the_clock() -> None:
    """The moment counts."""
    assert new_id(OWNER, NOW)[:17] == new_id(OWNER, NOW.astimezone(timezone(timedelta(hours=9))))[:17]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "video_",
        "video_" + "0" * 31,
        "video_" + "0" * 33,
        "video_" + "A" * 32,
        "video_" + "g" * 32,
        "video_" + "0" * 32 + "\n",
        "x",
    ],
)
def test_what_is_no_id_is_never_looked_for(text: str) -> None:
    """An id from a caller becomes a table key only in this one form; its owner can still be asked
    for.
    """
    assert not is_id(text)
    assert owner_of(text).startswith("key_")


@given(st.integers(-(10**15), 10**15))
def test_dollars_are_exact(micros: int) -> None:
    """A plain decimal number, without exponent and without trailing zeros."""
    text = dollars(micros)
    assert Decimal(text) == Decimal(micros) / 1_000_000
    assert "e" not in text.lower()
    assert not text.endswith(".")
    assert "." not in text or not text.endswith("0")


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, "0"), (1, "0.000001"), (400_000, "0.4"), (1_000_000, "1"), (12_300_000, "12.3"), (-400_000, "-0.4")],
)
def test_dollars_read_well(micros: int, text: str) -> None:
    """As in the header `x-response-cost`."""
    assert dollars(micros) == text


@pytest.mark.parametrize(
    ("status", "reserved", "spent"),
    [("queued", 800_000, 0), ("in_progress", 800_000, 0), ("completed", 0, 800_000), ("failed", 0, 0)],
)
def test_money_follows_from_the_status(status: Any, reserved: int, spent: int) -> None:
    """Held while unfinished, spent once completed, given back when failed."""
    assert (video(status=status).reserved, video(status=status).spent) == (reserved, spent)


def test_a_record_survives_its_row() -> None:
    """Also where a later version of the app has written more into it than this one knows."""
    full = video(user="u", metadata='{"a": "b"}', bytes=7, upstream_id="video_1", error_code="c", expires_at=NOW)
    assert Row("", full.to_row(), "").read(Video, id=full.id) == full
    assert Row("", {**full.to_row(), "from_the_future": 1}, "").read(Video, id=full.id) == full
    assert "id" not in full.to_row()


def test_a_row_has_only_what_is_unusual_of_its_video() -> None:
    """And its status, by which storage picks the rows of a list."""
    row = video(prompt="A cat", size="720x1280").to_row()
    assert {"status": "queued", "prompt": "A cat", "size": "720x1280"}.items() <= row.items()
    assert row.keys().isdisjoint({"progress", "deleted", "attempts", "priority", "user", "id"})


OPENAI_KEYS = [
    "id",
    "object",
    "model",
    "status",
    "progress",
    "created_at",
    "completed_at",
    "expires_at",
    "prompt",
    "size",
    "seconds",
]
OPENAI_KEYS += ["remixed_from_video_id", "error"]


@pytest.mark.parametrize("status", ["queued", "in_progress", "completed", "failed"])
def test_the_wire_form_has_every_key_at_every_time(status: Any) -> None:
    """All thirteen of OpenAI's, then ours; the official client reads it."""
    wire = video(status=status, finished_at=NOW, error_code="c", error_message="m").wire()
    ours = [
        "queue",
        "progress_estimated",
        "parameters",
        "upstream",
        "fallback_from",
        "guardrails",
        "remix",
        "usage",
        "user",
        "metadata",
        "request_id",
    ]
    assert list(wire) == [*OPENAI_KEYS, *ours]
    read = OpenAIVideo.model_validate(wire)
    assert (read.status, read.seconds, read.created_at) == (status, "8", int(NOW.timestamp()))
    assert wire["usage"] == {"duration_seconds": 8.0}


def test_only_a_completed_video_has_a_completion_time_and_only_a_failed_one_an_error() -> None:
    """A finished one has one of the two."""
    completed = video(status="completed", finished_at=NOW, progress=100).wire()
    failed = video(status="failed", finished_at=NOW, error_code="moderation_blocked", error_message="No.").wire()
    assert (completed["completed_at"], completed["error"]) == (int(NOW.timestamp()), None)
    reason = {"code": "moderation_blocked", "message": "No.", "upstream_request_id": None}
    assert (failed["completed_at"], failed["error"]) == (None, reason)


def test_metadata_is_an_object_again_on_the_wire() -> None:
    """It is kept as JSON text."""
    assert video(metadata='{"shot": "7"}').wire()["metadata"] == {"shot": "7"}
