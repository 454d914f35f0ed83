"""The last deliveries of each endpoint, shown to its owner: for each endpoint one row of the key's
partition. Nothing is sent from these rows; deliveries that wait are in `deliveries`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from shared.errors import NotFound
from shared.events.record import utc
from shared.events.webhooks.endpoints import LOG, Endpoints
from shared.media.video import unix
from shared.storage.tables import Insert, Replace, Row, Table, WriteConflict

KEPT = 20  # deliveries of an endpoint
_ATTEMPTS = 3  # after so many conflicting writes a note is given up


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """The last try to send one event to one endpoint. `status` is the server's HTTP status, None if
    it did not answer. `outcome` is that of the receipt.
    """

    event_id: str
    record_id: str
    type: str
    video_id: str
    tried_at: datetime
    tries: int
    outcome: str
    status: int | None = None
    reason: str = ""

    def wire(self) -> dict[str, Any]:
        return {
            "id": self.event_id,
            "object": "webhook_delivery",
            "event_type": self.type,
            "video_id": self.video_id,
            "tried_at": unix(self.tried_at),
            "tries": self.tries,
            "outcome": self.outcome,
            "status_code": self.status,
            "reason": self.reason or None,
        }


class History(msgspec.Struct, frozen=True):
    """Notes and shows deliveries."""

    endpoints: Endpoints

    @property
    def table(self) -> Table:
        return self.endpoints.commits.table

    async def of(self, owner: str, endpoint_id: str) -> Sequence[Attempt]:
        """The last deliveries to an endpoint, newest first. One point read."""
        return _read(await self.table.get(owner, f"{LOG}{endpoint_id}"))

    async def of_all(self, owner: str) -> Sequence[tuple[str, Attempt]]:
        """Pairs of an endpoint's id and a delivery, of all endpoints of a key. One range read."""
        rows = [row async for row in self.table.beginning_with(owner, LOG)]
        return [(row.key.removeprefix(LOG), attempt) for row in rows for attempt in _read(row)]

    async def note(self, owner: str, endpoint_id: str, attempts: Sequence[Attempt]) -> None:
        """Put these before the known ones; an event is kept once, with its last try. Nothing is
        noted for an endpoint that was deleted meanwhile: its row would never be deleted. Raises
        StorageUnavailable.
        """
        for _ in range(_ATTEMPTS):
            row = await self.table.get(owner, f"{LOG}{endpoint_id}")
            if row is None and not await self._exists(owner, endpoint_id):
                return
            new = [msgspec.structs.replace(each, tried_at=utc(each.tried_at)) for each in attempts]
            ids = {each.event_id for each in new}
            kept = [*new, *(each for each in _read(row) if each.event_id not in ids)][:KEPT]
            values = {"attempts": msgspec.json.encode(kept).decode()}
            try:
                write = Insert(f"{LOG}{endpoint_id}", values) if row is None else Replace(row, values)
                await self.table.commit(owner, write)
            except WriteConflict:
                continue
            return

    async def _exists(self, owner: str, endpoint_id: str) -> bool:
        try:
            await self.endpoints.find(owner, endpoint_id)
        except NotFound:
            return False
        return True


def _read(row: Row | None) -> list[Attempt]:
    return msgspec.json.decode(row.values["attempts"], type=list[Attempt]) if row else []
