"""The deliveries that wait for each destination.

Each destination has the partition `mail_<name>` of the table `gateway`. Its rows sort by the time
they are due, so a courier reads only due ones. A delivery that was given up moves to the partition
`journal-poison` and stays there until it is replayed.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec

from shared.clock import Clock
from shared.events.destination import Delivery, Destination, Receipt
from shared.events.record import Record, utc
from shared.storage.tables import Delete, Insert, Row, Table, Write, WriteConflict

POISON = "journal-poison"
MAIL = "mail_"

# A transaction takes 100 writes, of which a delivery may need two, and 4 MiB. A character may take
# twelve bytes in its body.
_MOST_ROWS = 40
_MOST_CHARACTERS = 250_000
# One of several addressees gets at most this many deliveries of a batch, so that a slow one does
# not hold up the others.
_SHARE = 8
_MOST_LOOKED_AT = 1_000  # rows that are read to find deliveries for other addressees
_PAGE = 200  # rows of one request
MOST_COUNTED = 1_000  # rows that a count stops at
_LONGEST_AFTER = 86_400.0  # seconds: the longest `Retry-After` that is obeyed


class Undelivered(msgspec.Struct, frozen=True):
    """A delivery that was given up, for the operator. `tries` counts all that failed."""

    destination: str
    to: str
    record: Record
    reason: str
    tries: int
    given_up_at: datetime
    row: Row


class Backlog(msgspec.Struct, frozen=True):
    """How many deliveries wait for a destination, and how many were given up. A count stops at
    `MOST_COUNTED`, so there may be more. `wait` is the seconds until one is due: 0 or less if one
    is due now, None if none waits.
    """

    waiting: int
    wait: float | None
    given_up: int


class Deliveries(msgspec.Struct, frozen=True):
    """The deliveries of all destinations, in `table`."""

    table: Table
    clock: Clock

    async def add(self, destination: str, record: Record, to: str) -> None:
        """Add the delivery of an event to an addressee, due at once. May be repeated. Raises
        StorageUnavailable.
        """
        with suppress(WriteConflict):  # an earlier run has added it
            await self.table.commit(f"{MAIL}{destination}", _row(record, to, record.time, 0))

    async def due(self, destination: str) -> Sequence[Delivery]:
        """The deliveries that are due now, the oldest first: as many as fit one transaction, and of
        each addressee at most its share. Raises StorageUnavailable.
        """
        found: list[Delivery] = []
        weight = 0
        for each in await self._in_turns(destination):
            weight += len(each.row.values["record"])
            if (found and weight > _MOST_CHARACTERS) or len(found) == _MOST_ROWS:
                break
            found.append(each)
        return found

    async def _in_turns(self, destination: str) -> Sequence[Delivery]:
        """The due deliveries in rounds: the first of each addressee, then the second of each, up to
        its share. A destination with one addressee (`to` is "") has no rounds and no shares.
        """
        until = _key(self.clock.now() + timedelta(milliseconds=1))
        seen: Counter[tuple[str, str]] = Counter()
        found: list[tuple[int, Delivery]] = []
        async for row in self.table.scan(f"{MAIL}{destination}", before=until, page=_PAGE):
            delivery = _delivery(row)
            seen[delivery.addressee] += 1
            turn = seen[delivery.addressee] if delivery.to else 0
            if turn <= _SHARE:
                found.append((turn, delivery))
            if seen.total() == (_MOST_LOOKED_AT if delivery.to else _MOST_ROWS):
                break
        return [delivery for _, delivery in sorted(found, key=lambda each: each[0])]

    async def wait(self, destination: str) -> float | None:
        """Seconds until a delivery is due: 0 or less if one is due now, None if none waits. Raises
        StorageUnavailable.
        """
        rows = await self.table.first(f"{MAIL}{destination}", 1, select=[])
        return (_due(rows[0].key) - self.clock.now()).total_seconds() if rows else None

    async def backlog(self, destination: str) -> Backlog:
        """Counts by reading keys only, in two ranges. Raises StorageUnavailable."""
        return Backlog(
            await _counted(self.table.scan(f"{MAIL}{destination}", select=[])),
            await self.wait(destination),
            await _counted(self._poison(destination, select=[])),
        )

    async def last_given_up(self, destination: str) -> datetime | None:
        """When a delivery was given up last, among the first `MOST_COUNTED` rows: those of the
        newest videos, whose ids sort first. None if none was. Raises StorageUnavailable.
        """
        moments: list[datetime] = []
        async for row in self._poison(destination, select=["given_up_at"]):
            moments.append(utc(row.values["given_up_at"]))
            if len(moments) == MOST_COUNTED:
                break
        return max(moments, default=None)

    async def settle(self, destination: Destination, receipts: Sequence[Receipt]) -> None:
        """Apply receipts: delete a delivery that arrived, give a failed one its next time, or give
        it up. If an event was added twice for an addressee, at most one delivery stays. Raises
        StorageUnavailable.
        """
        decisive = _decisive(receipts)
        for each in decisive:
            if _given_up(destination, each):
                await self._give_up(destination.name, each)
        changes = [write for each in decisive for write in self._change(destination, each)]
        changes += [Delete(each.delivery.row) for each in receipts if each not in decisive]
        # If another courier has settled one of them, nothing is written: the rest stays due, and
        # the next round sends it again.
        with suppress(WriteConflict):
            await self.table.commit(f"{MAIL}{destination.name}", *changes)

    async def undelivered(self, destination: str | None = None) -> AsyncIterator[Undelivered]:
        """The deliveries that were given up: of one destination, or of all. Raises
        StorageUnavailable.
        """
        async for row in self._poison(destination):
            values = {**row.values, "record": _decode(row.values["record"]), "given_up_at": utc(row.values["given_up_at"])}
            yield Undelivered(**values, row=row)

    async def replay(self, given_up: Undelivered) -> None:
        """Have it sent again, with all its tries. May be repeated. Raises StorageUnavailable."""
        await self.add(given_up.destination, given_up.record, given_up.to)
        with suppress(WriteConflict):  # another replay has deleted it
            await self.table.commit(POISON, Delete(given_up.row))

    def _poison(self, destination: str | None, select: Sequence[str] | None = None) -> AsyncIterator[Row]:
        """The rows of one destination, or all. They are filtered by `destination` too: one name may
        begin with another, so a range of keys may hold both.
        """
        if destination is None:
            return self.table.scan(POISON, select=select)
        first, last = f"{destination}_", f"{destination}_~"
        return self.table.scan(POISON, after=first, before=last, select=select, where={"destination": destination})

    def _change(self, destination: Destination, receipt: Receipt) -> Sequence[Write]:
        """The writes that delete a delivery, or move it to its next time."""
        delivery = receipt.delivery
        if receipt.outcome in ("delivered", "dropped") or _given_up(destination, receipt):
            return [Delete(delivery.row)]
        pause = max(destination.pauses[delivery.tries], min(receipt.after, _LONGEST_AFTER))
        due = self.clock.now() + timedelta(seconds=pause)
        return [Delete(delivery.row), _row(delivery.record, delivery.to, due, delivery.tries + 1)]

    async def _give_up(self, destination: str, receipt: Receipt) -> None:
        """Copy it to the partition of those given up. This runs before it is deleted, since no
        transaction spans two partitions, and a crash between the two must not lose it.
        """
        delivery = receipt.delivery
        values = {
            "record": delivery.row.values["record"],
            "destination": destination,
            "to": delivery.to,
            "tries": delivery.tries + 1,
            "reason": receipt.reason,
            "given_up_at": self.clock.now(),
        }
        with suppress(WriteConflict):  # an earlier run has copied it
            await self.table.commit(POISON, Insert(f"{destination}_{delivery.record.id}_{delivery.to}", values))


async def _counted(rows: AsyncIterator[Row]) -> int:
    count = 0
    async for _ in rows:
        count += 1
        if count == MOST_COUNTED:
            break
    return count


def _decisive(receipts: Sequence[Receipt]) -> Sequence[Receipt]:
    """One receipt for each event and addressee: a `delivered` one if there is any, else the first.
    Two rows with the same next time would have the same key.
    """
    found: dict[tuple[str, tuple[str, str]], Receipt] = {}
    for each in sorted(receipts, key=lambda each: each.outcome != "delivered"):
        found.setdefault((each.delivery.record.id, each.delivery.addressee), each)
    return list(found.values())


def _given_up(destination: Destination, receipt: Receipt) -> bool:
    spent = receipt.outcome == "later" and receipt.delivery.tries >= len(destination.pauses)
    return receipt.outcome == "refused" or spent


def _row(record: Record, to: str, due: datetime, tries: int) -> Insert:
    text = msgspec.json.encode(record).decode()
    return Insert(f"{_key(due)}_{record.id}_{to}", {"record": text, "to": to, "tries": tries})


def _delivery(row: Row) -> Delivery:
    return Delivery(_decode(row.values["record"]), row.values.get("to", ""), row.values["tries"], row)


def _decode(text: str) -> Record:
    return msgspec.json.decode(text, type=Record)


def _key(due: datetime) -> str:
    return f"{int(due.timestamp() * 1000):013d}"


def _due(key: str) -> datetime:
    return datetime.fromtimestamp(int(key[:13]) / 1000, UTC)
