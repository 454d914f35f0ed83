"""The outbox: rows that say which events of a video are still to be told.

A mark is written in the same transaction as the change that it tells of, in the key's partition, so
that no crash separates the two. It holds nothing: the event is made from the video's row when the
mark is taken down (`events.journal`). Only an event of no video has nothing else to be made from:
its mark holds it, in a partition for all keys, where the sweep finds it.
"""

from collections.abc import Sequence
from typing import Literal, cast

from shared.media.video import owner_of
from shared.storage.tables import Insert, Row, Table

Happening = Literal["started", "running", "ended"]

UNTOLD = "untold"  # the partition of events of no video

_MARK = "event_"


def mark(video_id: str, happening: Happening) -> Insert:
    """The row that says that this is still to be told."""
    return Insert(f"{_MARK}{video_id}.{happening}", {})


async def marks_of(table: Table, video_id: str) -> Sequence[tuple[Happening, Row]]:
    """What is still to be told of a video, in the order in which it happened, which is the reverse
    of the names'. One range read.
    """
    rows = [row async for row in table.beginning_with(owner_of(video_id), f"{_MARK}{video_id}.")]
    return [(happening_of(row.key), row) for row in reversed(rows)]


def happening_of(event_id: str) -> Happening:
    """The last part of an event's id."""
    return cast(Happening, event_id.rpartition(".")[2])
