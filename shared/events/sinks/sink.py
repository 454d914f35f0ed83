"""A logging provider as a destination. Its format says what a batch looks like there."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from shared.config.sinks import SinkSettings
from shared.events.destination import TRIES_AGAIN, Delivery, Receipt
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


class Format(Protocol):
    """How a provider wants events: which ones, how many in a request, and the request."""

    @property
    def takes(self) -> frozenset[Type]: ...

    @property
    def most(self) -> int: ...

    def letter(self, records: Sequence[Record]) -> Letter: ...


class Sink(msgspec.Struct, frozen=True):
    """One provider, reached as its settings say."""

    settings: SinkSettings
    format: Format
    post: "Carrier"
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
        up. After a failure that may pass, the rest of the batch is not tried.
        """
        receipts: list[Receipt] = []
        waiting = [deliveries[at : at + self.format.most] for at in range(0, len(deliveries), self.format.most)]
        while waiting:
            batch = waiting.pop(0)
            answer = await self.post.post(self.format.letter([each.record for each in batch]))
            if answer.status in _REFUSALS and len(batch) > 1:
                middle = len(batch) // 2
                waiting[:0] = [batch[:middle], batch[middle:]]
                continue
            rest = [each for other in waiting for each in other] if _may_pass(answer) else []
            receipts += [_receipt(each, answer) for each in (*batch, *rest)]
            if _may_pass(answer):
                break
        return receipts


def _receipt(delivery: Delivery, answer: Answer) -> Receipt:
    if _arrived(answer):
        return Receipt(delivery, "delivered")
    return Receipt(delivery, "later" if _may_pass(answer) else "refused", answer.reason, answer.after)


def _arrived(answer: Answer) -> bool:
    return answer.status is not None and 200 <= answer.status < 300


def _may_pass(answer: Answer) -> bool:
    return not _arrived(answer) and answer.status not in _REFUSALS
