"""What is on its way to each destination.

A destination has a partition `mail_<name>` of the table `gateway`; its rows sort by when they are
due, so that a courier reads only those. What could not be delivered lies in `journal-poison` until
it is replayed.
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

# A transaction holds 100 rows and 4 MiB, and a character may take twelve bytes on the wire.
_MOST_ROWS = 40
_MOST_CHARACTERS = 250_000
# Where a destination has several addressees, one of them gets this many of a batch, so that one
# that answers slowly holds up no other. So many rows are looked at for the others.
_SHARE = 8
_MOST_LOOKED_AT = 1_000
_PAGE = 200
MOST_COUNTED = 1_000
_LONGEST_AFTER = 86_400.0  # seconds that a receiver may ask us to wait


class Undelivered(msgspec.Struct, frozen=True):
    """An event that was given up, for the operator."""

    destination: str
    to: str
    record: Record
    reason: str
    tries: int
    given_up_at: datetime
    row: Row


class Backlog(msgspec.Struct, frozen=True):
    """How many events wait for a destination, and how many were given up: at most `MOST_COUNTED`,
    which means that there may be more. `wait` is in seconds until something is due, 0 or less where
    something is.
    """

    waiting: int
    wait: float | None
    given_up: int


class Deliveries(msgspec.Struct, frozen=True):
    """The deliveries of all destinations, in `table`."""

    table: Table
    clock: Clock

    async def add(self, destination: str, record: Record, to: str) -> None:
        """Take in an event for an addressee, due at once. May be repeated."""
        with suppress(WriteConflict):  # it is there already
            await self.table.commit(f"{MAIL}{destination}", _row(record, to, record.time, 0))

    async def due(self, destination: str) -> Sequence[Delivery]:
        """What is due now, the longest due first, as much as fits one transaction, with at most a
        fair share of it for each addressee.
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
        """What is due: the first for each addressee, then the second for each, up to their shares.
        A destination that is one addressee has no turns.
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
        """Seconds until something is due, 0 or less where something is; None where nothing is
        left.
        """
        async for row in self.table.scan(f"{MAIL}{destination}", page=1, select=[]):
            return (_due(row.key) - self.clock.now()).total_seconds()
        return None

    async def backlog(self, destination: str) -> Backlog:
        """Two range reads of keys."""
        return Backlog(
            await _counted(self.table.scan(f"{MAIL}{destination}", select=[])),
            await self.wait(destination),
            await _counted(self._poison(destination, select=[])),
        )

    async def last_given_up(self, destination: str) -> datetime | None:
        """When an event was given up last, of the first `MOST_COUNTED`: those of new videos come
        before those of old ones.
        """
        moments: list[datetime] = []
        async for row in self._poison(destination, select=["given_up_at"]):
            moments.append(utc(row.values["given_up_at"]))
            if len(moments) == MOST_COUNTED:
                break
        return max(moments, default=None)

    async def settle(self, destination: Destination, receipts: Sequence[Receipt]) -> None:
        """Note what became of deliveries: those that arrived are gone, others have another time or
        are given up. An event that was on its way to one addressee twice, since it was repeated,
        goes on once at most.
        """
        decisive = _decisive(receipts)
        for each in decisive:
            if _given_up(destination, each):
                await self._give_up(destination.name, each)
        changes = [write for each in decisive for write in self._change(destination, each)]
        changes += [Delete(each.delivery.row) for each in receipts if each not in decisive]
        # Where another courier has had one of them, the next delivery reads the rest anew.
        with suppress(WriteConflict):
            await self.table.commit(f"{MAIL}{destination.name}", *changes)

    async def undelivered(self, destination: str | None = None) -> AsyncIterator[Undelivered]:
        """What was given up: of one destination, or of all."""
        async for row in self._poison(destination):
            values = {**row.values, "record": _decode(row.values["record"]), "given_up_at": utc(row.values["given_up_at"])}
            yield Undelivered(**values, row=row)

    async def replay(self, given_up: Undelivered) -> None:
        """Have it delivered again from the first try on. May be repeated."""
        await self.add(given_up.destination, given_up.record, given_up.to)
        with suppress(WriteConflict):  # another replay has it
            await self.table.commit(POISON, Delete(given_up.row))

    def _poison(self, destination: str | None, select: Sequence[str] | None = None) -> AsyncIterator[Row]:
        """The name of one destination may begin with that of another."""
        if destination is None:
            return self.table.scan(POISON, select=select)
        first, last = f"{destination}_", f"{destination}_~"
        return self.table.scan(POISON, after=first, before=last, select=select, where={"destination": destination})

    def _change(self, destination: Destination, receipt: Receipt) -> Sequence[Write]:
        """The writes that take a delivery away, or give it its next time."""
        delivery = receipt.delivery
        if receipt.outcome in ("delivered", "dropped") or _given_up(destination, receipt):
            return [Delete(delivery.row)]
        pause = max(destination.pauses[delivery.tries], min(receipt.after, _LONGEST_AFTER))
        due = self.clock.now() + timedelta(seconds=pause)
        return [Delete(delivery.row), _row(delivery.record, delivery.to, due, delivery.tries + 1)]

    async def _give_up(self, destination: str, receipt: Receipt) -> None:
        """Before it leaves the destination's partition: no transaction spans two."""
        delivery = receipt.delivery
        values = {
            "record": delivery.row.values["record"],
            "destination": destination,
            "to": delivery.to,
            "tries": delivery.tries + 1,
            "reason": receipt.reason,
            "given_up_at": self.clock.now(),
        }
        with suppress(WriteConflict):  # an earlier run has put it there
            await self.table.commit(POISON, Insert(f"{destination}_{delivery.record.id}_{delivery.to}", values))


async def _counted(rows: AsyncIterator[Row]) -> int:
    count = 0
    async for _ in rows:
        count += 1
        if count == MOST_COUNTED:
            break
    return count


def _decisive(receipts: Sequence[Receipt]) -> Sequence[Receipt]:
    """Of each event and addressee the first receipt, or one that says that it has arrived. A row
    for each would have the same key if they were due at once.
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
