"""The arithmetic of one key: what is allowed, what is counted, and what the headers say."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.accounts.account import (
    Account,
    over_soft_budget,
    rate_headers,
    recount,
    reserve,
    resets_at,
    rolled,
    settle,
    spend_headers,
)
from shared.errors import BudgetExceeded, InvalidRequest, PermissionDenied, RateLimited, RequestError, Unauthenticated
from shared.media.video import Video, new_id
from shared.storage.tables import Row

NOW = datetime(2026, 11, 22, 12, 0, 15, tzinfo=UTC)
SECRET = "sk-a-secret-that-nobody-may-see"


def key(**limits: Any) -> Account:
    made = {"token": "f" * 64, "name": "sk-...y-see", "created_at": NOW, "window_anchor": NOW, "window_start": NOW}
    return Account(**{**made, **limits})


def video(cost: int = 400_000, seconds: int = 4, at: datetime = NOW, model: str = "sora-2") -> Video:
    return Video(
        id=new_id("key_0a0b0c0d", at), model=model, created_at=at, prompt="A cat", seconds=seconds, size="720x1280", cost=cost
    )


def ended(video: Video, status: str, at: datetime = NOW) -> Video:
    return msgspec.structs.replace(video, status=status, finished_at=at)


def test_what_is_reserved_becomes_spend_or_comes_back() -> None:
    """A completed video's price and seconds move from reserved to spent; a failed one's are given
    back.
    """
    first, second = video(), video(cost=1_200_000, seconds=12)
    account = reserve(reserve(key(), first, NOW), second, NOW)
    assert (account.reserved, account.running, account.seconds_reserved) == (1_600_000, 2, 16)
    account = settle(account, ended(first, "completed"))
    assert (account.reserved, account.spend, account.running, account.seconds_used) == (1_200_000, 400_000, 1, 4)
    account = settle(account, ended(second, "failed"))
    assert (account.reserved, account.spend, account.running, account.seconds_reserved) == (0, 400_000, 0, 0)


def test_an_unfinished_video_cannot_be_settled() -> None:
    """Settling what has not ended is a mistake in our own code, and says so."""
    with pytest.raises(ValueError, match="finished"):
        settle(reserve(key(), video(), NOW), video())


def test_the_last_cent_can_be_spent_and_not_one_more() -> None:
    """A price that fits exactly is accepted; a micro-dollar less of budget is not."""
    assert reserve(key(max_budget=400_000), video(), NOW).reserved == 400_000
    with pytest.raises(BudgetExceeded):
        reserve(key(max_budget=399_999), video(), NOW)


def test_the_refusal_names_limit_spent_and_reserved_and_never_the_key() -> None:
    """Whoever is refused learns the three numbers, and neither secret nor hash nor id is in the
    message.
    """
    account = key(max_budget=1_000_000, spend=300_000, reserved=400_000, alias="payroll", user_id="boss")
    with pytest.raises(BudgetExceeded) as refused:
        reserve(account, video(), NOW)
    error = refused.value
    assert (error.status, error.code, error.should_retry) == (429, "budget_exceeded", False)
    assert all(f"${amount}" in error.message for amount in ("1", "0.3", "0.4"))
    assert not any(part in error.message for part in ("payroll", "boss", "f" * 8, "key_", "sk-", "y-see"))


@pytest.mark.parametrize(
    ("limits", "error", "code"),
    [
        ({"deleted": True}, Unauthenticated, "invalid_api_key"),
        ({"blocked": True}, Unauthenticated, "key_blocked"),
        ({"expires": NOW}, Unauthenticated, "key_expired"),
        ({"models": '["other"]'}, PermissionDenied, "model_not_allowed"),
        ({"rpm_limit": 0}, RateLimited, "rate_limit_exceeded"),
        ({"max_parallel_requests": 1, "running": 1}, RateLimited, "too_many_running"),
        ({"max_seconds_per_video": 3}, InvalidRequest, "seconds_not_allowed"),
        ({"seconds_limit": 10, "seconds_used": 3, "seconds_reserved": 4}, BudgetExceeded, "seconds_limit_exceeded"),
        ({"max_budget": 0}, BudgetExceeded, "budget_exceeded"),
    ],
)
def test_each_limit_has_its_own_error(limits: dict[str, Any], error: type[RequestError], code: str) -> None:
    """Every limit refuses with its status and code, and says nothing of the key."""
    with pytest.raises(error) as refused:
        reserve(key(**limits), video(), NOW)
    assert refused.value.code == code
    assert "f" * 8 not in refused.value.message


@pytest.mark.parametrize(
    "limits",
    [
        {"expires": NOW + timedelta(microseconds=1)},
        {"models": '["other", "sora-2"]'},
        {"models": "[]"},
        {"rpm_limit": 1, "rate_minute": NOW - timedelta(minutes=1), "rate_count": 9},
        {"max_parallel_requests": 2, "running": 1},
        {"max_seconds_per_video": 4},
        {"seconds_limit": 11, "seconds_used": 3, "seconds_reserved": 4},
        {"max_budget": 1_000_000, "spend": 600_000},
    ],
)
def test_what_just_fits_is_accepted(limits: dict[str, Any]) -> None:
    """No limit refuses what lies within it."""
    assert reserve(key(**limits), video(), NOW).running == limits.get("running", 0) + 1


def test_a_minute_holds_rpm_limit_creates_and_the_next_one_begins_anew() -> None:
    """The limit counts accepted creates in a clock minute; the refusal says when the minute
    ends.
    """
    account = key(rpm_limit=2)
    for _ in range(2):
        account = reserve(account, video(), NOW)
    with pytest.raises(RateLimited) as refused:
        reserve(account, video(), NOW)
    assert refused.value.retry_after == 45
    assert refused.value.headers == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "45s",
    }
    assert reserve(account, video(), NOW + timedelta(seconds=45)).rate_count == 1


def test_instances_whose_clocks_differ_cannot_reset_each_others_minute() -> None:
    """Two instances on either side of a minute's end share the newer minute: taking turns does not
    get past the limit.
    """
    account, accepted = key(rpm_limit=4), 0
    behind, ahead = NOW.replace(second=59), NOW.replace(second=59) + timedelta(seconds=1)
    for turn in range(20):
        try:
            account = reserve(account, video(), (behind, ahead)[turn % 2])
        except RateLimited:
            continue
        accepted += 1
    assert accepted <= 5, "one in the minute that ended, four in the next"


def test_success_headers_say_what_is_left() -> None:
    """Limit, rest and reset for a key with a request limit, none for one without; spend and budget
    in dollars.
    """
    account = reserve(key(rpm_limit=5, max_budget=10_000_000, spend=400_000), video(), NOW)
    assert rate_headers(account, NOW)["x-ratelimit-remaining-requests"] == "4"
    assert rate_headers(account, NOW + timedelta(minutes=1))["x-ratelimit-remaining-requests"] == "5"
    assert rate_headers(key(), NOW) == {}
    assert spend_headers(account) == {"x-key-spend": "0.4", "x-key-max-budget": "10"}
    assert spend_headers(key()) == {"x-key-spend": "0"}


def test_a_refusal_for_running_videos_carries_the_rate_headers_too() -> None:
    """Every 429 of a limit tells the client how its request limit stands."""
    with pytest.raises(RateLimited) as refused:
        reserve(key(rpm_limit=5, max_parallel_requests=0), video(), NOW)
    assert refused.value.retry_after
    assert refused.value.headers["x-ratelimit-limit-requests"] == "5"


def test_a_soft_budget_only_warns() -> None:
    """Passing it is seen, counting what is held; nothing is refused."""
    assert not over_soft_budget(reserve(key(soft_budget=400_000), video(), NOW))
    assert over_soft_budget(reserve(key(soft_budget=399_999), video(), NOW))
    assert not over_soft_budget(key())


def test_a_new_window_forgets_spend_and_keeps_reservations() -> None:
    """At the window's end spend and seconds start at nothing; what is under way stays reserved and
    counts when it ends.
    """
    account = reserve(key(max_budget=800_000, budget_duration="30m"), video(), NOW)
    account = settle(account, ended(video(), "completed"))
    account = reserve(account, late := video(), NOW)
    with pytest.raises(BudgetExceeded):
        reserve(account, video(), NOW + timedelta(minutes=29))
    account = reserve(account, video(), NOW + timedelta(minutes=30))
    assert (account.spend, account.seconds_used, account.reserved) == (0, 0, 800_000)
    account = settle(account, ended(late, "completed", NOW + timedelta(minutes=31)))
    assert (account.spend, account.reserved) == (400_000, 400_000)


def test_a_window_also_ends_when_nobody_creates_anything() -> None:
    """A completion after the window's end counts in the window it falls in."""
    account = reserve(key(budget_duration="1mo", spend=900_000), one := video(), NOW)
    account = settle(account, ended(one, "completed", NOW + timedelta(days=31)))
    assert account.spend == 400_000
    assert account.window_start == datetime(2026, 12, 22, 12, 0, 15, tzinfo=UTC)


