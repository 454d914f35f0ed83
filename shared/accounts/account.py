"""A key's account: its limits, its counters, and their arithmetic. Pure: no storage, no clock.

    reserved   the price of every unfinished video
    spend      the price of every video completed since `window_start`
    running    the number of unfinished videos
    seconds_*  reserved and used: the same two sums for seconds of video

So every counter can be computed again from the videos, which `recount` does.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from shared.errors import BudgetExceeded, InvalidRequest, PermissionDenied, RateLimited, Unauthenticated
from shared.media.video import Video, dollars
from shared.periods import window

_MINUTE = timedelta(minutes=1)
_SLOT_WAIT = 10.0  # seconds: when a caller with too many running videos may look again


class Account(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One key's row. Money in micro-dollars, times in UTC; `models`, `tags`, `metadata`, `aliases`,
    `permissions` and `callback_hosts` are JSON text. `hooked` is whether an endpoint wants events.

    `token` is the SHA-256 of the secret, in hex; of an account that an identity has, a number that
    no secret is known for. `configured` is then the digest of the configuration that its settings
    are from. A limit of None does not limit. `team_id`,
    `organization_id`, `tpm_limit`, `aliases` and `permissions` are kept for operators who bring
    keys from LiteLLM, and change nothing here.
    """

    token: str | None = None
    name: str | None = None
    alias: str | None = None
    models: str = "[]"
    tags: str = "[]"
    metadata: str = "{}"
    user_id: str | None = None
    team_id: str | None = None
    organization_id: str | None = None
    tpm_limit: int | None = None
    aliases: str = "{}"
    permissions: str = "{}"
    max_budget: int | None = None
    soft_budget: int | None = None
    budget_duration: str | None = None
    window_anchor: datetime | None = None
    rpm_limit: int | None = None
    max_parallel_requests: int | None = None
    max_seconds_per_video: int | None = None
    seconds_limit: int | None = None
    priority: int = 1
    expires: datetime | None = None
    blocked: bool = False
    deleted: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None
    webhook_url: str | None = None
    callback_hosts: str = "[]"
    hooked: bool = False
    configured: str | None = None

    reserved: int = 0
    spend: int = 0
    running: int = 0
    seconds_reserved: int = 0
    seconds_used: int = 0
    window_start: datetime | None = None
    rate_minute: datetime | None = None
    rate_count: int = 0

    def to_row(self) -> dict[str, Any]:
        """The columns of its row. One that has its default is left out: no default may change."""
        row: dict[str, Any] = msgspec.to_builtins(self, builtin_types=(datetime,))
        return row


def callback_hosts(account: Account | None) -> list[str]:
    """The only hosts that the key's webhooks may go to; none means any."""
    return msgspec.json.decode(account.callback_hosts, type=list[str]) if account else []


def check_usable(account: Account, now: datetime) -> None:
    """Raises Unauthenticated for a key that is deleted, blocked or expired."""
    if account.deleted:
        raise Unauthenticated("The API key is not valid.")
    if account.blocked:
        raise Unauthenticated("The API key is blocked.", code="key_blocked")
    if account.expires is not None and account.expires <= now:
        raise Unauthenticated("The API key has expired.", code="key_expired")


def check_model(account: Account, model: str) -> None:
    """Raises PermissionDenied for a model that is not on the key's list. An empty list allows all
    models.
    """
    allowed = msgspec.json.decode(account.models, type=list[str])
    if allowed and model not in allowed:
        raise PermissionDenied(
            f"The API key may not use this model; it may use {', '.join(allowed)}.", code="model_not_allowed", param="model"
        )


def check_budget(account: Account, cost: int) -> None:
    """Raises BudgetExceeded if `cost` exceeds the budget less spend and reservations."""
    limit = account.max_budget
    if limit is not None and account.spend + account.reserved + cost > limit:
        raise BudgetExceeded(
            f"The budget of ${dollars(limit)} does not cover this video of ${dollars(cost)}: "
            f"${dollars(account.spend)} spent, ${dollars(account.reserved)} reserved."
        )


