"""What the journal and its couriers ask of everyone who listens."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from shared.events.record import Record
from shared.media.video import Video
from shared.storage.tables import Row

# Seconds to wait after each failed try: three days together.
TRIES_AGAIN: tuple[float, ...] = (5, 30, 120, 600, 1800, *[3600] * 71)


class Delivery(msgspec.Struct, frozen=True):
    """One event for one addressee of a destination. `tries` counts those that failed."""

    record: Record
    to: str
    tries: int
    row: Row

    @property
    def addressee(self) -> tuple[str, str]:
        """Names the addressee for all keys: `to` may be the same text for two of them."""
        return self.record.key_id, self.to


Outcome = Literal["delivered", "later", "refused", "dropped"]


class Receipt(msgspec.Struct, frozen=True):
    """What became of a delivery: `delivered`; to be tried `later`, in `after` seconds at the
    earliest; `refused`, which no other try would change; or `dropped`, since its addressee is gone.
    """

    delivery: Delivery
    outcome: Outcome
    reason: str = ""
    after: float = 0.0


class Destination(Protocol):
    """Someone who listens. `name` is its own; `pauses` are the seconds after each failed try, and
    when they are used up the delivery is given up. `everyone` is whether it listens to every video;
    if not, it listens to those that are `hooked`.
    """

    @property
    def name(self) -> str: ...

    @property
    def pauses(self) -> Sequence[float]: ...

    @property
    def everyone(self) -> bool: ...

    async def addressees(self, record: Record, video: Video | None) -> Sequence[str]:
        """Who is to get an event; `video` is None where it is of none that was admitted. Texts that
        may stand in a row's key; none where it is not wanted here. A destination that is only one
        has the addressee "". Must be the same when repeated.
        """
        ...

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Receipt]:
        """Send them, and say of each what became of it, at least of one. What there was no time for
        stays due. Raises nothing for what a receiver does.
        """
        ...


Destinations = Mapping[str, Destination]
"""Everyone who listens, by name."""
