"""The outbox: rows that say which events of a video are still to be told.

A mark is written in the same transaction as the change that it tells of, in the key's partition, so
that no crash separates the two. It holds nothing: the event is made from the video's row when the
mark is taken down (`events.journal`).
"""

from collections.abc import Sequence
from typing import Literal

from shared.media.video import owner_of
from shared.storage.tables import Insert, Row, Table

Happening = Literal["started", "ended"]

_MARK = "event_"


def mark(video_id: str, happening: Happening) -> Insert:
    """The row that says that this is still to be told."""
    return Insert(f"{_MARK}{video_id}.{happening}", {})


async def marks_of(table: Table, video_id: str) -> Sequence[tuple[Happening, Row]]:
    """What is still to be told of a video, its start first. One range read."""
    rows = [row async for row in table.beginning_with(owner_of(video_id), f"{_MARK}{video_id}.")]
    return [("ended" if row.key.endswith(".ended") else "started", row) for row in reversed(rows)]
