"""Requests that must not start twice, by the caller's key and by the official client's retries."""

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.accounts.commits import Commits
from shared.accounts.idempotency import KEY_LIFETIME, PREFIX, RETRY_LIFETIME, Remembered, RequestIdentity, read_identity
from shared.accounts.ledger import Ledger
from shared.errors import InvalidRequest
from shared.media.video import Video, new_id
from shared.storage.tables import Insert, Replace, Row
from tests.fakes.asking import Reply
from tests.fakes.table import FaultyTable
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PROMPT = {"prompt": "A cat", "seconds": "4"}


def remembered(identity: RequestIdentity, made: datetime = NOW) -> Remembered:
    """What a request leaves behind."""
    (write,) = identity.admit(Remembered(), "video_1", made)
    assert isinstance(write, Insert)
    return Remembered(Row(write.key, dict(write.values), "etag"))


def once(*, explicit: bool = False, retry: bool = False, arrived: datetime = NOW, fingerprint: str = "f") -> RequestIdentity:
    return RequestIdentity("once_x", fingerprint, explicit, int(retry), arrived)


async def create(world: World, *, gateway: Any = None, body: Any = None, **headers: str) -> Reply:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await world.send("POST", "v1/videos", secret=world.secret, body=body or PROMPT, headers=given, gateway=gateway)


def test_a_first_request_has_no_earlier_one() -> None:
    """Nothing is stored for it, so nothing is repeated; its own row says what it was."""
    first = once(explicit=True)
    assert first.earlier(Remembered(), NOW) is None
    stored = remembered(first)
    assert stored.admitted is not None
    assert stored.admitted.values == {"video": "video_1", "fingerprint": "f", "made": NOW, "retry": False}
    (again,) = first.admit(stored, "video_2", NOW)
    assert isinstance(again, Replace)


@pytest.mark.parametrize("explicit", [True, False])
def test_a_claim_ends_after_its_time(explicit: bool) -> None:
    """24 hours for a key of the caller's, half an hour for a retry, to the microsecond."""
    lifetime = KEY_LIFETIME if explicit else RETRY_LIFETIME
    again = once(explicit=explicit, retry=not explicit)
    assert again.earlier(remembered(once()), NOW + lifetime) == "video_1"
    assert again.earlier(remembered(once()), NOW + lifetime + timedelta(microseconds=1)) is None


def test_an_equal_request_that_is_no_retry_is_a_new_one() -> None:
    """Two people may want the same video; only a client that says it repeats itself gets
    the same.
    """
    later = once(arrived=NOW + timedelta(seconds=1))
    assert later.earlier(remembered(once()), NOW + timedelta(seconds=1)) is None
    assert later.earlier(remembered(once(retry=True)), NOW + timedelta(seconds=1)) is None


def test_an_original_that_arrives_before_its_retry_is_admitted_and_comes_to_its_turn_after_is_the_same() -> None:
    """The first try was on its way already when the retry was admitted, so it is not a new
    request.
    """
    original = once(arrived=NOW - timedelta(seconds=1))
    assert original.earlier(remembered(once(retry=True)), NOW) == "video_1"
    assert original.earlier(remembered(once()), NOW) is None, "two originals at the same moment are two requests"


@given(length=st.integers(0, 600))
def test_a_key_has_at_most_255_characters(length: int) -> None:
    """A longer or empty key is refused, never cut."""

    class Request:
        prompt, seconds, size, image, user, metadata, source = "A cat", 4, "720x1280", None, None, None, None
        fit, parameters, guardrails, callback_url = "exact", None, (), None

        class model:  # noqa: N801 - stands for a field
            name = "sora-2"

    headers = {"idempotency-key": "k" * length}
    if 0 < length <= 255:
        claim = read_identity(headers, Request, NOW)  # type: ignore[arg-type] # only these fields are read
        assert claim is not None
        assert claim.explicit
        assert len(claim.key) < 100
    else:
        with pytest.raises(InvalidRequest):
            read_identity(headers, Request, NOW)  # type: ignore[arg-type]


