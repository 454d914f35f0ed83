"""The budget of the whole gateway, over all keys: a hold for every unfinished video, in a partition
of its own.

A key's admission and this hold cannot be one transaction, so the hold is placed before the
admission and released after the settlement: the sum of holds is never less than what the keys have
reserved, and the limit holds under every interleaving. Placing and releasing may be repeated. The
sweep releases a hold whose video was never admitted.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import msgspec

from shared.accounts.account import Account, check_budget, rolled
from shared.accounts.commits import Commits, Decision
from shared.clock import Clock
from shared.errors import BudgetExceeded
from shared.media.video import GATEWAY_OWNER, Video, dollars
from shared.storage.tables import Delete, Insert, Replace, Row, Table

_HOLD = "hold_"
_ANCHOR = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday and the first of a month, for windows that are the same for everybody


class GatewayBudget(msgspec.Struct, frozen=True):
    """`limit` in micro-dollars, or None: then there are no holds, and nothing is written."""

    commits: Commits
    clock: Clock
    limit: int | None
    duration: str | None

    async def hold(self, video: Video) -> None:
        """Raises BudgetExceeded."""
        if self.limit is not None:
            await self.commits.change_account(GATEWAY_OWNER, _Hold(self, video.id, video.cost))

    async def reprice(self, video_id: str, cost: int) -> None:
        """Change the price held for an unfinished video. Raises BudgetExceeded."""
        await self.commits.change_account(GATEWAY_OWNER, _OfHold(self, video_id, partial(_reprice, cost)))

    async def release(self, video_id: str, spent: int = 0) -> None:
        """Release a video's hold, and count `spent` micro-dollars; also if no limit is configured
        any more. May be repeated.
        """
        if self.limit is not None or await self.commits.table.get(GATEWAY_OWNER, _hold(video_id)):
            await self.commits.change_account(GATEWAY_OWNER, _OfHold(self, video_id, partial(_release, spent)))

    async def recount(self, account: Account) -> Account:
        """The gateway's account with `reserved` and `running` computed from the holds."""
        holds = [row.values["cost"] async for row in self.commits.table.beginning_with(GATEWAY_OWNER, _HOLD)]
        return msgspec.structs.replace(account, reserved=sum(holds), running=len(holds))

    def applied(self, account: Account) -> Account:
        """The gateway's account with the configured limits, in the budget window of now."""
        limited = msgspec.structs.replace(account, max_budget=self.limit, budget_duration=self.duration, window_anchor=_ANCHOR)
        return rolled(limited, self.clock.now())


class _Hold(msgspec.Struct):
    budget: GatewayBudget
    video_id: str
    cost: int
    weight: int = 0
    _row: Row | None = None

    async def read(self, table: Table, *, again: bool) -> None:
        self._row = await table.get(GATEWAY_OWNER, _hold(self.video_id)) if again else None

    def decide(self, account: Account, taken: set[str]) -> Decision[None] | None:
        del taken  # every video has a hold of its own
        if self._row is not None:
            return Decision(account, None)
        account = self.budget.applied(account)
        _check(account, self.cost)
        held = msgspec.structs.replace(account, reserved=account.reserved + self.cost, running=account.running + 1)
        return Decision(held, None, (Insert(_hold(self.video_id), {"cost": self.cost}),))


class _OfHold(msgspec.Struct):
    """A change of an existing hold by `apply`; does nothing without one."""

    budget: GatewayBudget
    video_id: str
    apply: Callable[[Account, Row], Decision[None]]
    weight: int = 0
    _row: Row | None = None

    async def read(self, table: Table, *, again: bool) -> None:
        del again
        self._row = await table.get(GATEWAY_OWNER, _hold(self.video_id))

    def decide(self, account: Account, taken: set[str]) -> Decision[None] | None:
        if self._row is None:
            return Decision(account, None)
        if self._row.key in taken:
            return None
        return self.apply(self.budget.applied(account), self._row)


def _reprice(cost: int, account: Account, hold: Row) -> Decision[None]:
    more = cost - hold.values["cost"]
    if more > 0:
        _check(account, more)
    held = msgspec.structs.replace(account, reserved=account.reserved + more)
    return Decision(held, None, (Replace(hold, {"cost": cost}),))


def _release(spent: int, account: Account, hold: Row) -> Decision[None]:
    released = msgspec.structs.replace(
        account,
        reserved=account.reserved - hold.values["cost"],
        running=account.running - 1,
        spend=account.spend + spent,
    )
    return Decision(released, None, (Delete(hold),))


def _check(account: Account, cost: int) -> None:
    """Raises BudgetExceeded without the sums: a caller must not learn what other keys spend."""
    try:
        check_budget(account, cost)
    except BudgetExceeded:
        raise BudgetExceeded(
            f"The budget of the whole gateway does not cover this video of ${dollars(cost)}; its operator can raise it."
        ) from None


def _hold(video_id: str) -> str:
    return f"{_HOLD}{video_id}"
