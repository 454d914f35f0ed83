"""Requests that were refused with 429, remembered so that a retry of one is a new request.

A refused client comes back when `retry-after` has told it to, with a higher number in its count of
retries. Both together tell its retry from that of an equal request whose answer was lost. A key's
refusals lie in a few rows of its partition, each of a bounded length, so that a client which is
refused all day leaves no more behind than one that was refused for a minute.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from shared.storage.tables import Insert, Replace, Row, Write

_EARLY = 1.0  # seconds by which the clocks of two instances may differ
_EXPECTED = 120.0  # seconds after its time in which the retry of a refusal is expected
_LONGEST_WAIT = 60.0  # seconds: clients come back sooner than `retry-after` where that is longer
_MOST_EQUAL, _MOST = 8, 64  # refusals remembered, of equal tries and in a row


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """`ask` is what was asked for, as a hash; `number` is the client's count of retries, and `due`
    the time from which the next one may come, in unix seconds.
    """

    ask: str
    number: int
    due: float


def read(row: Row | None, now: datetime) -> list[Refusal]:
    """The refusals in a row whose retries may still come."""
    kept = [] if row is None else msgspec.json.decode(row.values["refusals"], type=list[Refusal])
    return [each for each in kept if now.timestamp() <= each.due + _EXPECTED]


def followed(refusals: Iterable[Refusal], ask: str, number: int, now: datetime) -> Refusal | None:
    """The refusal that the retry of this number follows; None for the retry of a lost answer."""
    due = [each for each in refusals if each.ask == ask and each.number < number and each.due - _EARLY <= now.timestamp()]
    return max(due, key=lambda each: each.number, default=None)


def added(refusals: list[Refusal], ask: str, number: int, retry_after: float | None, now: datetime) -> list[Refusal]:
    """The refusals with one more; the same ones where enough of equal tries are remembered."""
    equal = sum(each.ask == ask and each.number == number for each in refusals)
    if equal >= _MOST_EQUAL:
        return refusals
    wait = retry_after if retry_after is not None and retry_after < _LONGEST_WAIT else 0.0
    return [*refusals, Refusal(ask, number, now.timestamp() + wait)][-_MOST:]


def write(key: str, row: Row | None, refusals: list[Refusal], now: datetime) -> Write:
    values = {"refusals": msgspec.json.encode(refusals).decode(), "made": now}
    return Insert(key, values) if row is None else Replace(row, values)
