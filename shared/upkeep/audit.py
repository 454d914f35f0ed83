"""Checks every key's counters against the sums of its videos."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from shared.accounts.account import Account, add, recount
from shared.gateway import Gateway
from shared.media.video import GATEWAY_OWNER, MASTER_OWNER

COUNTERS = ("reserved", "spend", "running", "seconds_reserved", "seconds_used")
_HELD = ("reserved", "running")  # compared for the gateway's own account: the sums of its holds


@dataclass(frozen=True)
class Difference:
    """A counter of a key that differs from the sum of its videos. Money in micro-dollars."""

    key_id: str
    alias: str | None
    counter: str
    stored: int
    counted: int


@dataclass
class Audit:
    """Goes through all keys, one at a time. `keys` and `videos` count what has been read."""

    gateway: Gateway
    keys: int = 0
    videos: int = 0

    async def differences(self) -> AsyncIterator[Difference]:
        """Every difference. Counters change while videos run, so a key with a difference is
        compared again before it is reported.
        """
        async for key_id in self._key_ids():
            self.keys += 1
            if await self._compare(key_id):
                for difference in await self._compare(key_id):
                    yield difference
        for difference in await self._compare_holds():
            yield difference

    async def _key_ids(self) -> AsyncIterator[str]:
        async for key_id, _ in self.gateway.keys.all():
            yield key_id
        yield MASTER_OWNER

    async def _compare(self, key_id: str) -> list[Difference]:
        account = await self.gateway.ledger.account(key_id)
        if account is None:
            return []
        counted = recount(account, [])
        async for video in self.gateway.videos.of(key_id):
            self.videos += 1
            counted = add(counted, recount(account, [video]))
        return _differences(key_id, account, counted, COUNTERS)

    async def _compare_holds(self) -> list[Difference]:
        account = await self.gateway.ledger.account(GATEWAY_OWNER)
        if account is None:
            return []
        return _differences(GATEWAY_OWNER, account, await self.gateway.budget.recount(account), _HELD)


def _differences(key_id: str, stored: Account, counted: Account, counters: tuple[str, ...]) -> list[Difference]:
    pairs = [(name, getattr(stored, name), getattr(counted, name)) for name in counters]
    return [Difference(key_id, stored.alias, name, ours, theirs) for name, ours, theirs in pairs if ours != theirs]