async def test_the_same_key_and_body_answer_the_same_video(world: World) -> None:
    """One video, one charge, and the answer says that it was made before; in a form or in JSON, the
    request is the same.
    """
    first = await create(world, idempotency_key="order-1")
    again = await create(world, idempotency_key="order-1", body={"seconds": 4, "size": "720x1280", "prompt": "A cat"})
    form = await create(
        world, idempotency_key="order-1", body=b"prompt=A+cat&seconds=4", content_type="application/x-www-form-urlencoded"
    )
    assert [each.status for each in (first, again, form)] == [200, 200, 200]
    assert first.json["id"] == again.json["id"] == form.json["id"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-response-cost"] == "0.4"
    account = await world.account()
    assert (account.running, account.reserved) == (1, 400_000)


@pytest.mark.parametrize(
    "body",
    [
        {**PROMPT, "prompt": "A dog"},
        {**PROMPT, "seconds": "8"},
        {**PROMPT, "size": "1280x720"},
        {**PROMPT, "user": "u"},
        {**PROMPT, "metadata": {"a": "b"}},
    ],
    ids=["prompt", "seconds", "size", "user", "metadata"],
)
async def test_the_same_key_with_another_body_is_refused(world: World, body: dict[str, Any]) -> None:
    """422, not to be retried, and the first video stays the only one."""
    await create(world, idempotency_key="order-1")
    refused = await create(world, idempotency_key="order-1", body=body)
    assert (refused.status, refused.code) == (422, "idempotency_key_reused")
    assert refused.headers["x-should-retry"] == "false"
    assert (await world.account()).running == 1


async def test_a_key_is_forgotten_after_a_day_and_belongs_to_its_caller(world: World) -> None:
    """After 24 hours the key makes a new video, whatever the body; another caller's key of the same
    name is another key.
    """
    first = await create(world, idempotency_key="order-1")
    others = await world.send("POST", "v1/videos", body=PROMPT, headers={"idempotency-key": "order-1"})
    assert others.json["id"] != first.json["id"]
    world.clock.skip(24 * 3600 + 1)
    later = await create(world, idempotency_key="order-1", body={**PROMPT, "prompt": "A dog"})
    assert later.status == 200
    assert later.json["id"] != first.json["id"]
    assert (await create(world, idempotency_key="order-1", body={**PROMPT, "prompt": "A dog"})).json["id"] == later.json["id"]


@pytest.mark.world(limits={"max_budget": 399_999})
async def test_a_refused_request_does_not_use_its_key_up(world: World) -> None:
    """A 429 is not an answer to keep: the same key works once there is room."""
    refused = await create(world, idempotency_key="order-1")
    assert refused.status == 429
    await world.gateway.keys.update(world.owner, {"max_budget": 400_000})
    assert (await create(world, idempotency_key="order-1")).status == 200


async def test_a_hundred_callers_with_one_key_get_one_video(world: World) -> None:
    """Through two instances at the same moment: one record, one reservation, a hundred
    equal ids.
    """
    ledgers = (world.gateway.ledger, world.another().ledger)
    now = world.clock.now()
    videos = [_video(world) for _ in range(100)]
    claim = once(explicit=True, arrived=now)
    ends = await asyncio.gather(*(ledgers[n % 2].admit(each, claim) for n, each in enumerate(videos)))
    assert len({each.video.id for each in ends}) == 1
    assert sum(not each.replayed for each in ends) == 1
    account = await world.account()
    assert (account.running, account.reserved) == (1, 400_000)
    assert len([each async for each in world.gateway.videos.of(world.owner)]) == 1


async def test_equal_requests_at_once_leave_one_note(world: World) -> None:
    """Over the whole handler, what the others had noted on their way is taken back."""
    instances = (world.gateway, world.another())
    replies = await asyncio.gather(*(create(world, gateway=instances[n % 2], idempotency_key="order-1") for n in range(12)))
    assert {each.status for each in replies} == {200}
    assert len({each.json["id"] for each in replies}) == 1
    assert sum("idempotent-replayed" not in each.headers for each in replies) == 1
    assert [video_id async for video_id, _ in world.gateway.pool.unfinished(world.model)] == [replies[0].json["id"]]


async def test_the_official_clients_retries_are_the_same_video(world: World) -> None:
    """Whichever of the tries came through, the retries of it answer its video; half an hour later
    it is a new one.
    """
    first = await create(world, x_stainless_retry_count="0")
    retries = [await create(world, x_stainless_retry_count=count) for count in ("1", "2")]
    assert {each.json["id"] for each in retries} == {first.json["id"]}
    other_body = await create(world, x_stainless_retry_count="1", body={**PROMPT, "prompt": "A dog"})
    assert other_body.json["id"] != first.json["id"]
    other_caller = await world.send("POST", "v1/videos", body=PROMPT, headers={"x-stainless-retry-count": "1"})
    assert other_caller.json["id"] != first.json["id"]
    world.clock.skip(1801)
    assert (await create(world, x_stainless_retry_count="1")).json["id"] != first.json["id"]


async def test_two_new_requests_that_look_the_same_are_two_videos(world: World) -> None:
    """Without a key and without a retry, asking twice means two; so does a client that sends no
    count at all.
    """
    replies = [await create(world, x_stainless_retry_count="0") for _ in range(2)] + [await create(world) for _ in range(2)]
    assert len({each.json["id"] for each in replies}) == 4


async def test_a_late_original_finds_the_video_of_its_retry(world: World) -> None:
    """The original was overtaken: it arrived before the retry was admitted, and is admitted after
    it.
    """
    arrived = world.clock.now()
    world.clock.skip(30)
    retry = await create(world, x_stainless_retry_count="1")
    late = read_identity({"x-stainless-retry-count": "0"}, world.request(), arrived)
    admitted = await world.gateway.lifecycle.start(world.request(), world.owner, late)
    assert (admitted.video.id, admitted.replayed) == (retry.json["id"], True)
    world.clock.skip(1)
    assert (await create(world, x_stainless_retry_count="0")).json["id"] != retry.json["id"], "this one is new"
    assert len([each async for each in world.gateway.videos.of(world.owner)]) == 2


async def test_an_original_and_its_retry_at_the_same_moment_are_one_video(world: World) -> None:
    """The client gave up on the first try and sent the second while the first was still being
    admitted, elsewhere.
    """
    other = world.another()
    for turn in range(5):
        body = {**PROMPT, "prompt": f"Cat {turn}"}
        replies = await asyncio.gather(
            create(world, body=body, x_stainless_retry_count="0"),
            create(world, body=body, x_stainless_retry_count="1", gateway=other),
            create(world, body=body, x_stainless_retry_count="2"),
        )
        assert len({each.json["id"] for each in replies}) == 1


@pytest.mark.parametrize(
    "used_up",
    [
        pytest.param("the key's", marks=pytest.mark.world(limits={"max_budget": 400_000})),
        pytest.param("the gateway's", marks=pytest.mark.world(budget=400_000)),
    ],
)
async def test_a_repeated_request_is_answered_when_nothing_more_can_be_admitted(world: World, used_up: str) -> None:
    """A budget that the video itself has used up, the key's or the gateway's, does not hide the
    video from its caller.
    """
    first = await create(world, idempotency_key="order-1")
    again = await create(world, idempotency_key="order-1")
    assert (again.status, again.json["id"]) == (200, first.json["id"])
    assert (await create(world, idempotency_key="order-2")).code == "budget_exceeded"
    assert (await create(world, idempotency_key="order-1", body={**PROMPT, "user": "u"})).status == 422


@pytest.mark.parametrize("seconds_later", [0, 6], ids=["account still fresh", "account read anew"])
@pytest.mark.world(limits={"max_budget": 400_000})
async def test_who_is_refused_by_its_own_twin_gets_the_twins_video(world: World, seconds_later: int) -> None:
    """It looked for an earlier request a moment too soon, and then found the budget used up by just
    that one.
    """

    class TooSoon(FaultyTable):
        """Its first look for the record of the request was before the twin's commit."""

        looked = False

        async def get(self, partition: str, key: str) -> Row | None:
            if key.startswith(PREFIX) and not self.looked:
                self.looked = True
                return None
            return await super().get(partition, key)

    first = await create(world, idempotency_key="order-1")
    late = world.another()
    world.clock.skip(seconds_later)
    commits = Commits(TooSoon(late.tables.gateway, world.faults), world.clock, Random(1))
    ledger = Ledger(commits, late.videos, world.clock)
    late = replace(late, lifecycle=replace(late.lifecycle, ledger=ledger))
    again = await create(world, gateway=late, idempotency_key="order-1")
    assert (again.status, again.json["id"]) == (200, first.json["id"])
    assert again.headers["idempotent-replayed"] == "true"


def _video(world: World) -> Video:
    now = world.clock.now()
    return Video(id=new_id(world.owner, now), model="m", created_at=now, prompt="A cat", seconds=4, size="1x1", cost=400_000)