def rolled(account: Account, now: datetime) -> Account:
    """The account with spend of the budget window of `now`. It never goes back to an earlier
    window, so an instance with a slow clock changes nothing.
    """
    if account.budget_duration is None or account.window_anchor is None:
        return account
    start, _ = window(account.window_anchor, account.budget_duration, now)
    if account.window_start is not None and start <= account.window_start.astimezone(UTC):
        return account
    return msgspec.structs.replace(account, spend=0, seconds_used=0, window_start=start)


def resets_at(account: Account, now: datetime) -> datetime | None:
    """When the budget window of `now` ends; None for a budget without windows."""
    if account.budget_duration is None or account.window_anchor is None:
        return None
    return window(account.window_anchor, account.budget_duration, now)[1]


def reserve(account: Account, video: Video, now: datetime) -> Account:
    """The account with the video's price, seconds and place reserved. Raises the RequestError of
    the first limit that forbids it, and leaves `account` unchanged.
    """
    check_usable(account, now)
    check_model(account, video.model)
    account = rolled(account, now)
    _check_seconds(account, video)
    _check_rate(account, now)
    _check_running(account, now)
    check_budget(account, video.cost)
    minute = _minute(now)
    return msgspec.structs.replace(
        account,
        reserved=account.reserved + video.cost,
        running=account.running + 1,
        seconds_reserved=account.seconds_reserved + video.seconds,
        rate_minute=_latest(minute, account.rate_minute),
        rate_count=_rate_count(account, minute) + 1,
    )


def reprice(account: Account, before: Video, after: Video, now: datetime) -> Account:
    """The account with another model's price reserved for an unfinished video. Raises
    PermissionDenied or BudgetExceeded.
    """
    check_model(account, after.model)
    account = rolled(account, now)
    if after.cost > before.cost:
        check_budget(account, after.cost - before.cost)
    return msgspec.structs.replace(account, reserved=account.reserved - before.cost + after.cost)


def settle(account: Account, video: Video, held: int | None = None) -> Account:
    """The account after the end of a video: its reservation becomes spend if it was completed, and
    is released if it failed. `held` is what was reserved for it, if that is more than its cost.
    """
    if not video.finished or video.finished_at is None:
        raise ValueError("only a finished video is settled")
    account = rolled(account, video.finished_at)
    counts = video.status == "completed" and _in_window(account, video)
    return msgspec.structs.replace(
        account,
        reserved=account.reserved - (video.cost if held is None else held),
        running=account.running - 1,
        seconds_reserved=account.seconds_reserved - video.seconds,
        spend=account.spend + (video.cost if counts else 0),
        seconds_used=account.seconds_used + (video.seconds if counts else 0),
    )


def recount(account: Account, videos: Iterable[Video]) -> Account:
    """The account with its counters computed from these videos alone."""
    reserved = running = seconds_reserved = spend = seconds_used = 0
    for video in videos:
        if not video.finished:
            reserved, running, seconds_reserved = reserved + video.cost, running + 1, seconds_reserved + video.seconds
        elif video.status == "completed" and _in_window(account, video):
            spend, seconds_used = spend + video.cost, seconds_used + video.seconds
    return msgspec.structs.replace(
        account,
        reserved=reserved,
        running=running,
        seconds_reserved=seconds_reserved,
        spend=spend,
        seconds_used=seconds_used,
    )


def add(one: Account, other: Account) -> Account:
    """The first account with the sums of both accounts' counters, for a `recount` in parts."""
    names = ("reserved", "running", "seconds_reserved", "spend", "seconds_used")
    return msgspec.structs.replace(one, **{name: getattr(one, name) + getattr(other, name) for name in names})


