"""A logging provider as a destination. Its format turns a batch of events into a request."""

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

# Statuses that mean that the batch itself is wrong. After any other failure a later try may work:
# the operator may correct a key or an address, or a rate limit passes.
_REFUSALS = (400, 413, 415, 422)
# The time in which one call begins requests. The host kills a function after ten minutes, and all
# events that have arrived would be sent again.
_LONGEST = timedelta(minutes=1)
_TOO_OLD = "it is too old for this provider"


class Format(msgspec.Struct, frozen=True):
    """What a provider's requests look like; `values` are its settings by name.

    It receives events of the types `takes`, at most `most` in a request. A status of `has_it`, for
    an event sent alone, means that it already has the event. It rejects events of videos requested
    longer ago than `reaches_back`; None is no limit.
    """

    values: Mapping[str, str]
    takes: ClassVar[frozenset[Type]] = ENDS
    most: ClassVar[int] = 1
    has_it: ClassVar[frozenset[int]] = frozenset()
    reaches_back: ClassVar[timedelta | None] = None

    def letter(self, records: Sequence[Record]) -> Letter:
        """The request that sends a batch of 1 to `most` events."""
        raise NotImplementedError

    def rejected(self, body: bytes) -> str:
        """Why a provider that answered 2xx did not take the batch all the same; "" if it did."""
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
        """Send deliveries in batches. A refused batch is split in halves and sent again, so that
        only the wrong event is given up. After a failure that may pass, nothing more is tried now.
        A batch that is not begun within a minute has no receipts.
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
        """The outcome for a batch with this answer, and the reason."""
        if answer.status in self.format.has_it:
            return "delivered", ""
        if not answer.arrived:
            return "refused" if answer.status in _REFUSALS else "later", answer.reason
        rejected = self.format.rejected(answer.body)
        return "refused" if rejected else "delivered", rejected
