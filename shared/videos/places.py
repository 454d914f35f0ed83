"""The places for calls that wait: a limited number on each instance, and for each key.

A call that waits is a running execution, which is paid for and counts against the instance's
concurrency.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from shared.config.browsers import Waiting
from shared.errors import GatewayError, NotFound, RateLimited, WaitingRoomFull

_COME_BACK = 5.0  # seconds


class Places(msgspec.Struct, frozen=True):
    """The places of this instance. `_taken` counts those in use, by key."""

    limits: Waiting
    _taken: Counter[str] = msgspec.field(default_factory=Counter)

    def refusal(self, owner: str) -> GatewayError | None:
        """Why no call of this key may wait here now: NotFound if none ever may, RateLimited if the
        key has no place left, WaitingRoomFull if the instance has none. None if one may.
        """
        taken, most = self._taken[owner], self.limits.max_calls_per_key
        if not self.limits.max_calls or not most:
            return NotFound(
                "Calls may not wait at this gateway: ask for the video again after a while.", code="waiting_disabled"
            )
        if taken >= most:
            message = f"{taken} calls of this key wait already: end one of them, or ask without waiting."
            return RateLimited(message, code="too_many_waiting", retry_after=_COME_BACK)
        if self._taken.total() >= self.limits.max_calls:
            return WaitingRoomFull("Too many calls wait here: come again, or ask without waiting.", retry_after=_COME_BACK)
        return None

    @contextmanager
    def taken(self, owner: str) -> Iterator[None]:
        """Hold a place for as long as the block runs. Raises the error that `refusal` returns."""
        refused = self.refusal(owner)
        if refused is not None:
            raise refused
        self._taken[owner] += 1
        try:
            yield
        finally:
            self._taken[owner] -= 1
            if not self._taken[owner]:
                del self._taken[owner]