def rate_headers(account: Account, now: datetime) -> dict[str, str]:
    """Headers `x-ratelimit-*` for a key with a request limit: creates per minute, how many are
    left, and when the minute ends. Empty for a key without.
    """
    if account.rpm_limit is None:
        return {}
    minute = _minute(now)
    remaining = max(0, account.rpm_limit - _rate_count(account, minute))
    return {
        "x-ratelimit-limit-requests": str(account.rpm_limit),
        "x-ratelimit-remaining-requests": str(remaining),
        "x-ratelimit-reset-requests": f"{_left(minute, now):.0f}s",
    }


def spend_headers(account: Account) -> dict[str, str]:
    """Headers `x-key-spend` and `x-key-max-budget`, in dollars."""
    budget = {} if account.max_budget is None else {"x-key-max-budget": dollars(account.max_budget)}
    return {"x-key-spend": dollars(account.spend), **budget}


def over_soft_budget(account: Account) -> bool:
    """Whether spend and reservations exceed the soft budget, which only warns."""
    return account.soft_budget is not None and account.spend + account.reserved > account.soft_budget


class Crossing(msgspec.Struct, frozen=True):
    """How a video made its key cross the soft budget: `used` is what is spent and reserved with it,
    in micro-dollars like `limit`, and `window` is the start of the budget window.
    """

    used: int
    limit: int
    window: str


def crossing(account: Account, video: Video) -> Crossing | None:
    """The crossing, if the reservation of this video, which `account` has, is the one that exceeds
    the soft budget.
    """
    if account.soft_budget is None or not over_soft_budget(account):
        return None
    if over_soft_budget(msgspec.structs.replace(account, reserved=account.reserved - video.cost)):
        return None
    return Crossing(account.spend + account.reserved, account.soft_budget, str(account.window_start))


def _check_seconds(account: Account, video: Video) -> None:
    longest = account.max_seconds_per_video
    if longest is not None and video.seconds > longest:
        raise InvalidRequest(
            f"The API key may make videos of at most {longest} seconds.", code="seconds_not_allowed", param="seconds"
        )
    limit, used = account.seconds_limit, account.seconds_used + account.seconds_reserved
    if limit is not None and used + video.seconds > limit:
        raise BudgetExceeded(
            f"The API key's limit of {limit} seconds of video is used up: {account.seconds_used} made, "
            f"{account.seconds_reserved} under way, {video.seconds} asked for.",
            code="seconds_limit_exceeded",
        )


def _check_rate(account: Account, now: datetime) -> None:
    minute = _minute(now)
    if account.rpm_limit is not None and _rate_count(account, minute) >= account.rpm_limit:
        raise RateLimited(
            f"The API key's limit of {account.rpm_limit} videos a minute is reached.",
            retry_after=_left(minute, now),
            headers=rate_headers(account, now),
        )


def _check_running(account: Account, now: datetime) -> None:
    limit = account.max_parallel_requests
    if limit is not None and account.running >= limit:
        raise RateLimited(
            f"The API key's limit of {limit} videos at a time is reached.",
            code="too_many_running",
            retry_after=_SLOT_WAIT,
            headers=rate_headers(account, now),
        )


def _in_window(account: Account, video: Video) -> bool:
    if account.window_start is None or video.finished_at is None:
        return True
    return video.finished_at.astimezone(UTC) >= account.window_start.astimezone(UTC)


def _minute(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(second=0, microsecond=0)


def _latest(minute: datetime, counted: datetime | None) -> datetime:
    return minute if counted is None else max(minute, counted.astimezone(UTC))


def _rate_count(account: Account, minute: datetime) -> int:
    """The number of creates in this minute; 0 if the stored count is of an earlier minute. A stored
    minute ahead of `minute`, from a faster clock, counts as this one.
    """
    if account.rate_minute is None or account.rate_minute.astimezone(UTC) < minute:
        return 0
    return account.rate_count


def _left(minute: datetime, now: datetime) -> float:
    return max(1.0, (minute + _MINUTE - now.astimezone(UTC)).total_seconds())
