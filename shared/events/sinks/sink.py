"""A logging provider as a destination. Its format says what a batch looks like there."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

import msgspec

from shared.clock import Clock
from shared.config.sinks import SinkSettings
from shared.events.destination import TRIES_AGAIN, Delivery, Outcome, Receipt
from shared.events.post import Answer, Letter
from shared.events.record import Record, Type
from shared.media.video import Video

if TYPE_CHECKING:
    from shared.events.carriers import Carrier

ENDS: frozenset[Type] = frozenset(("video.completed", "video.failed", "request.blocked"))
EVERY: frozenset[Type] = ENDS | {"video.started", "request.rejected", "alert"}

# What says that it is the batch that is wrong. Everything else may change: a key, an address, a
# limit.
_REFUSALS = (400, 413, 415, 422)
# For the requests of one call. The host ends a function after ten minutes, and then every event
# that has arrived would be sent again.
_LONGEST = timedelta(minutes=1)
_TOO_OLD = "it is too old for this provider"


class Format(msgspec.Struct, frozen=True):
    """How a provider wants events, with its settings (`values`): which ones it takes, how many in a
    request, and by which statuses it says of an event alone that it has it already. A request that
    was made longer ago than `reaches_back` is none of its; None is no limit.
    """

    values: Mapping[str, str]
    takes: ClassVar[frozenset[Type]] = ENDS
    most: ClassVar[int] = 1
    has_it: ClassVar[frozenset[int]] = frozenset()
    reaches_back: ClassVar[timedelta | None] = None

    def letter(self, records: Sequence[Record]) -> Letter:
        """The request that tells of them."""
        raise NotImplementedError

    def rejected(self, body: bytes) -> str:
        """What a provider that answered 2xx says it did not take all the same; "" for nothing."""
        del body
        return ""


class Sink(msgspec.Struct, frozen=True):
    """One provider, reached as its settings say."""

    settings: SinkSettings
    format: Format
    post: "Carrier"
    clock: Clock
    pauses: Sequence[float] = TRIES_AGAIN
    everyone: bool = True

    @property
    def name(self) -> str:
        return self.settings.name

    async def addressees(self, record: Record, video: Video | None) -> Sequence[str]:
        del video
        wanted = self.settings.on_failure if record.failed else self.settings.on_success
        return ("",) if wanted and record.type in self.format.takes else ()

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Receipt]:
        """A batch that is refused is sent in halves, so that only the event that is wrong is given
        up. After a failure that may pass, the rest of the batch is not tried; what is not begun in
        time has no receipt.
        """
        until = self.clock.now() + _LONGEST
        receipts = [Receipt(each, "refused", _TOO_OLD) for each in deliveries if self._is_too_old(each)]
        young = [each for each in deliveries if not self._is_too_old(each)]
        waiting = [young[at : at + self.format.most] for at in range(0, len(young), self.format.most)]
        while waiting and (not receipts or self.clock.now() < until):
            batch = waiting.pop(0)
            answer = await self.post.post(self.format.letter([each.record for each in batch]))
            if answer.status in (*_REFUSALS, *self.format.has_it) and len(batch) > 1:
                middle = len(batch) // 2
                waiting[:0] = [batch[:middle], batch[middle:]]
                continue
            outcome, reason = self._judged(answer)
            rest = [each for other in waiting for each in other] if outcome == "later" else []
            receipts += [Receipt(each, outcome, reason, answer.after) for each in (*batch, *rest)]
            if outcome == "later":
                break
        return receipts

    def _is_too_old(self, delivery: Delivery) -> bool:
        longest = self.format.reaches_back
        return longest is not None and self.clock.now() - delivery.record.created_at > longest

    def _judged(self, answer: Answer) -> tuple[Outcome, str]:
        """What an answer means for its batch, and why."""
        if answer.status in self.format.has_it:
            return "delivered", ""
        if not answer.arrived:
            return "refused" if answer.status in _REFUSALS else "later", answer.reason
        rejected = self.format.rejected(answer.body)
        return "refused" if rejected else "delivered", rejected
