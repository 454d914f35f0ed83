"""Requests that must not start twice: by the caller's own key, or by the official client's silent
retries.

With an `Idempotency-Key` the key decides, for a day. Without one the client's own count of its
retries does: a request that says it is a retry is the same video as the last equal request of the
same caller, if that is not long ago. The first try of such a request may even arrive after its
retry; it then was on its way already when the retry was admitted, which tells it from a new request
that just looks the same.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from shared.errors import IdempotencyMismatch, InvalidRequest
from shared.media.requests import CreateRequest
from shared.storage.tables import Insert, Replace, Row, Write

LONGEST_KEY = 255  # characters
KEY_LIFETIME = timedelta(hours=24)
RETRY_LIFETIME = timedelta(minutes=10)
PREFIX = "once_"


@dataclass(frozen=True)
class RequestIdentity:
    """One request's claim to be made once. `key` is the row's key, `fingerprint` what was asked,
    `arrived` when.
    """

    key: str
    fingerprint: str
    explicit: bool
    retry: bool
    arrived: datetime

    def earlier(self, row: Row | None, now: datetime) -> str | None:
        """The id of the video that the same request made before; None if it is the first."""
        if row is None:
            return None
        made = row.values["made"].astimezone(UTC)
        if now - made > (KEY_LIFETIME if self.explicit else RETRY_LIFETIME):
            return None
        overtaken = row.values["retry"] and made >= self.arrived
        return row.values["video"] if self.explicit or self.retry or overtaken else None

    def check(self, row: Row | None, now: datetime) -> None:
        """Raises IdempotencyMismatch where the caller's key was used for another request."""
        if self.explicit and row is not None and self.earlier(row, now) and row.values["fingerprint"] != self.fingerprint:
            raise IdempotencyMismatch("This Idempotency-Key was used for another request: use a new key for a new request.")

    def write(self, row: Row | None, video_id: str, now: datetime) -> Write:
        values = {"video": video_id, "fingerprint": self.fingerprint, "made": now, "retry": self.retry}
        return Insert(self.key, values) if row is None else Replace(row, values)


def read_identity(headers: Mapping[str, str], request: CreateRequest, arrived: datetime) -> RequestIdentity | None:
    """The claim that a create's headers make; None for a client that sends neither. Raises
    InvalidRequest.
    """
    fingerprint = _fingerprint(request)
    key = headers.get("idempotency-key")
    if key is not None:
        if not 0 < len(key) <= LONGEST_KEY:
            raise InvalidRequest(f"`Idempotency-Key` must have 1 to {LONGEST_KEY} characters.", param="Idempotency-Key")
        return RequestIdentity(f"{PREFIX}k{_digest(key.encode(errors='surrogatepass'))}", fingerprint, True, False, arrived)
    count = headers.get("x-stainless-retry-count")
    if count is None:
        return None
    return RequestIdentity(f"{PREFIX}b{fingerprint}", fingerprint, False, count not in ("0", ""), arrived)


def _fingerprint(request: CreateRequest) -> str:
    """The same for the same request, in whichever encoding it came."""
    reference = _digest(request.reference.data) if request.reference else None
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
    )
    return _digest(msgspec.json.encode(asked))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
