"""The outbox: rows that say which events of a video are still to be told.

A mark is written in the same transaction as the change that it announces, in the key's partition,
so that no crash separates the two. It has no values: the event is made from the video's row
(`events.journal`), and then the mark is deleted. An event of no video cannot be made later, so its
mark holds the event, in one partition for all keys, where the sweep finds it.
"""

from collections.abc import Sequence
from typing import Literal, cast

from shared.media.video import owner_of
from shared.storage.tables import Insert, Row, Table

Happening = Literal["started", "running", "ended"]

UNTOLD = "untold"  # the partition of events of no video

_MARK = "event_"


def mark(video_id: str, happening: Happening) -> Insert:
    """The write of a mark."""
    return Insert(f"{_MARK}{video_id}.{happening}", {})


async def marks_of(table: Table, video_id: str) -> Sequence[tuple[Happening, Row]]:
    """A video's marks in the order in which their events happened, which is the reverse of their
    names' order. One range read. Raises StorageUnavailable.
    """
    rows = [row async for row in table.beginning_with(owner_of(video_id), f"{_MARK}{video_id}.")]
    return [(happening_of(row.key), row) for row in reversed(rows)]


def happening_of(event_id: str) -> Happening:
    """The last part of an event's id."""
    return cast(Happening, event_id.rpartition(".")[2])
