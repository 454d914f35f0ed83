"""Remembers requests that were refused with 429, so that their retries count as new requests.

A refused client returns after its `retry-after`, with a higher count of retries. Both together tell
its retry from that of an equal request whose answer was lost. The refusals of a key lie in a few
rows of bounded length, so that constant refusals do not fill its partition.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from shared.storage.tables import Insert, Replace, Row, Write

_EARLY = 1.0  # seconds by which the clocks of two instances may differ
_EXPECTED = 120.0  # seconds after `due` in which a retry is still expected
_LONGEST_WAIT = 60.0  # seconds: clients ignore a longer `retry-after`, and come back sooner
_MOST_EQUAL, _MOST = 8, 64  # the most refusals remembered: equal ones, and in one row


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """`ask` is a hash of the request, `number` the client's count of retries, and `due` the
    earliest time of the next retry, in unix seconds.
    """

    ask: str
    number: int
    due: float


def read(row: Row | None, now: datetime) -> list[Refusal]:
    """The refusals of a row whose retries may still come."""
    kept = [] if row is None else msgspec.json.decode(row.values["refusals"], type=list[Refusal])
    return [each for each in kept if now.timestamp() <= each.due + _EXPECTED]


def followed(refusals: Iterable[Refusal], ask: str, number: int, now: datetime) -> Refusal | None:
    """The refusal that a retry with this count follows; None for the retry of a lost answer."""
    due = [each for each in refusals if each.ask == ask and each.number < number and each.due - _EARLY <= now.timestamp()]
    return max(due, key=lambda each: each.number, default=None)


def added(refusals: list[Refusal], ask: str, number: int, retry_after: float | None, now: datetime) -> list[Refusal]:
    """The refusals and one more; unchanged if enough equal ones are remembered."""
    equal = sum(each.ask == ask and each.number == number for each in refusals)
    if equal >= _MOST_EQUAL:
        return refusals
    wait = retry_after if retry_after is not None and retry_after < _LONGEST_WAIT else 0.0
    return [*refusals, Refusal(ask, number, now.timestamp() + wait)][-_MOST:]


def write(key: str, row: Row | None, refusals: list[Refusal], now: datetime) -> Write:
    """The write that stores these refusals in their row."""
    values = {"refusals": msgspec.json.encode(refusals).decode(), "made": now}
    return Insert(key, values) if row is None else Replace(row, values)
