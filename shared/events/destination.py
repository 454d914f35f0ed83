"""What a destination of events has to offer: a logging provider, or a key's webhooks."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from shared.events.record import Record
from shared.media.video import Video
from shared.storage.tables import Row

# Seconds to wait after each failed try: about three days in all.
TRIES_AGAIN: tuple[float, ...] = (5, 30, 120, 600, 1800, *[3600] * 71)


class Delivery(msgspec.Struct, frozen=True):
    """One event for one addressee of a destination. `tries` counts the failed ones, and `row` is
    the delivery's own in the table.
    """

    record: Record
    to: str
    tries: int
    row: Row

    @property
    def addressee(self) -> tuple[str, str]:
        """The addressee among those of all keys: two keys may have the same `to`."""
        return self.record.key_id, self.to


Outcome = Literal["delivered", "later", "refused", "dropped"]


class Receipt(msgspec.Struct, frozen=True):
    """The result of a try: `delivered`; `later` if another try may help, after `after` seconds at
    the earliest; `refused` if none would; `dropped` if the addressee is gone.
    """

    delivery: Delivery
    outcome: Outcome
    reason: str = ""
    after: float = 0.0


class Destination(Protocol):
    """A receiver of events, with a unique `name`. `pauses` are the seconds to wait after each
    failed try; after the last one a delivery is given up. If `everyone`, it wants events of every
    video, otherwise only of those that are `hooked` (their key or request has a webhook, or had
    one).
    """

    @property
    def name(self) -> str: ...

    @property
    def pauses(self) -> Sequence[float]: ...

    @property
    def everyone(self) -> bool: ...

    async def addressees(self, record: Record, video: Video | None) -> Sequence[str]:
        """Who gets an event: texts that a row's key may hold, none if nobody wants it, and "" for a
        destination with one addressee. `video` is None if the event is of no admitted video. A
        repeated call must give the same.
        """
        ...

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Receipt]:
        """Try deliveries, at least one, and return a receipt for each that was tried. One without a
        receipt stays due. Nothing is raised for what a receiver does.
        """
        ...


Destinations = Mapping[str, Destination]
"""The configured destinations, by name."""