def test_a_window_never_rolls_back() -> None:
    """An instance whose clock is behind neither brings old spend back nor loses the new."""
    account = reserve(key(budget_duration="30s"), one := video(), NOW + timedelta(seconds=40))
    account = settle(account, ended(one, "completed", NOW + timedelta(seconds=41)))
    behind = rolled(account, NOW)
    assert (behind.spend, behind.window_start) == (400_000, NOW + timedelta(seconds=30))


def test_a_budget_without_duration_never_resets() -> None:
    """Spend stays for good, and there is no reset to announce."""
    account = key(spend=1)
    assert rolled(account, NOW + timedelta(days=9999)) == account
    assert resets_at(account, NOW) is None
    assert resets_at(key(budget_duration="30d"), NOW) == NOW + timedelta(days=30)


def test_an_account_survives_its_row() -> None:
    """Every field comes back from the row it is stored in, and what later versions add is passed
    over.
    """
    account = reserve(key(max_budget=10_000_000, rpm_limit=3, tags='["a"]'), video(), NOW)
    assert Row("key", {**account.to_row(), "from_the_future": 1}, "").read(Account) == account


Step = tuple[str, int, float]
STEPS = st.lists(
    st.tuples(st.sampled_from(["reserve", "completed", "failed"]), st.integers(0, 9), st.floats(-5, 3_000_000)), max_size=40
)
LIMITS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "max_budget": st.integers(0, 3_000_000),
        "budget_duration": st.sampled_from(["30s", "30m", "30h", "30d", "1mo"]),
        "max_parallel_requests": st.integers(0, 4),
        "seconds_limit": st.integers(0, 40),
        "rpm_limit": st.integers(0, 4),
    },
)


@given(limits=LIMITS, steps=STEPS)
def test_counters_always_follow_from_the_videos(limits: dict[str, Any], steps: list[Step]) -> None:
    """Whatever is reserved and settled, whenever, by clocks that jump: a recount agrees and no
    limit is passed.
    """
    account, videos, now = key(**limits), list[Video](), NOW
    for action, which, seconds in steps:
        now += timedelta(seconds=seconds)
        open_videos = [index for index, each in enumerate(videos) if not each.finished]
        if action == "reserve":
            wanted = video(cost=100_000 * (which + 1), seconds=which + 1, at=now)
            with suppress(RequestError):
                account = reserve(account, wanted, now)
                videos.append(wanted)
        elif open_videos:
            index = open_videos[which % len(open_videos)]
            videos[index] = ended(videos[index], action, now)
            account = settle(account, videos[index])
        assert recount(account, videos) == account
        assert account.spend + account.reserved <= limits.get("max_budget", 10**12)
        assert account.running <= limits.get("max_parallel_requests", 10**9)
        assert account.seconds_used + account.seconds_reserved <= limits.get("seconds_limit", 10**9)
        assert min(account.reserved, account.spend, account.running, account.seconds_reserved, account.seconds_used) >= 0
