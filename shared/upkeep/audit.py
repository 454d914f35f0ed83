"""Checks every key's counters, and its spend lines, against the sums of its videos.

It reads every line and every video once, and those of keys with a difference once more. In memory
it keeps two numbers for each key.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from datetime import datetime

import msgspec

from shared.accounts.account import Account, add, recount
from shared.gateway import Gateway
from shared.media.video import GATEWAY_OWNER, MASTER_OWNER, owner_of

COUNTERS = ("reserved", "spend", "running", "seconds_reserved", "seconds_used")
_HELD = ("reserved", "running")  # compared for the gateway's own account: the sums of its holds


class Difference(msgspec.Struct, frozen=True):
    """A counter of a key that differs from the sum of its videos. Money in micro-dollars."""

    key_id: str
    alias: str | None
    counter: str
    stored: int
    counted: int


class Ended(msgspec.Struct, frozen=True):
    """The videos of a key that have ended: how many, and what they have cost in micro-dollars."""

    lines: int = 0
    lines_spend: int = 0

    def plus(self, spent: int) -> "Ended":
        return Ended(self.lines + 1, self.lines_spend + spent)


class Lines(msgspec.Struct, frozen=True):
    """The sums of all keys' spend lines. Reading them began at `read_at`."""

    read_at: datetime
    by_key: Mapping[str, Ended]

    def of(self, key_id: str) -> Ended:
        return self.by_key.get(key_id, Ended())


class Audit(msgspec.Struct):
    """Goes through all spend lines, and then through all keys, one at a time. `keys` and `videos`
    count what has been read.
    """

    gateway: Gateway
    keys: int = 0
    videos: int = 0

    async def differences(self) -> AsyncIterator[Difference]:
        """Every difference. Counters change while videos run, so a key with a difference is
        compared again before it is reported.
        """
        lines, doubtful = await self._lines(), []
        async for key_id in self._key_ids():
            self.keys += 1
            if await self._compare(key_id, lines):
                doubtful.append(key_id)
        lines = await self._lines() if doubtful else lines
        for key_id in doubtful:
            for difference in await self._compare(key_id, lines):
                yield difference
        for difference in await self._compare_holds():
            yield difference

    async def _key_ids(self) -> AsyncIterator[str]:
        async for key_id, _ in self.gateway.keys.all():
            yield key_id
        yield MASTER_OWNER

    async def _lines(self) -> Lines:
        read_at, by_key = self.gateway.clock.now(), defaultdict[str, Ended](Ended)
        async for video_id, line in self.gateway.lines.between():
            if line is not None:
                owner = owner_of(video_id)
                by_key[owner] = by_key[owner].plus(line.spent)
        return Lines(read_at, by_key)

    async def _compare(self, key_id: str, lines: Lines) -> list[Difference]:
        """The differences of one key, by reading all of its videos."""
        account = await self.gateway.ledger.account(key_id)
        if account is None:
            return []
        counted, least, most = recount(account, []), Ended(), Ended()
        async for video in self.gateway.videos.of(key_id):
            self.videos += 1
            counted = add(counted, recount(account, [video]))
            if video.finished:
                most = most.plus(video.spent)
                # The line of a video that has ended since may have been read or not.
                ended_since = video.finished_at is not None and video.finished_at > lines.read_at
                least = least if ended_since else least.plus(video.spent)
        differences = _differences(key_id, account, counted, COUNTERS)
        if await self.gateway.videos.indexed():  # videos of earlier versions have no lines until then
            differences += _line_differences(key_id, account.alias, lines.of(key_id), least, most)
        return differences

    async def _compare_holds(self) -> list[Difference]:
        account = await self.gateway.ledger.account(GATEWAY_OWNER)
        if account is None:
            return []
        return _differences(GATEWAY_OWNER, account, await self.gateway.budget.recount(account), _HELD)


def _differences(key_id: str, stored: Account, counted: Account, counters: tuple[str, ...]) -> list[Difference]:
    pairs = [(name, getattr(stored, name), getattr(counted, name)) for name in counters]
    return [Difference(key_id, stored.alias, name, ours, theirs) for name, ours, theirs in pairs if ours != theirs]


def _line_differences(key_id: str, alias: str | None, stored: Ended, least: Ended, most: Ended) -> list[Difference]:
    """The sums of the `stored` lines that are not from `least` to `most`."""
    found = []
    for name in ("lines", "lines_spend"):
        ours, fewest, all_ = (getattr(each, name) for each in (stored, least, most))
        if not fewest <= ours <= all_:
            found.append(Difference(key_id, alias, name, ours, fewest if ours < fewest else all_))
    return found
