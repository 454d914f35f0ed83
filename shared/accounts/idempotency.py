"""Requests that must not start twice: a caller repeats them with an `Idempotency-Key`, or the
official client repeats them by itself.

An `Idempotency-Key` identifies its request for a day. Without one, the official client's count of
retries does: a retry gets the video of the last equal request of the same key, unless that is more
than half an hour old, or the retry follows a refusal. The first try of such a request may be
handled after its retry. But it arrived before the retry was admitted, and a new request with equal
content did not.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from shared.accounts import refusals
from shared.accounts.refusals import Refusal
from shared.errors import IdempotencyMismatch, InvalidRequest
from shared.media.requests import CreateRequest
from shared.storage.tables import Insert, Replace, Row, Table, Write

LONGEST_KEY = 255  # characters
KEY_LIFETIME = timedelta(hours=24)
# The official client waits 600 s for an answer and retries twice: its last try comes after 1,202 s.
RETRY_LIFETIME = timedelta(minutes=30)
PREFIX = "once_"

_ASK = 16  # hex digits of a request's hash: enough for the requests of one caller
_MOST_DIGITS = 6  # of a count of retries: a client may send any number


class Remembered(msgspec.Struct, frozen=True):
    """The stored rows about a request: of the last equal one that was admitted, and of refusals."""

    admitted: Row | None = None
    refused: Row | None = None


class RequestIdentity(msgspec.Struct, frozen=True):
    """What identifies a request, so that it is made only once.

    `key` is the key of its row, `fingerprint` a hash of the request, `explicit` whether the caller
    sent an `Idempotency-Key`, `number` the client's count of retries (0 for the first try),
    `arrived` when the request came in.
    """

    key: str
    fingerprint: str
    explicit: bool
    number: int
    arrived: datetime

    @property
    def refusals_key(self) -> str:
        """The key of the row that remembers refusals of this request, and of others."""
        return f"{PREFIX}r{self.fingerprint[0]}"

    @property
    def keys(self) -> set[str]:
        """The keys of the rows that its admission may write."""
        return {self.key, self.refusals_key} if self.number else {self.key}

    async def recall(self, table: Table, owner: str) -> Remembered:
        """Read the stored rows: one point read, two for a client's retry."""
        refused = await table.get(owner, self.refusals_key) if self.number else None
        return Remembered(await table.get(owner, self.key), refused)

    def earlier(self, remembered: Remembered, now: datetime) -> str | None:
        """The id of the video that the same request made before; None if it is the first."""
        row = remembered.admitted
        if row is None or self._follows(remembered, now) is not None:
            return None
        made = row.values["made"].astimezone(UTC)
        if now - made > (KEY_LIFETIME if self.explicit else RETRY_LIFETIME):
            return None
        overtaken = row.values["retry"] and made >= self.arrived
        return row.values["video"] if self.explicit or self.number or overtaken else None

    def check(self, remembered: Remembered, now: datetime) -> None:
        """Raises IdempotencyMismatch if the `Idempotency-Key` was used for another request."""
        row = remembered.admitted
        if (
            self.explicit
            and row is not None
            and self.earlier(remembered, now)
            and row.values["fingerprint"] != self.fingerprint
        ):
            raise IdempotencyMismatch("This Idempotency-Key was used for another request: use a new key for a new request.")

    def admit(self, remembered: Remembered, video_id: str, now: datetime) -> list[Write]:
        """The writes that remember the admitted video, and remove the refusal that this retry
        follows.
        """
        refusal = self._follows(remembered, now)
        # A refused request's first try was answered, so it cannot still arrive.
        overtakes = self.number > 0 and refusal is None
        values = {"video": video_id, "fingerprint": self.fingerprint, "made": now, "retry": overtakes}
        row = remembered.admitted
        writes: list[Write] = [Insert(self.key, values) if row is None else Replace(row, values)]
        if refusal is not None:
            left = _without(refusals.read(remembered.refused, now), refusal)
            writes.append(refusals.write(self.refusals_key, remembered.refused, left, now))
        return writes

    def refuse(self, refused: Row | None, retry_after: float | None, now: datetime) -> Write | None:
        """The write that remembers this refusal; None if nothing changes."""
        known = refusals.read(refused, now)
        left = _without(known, self._follows(Remembered(refused=refused), now))
        noted = refusals.added(left, self._ask, self.number, retry_after, now)
        return None if noted == known else refusals.write(self.refusals_key, refused, noted, now)

    @property
    def _ask(self) -> str:
        return self.fingerprint[:_ASK]

    def _follows(self, remembered: Remembered, now: datetime) -> Refusal | None:
        """The refusal that this request retries, if any."""
        return refusals.followed(refusals.read(remembered.refused, now), self._ask, self.number, now)


def _without(known: list[Refusal], one: Refusal | None) -> list[Refusal]:
    """The refusals without one of them; others equal to it stay."""
    left = list(known)
    if one is not None:
        left.remove(one)
    return left


def read_identity(headers: Mapping[str, str], request: CreateRequest, arrived: datetime) -> RequestIdentity | None:
    """The identity that a create's headers give it; None if the client sends neither header. Raises
    InvalidRequest.
    """
    fingerprint = _fingerprint(request)
    key = headers.get("idempotency-key")
    if key is not None:
        if not 0 < len(key) <= LONGEST_KEY:
            raise InvalidRequest(f"`Idempotency-Key` must have 1 to {LONGEST_KEY} characters.", param="Idempotency-Key")
        return RequestIdentity(f"{PREFIX}k{_digest(key.encode(errors='surrogatepass'))}", fingerprint, True, 0, arrived)
    count = headers.get("x-stainless-retry-count")
    if count is None:
        return None
    return RequestIdentity(f"{PREFIX}b{fingerprint}", fingerprint, False, _number(count), arrived)


def _number(count: str) -> int:
    """The client's count of its retries. A count that is not a number means a retry: 1."""
    if not (count.isascii() and count.isdigit()):
        return 1 if count else 0
    return int(count[:_MOST_DIGITS])


def _fingerprint(request: CreateRequest) -> str:
    """A hash that is the same for the same request, as JSON or as a form."""
    image = request.image.encode() if isinstance(request.image, str) else request.image
    reference = None if image is None else _digest(image)
    source = request.source.id if request.source else None
    asked = (
        request.prompt,
        request.model.name,
        request.seconds,
        request.size,
        reference,
        request.user,
        request.metadata,
        source,
        *(() if request.fit == "exact" else (request.fit,)),
        *([sorted(request.parameters.items())] if request.parameters else []),
        *([sorted(request.guardrails)] if request.guardrails else []),
        *([request.callback_url] if request.callback_url else []),
    )
    return _digest(msgspec.json.encode(asked))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
