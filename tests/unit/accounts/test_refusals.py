"""Creates that were refused with 429, and what retries of them are answered."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._models import FinalRequestOptions

from shared.accounts import refusals
from shared.accounts.refusals import Refusal
from shared.gateway import Gateway
from shared.storage.tables import Insert, Row
from tests.fakes.asking import Reply
from tests.fakes.table import key_of
from tests.fakes.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")]

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PROMPT = {"prompt": "A cat", "seconds": "4"}


class Patient(openai.AsyncOpenAI):
    """The official client, whose pauses between retries pass on the world's clock."""

    world: World

    async def _sleep_for_retry(
        self, *, retries_taken: int, max_retries: int, options: FinalRequestOptions, response: httpx2.Response | None
    ) -> None:
        headers = None if response is None else response.headers
        self.world.clock.skip(self._calculate_retry_timeout(max_retries - retries_taken, options, headers))


class Wire(httpx2.AsyncBaseTransport):
    """The way from the client to the gateway. The first `lost` answers are dropped after the time
    that the client waits for one.
    """

    def __init__(self, world: World, lost: int = 0) -> None:
        self.world = world
        self.lost = lost
        self.said: list[Reply] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path.lstrip("/")
        reply = await self.world.send(
            request.method, path, secret=self.world.secret, body=await request.aread(), headers=dict(request.headers)
        )
        self.said.append(reply)
        if self.lost:
            self.lost -= 1
            self.world.clock.skip(request.extensions["timeout"]["read"])
            raise httpx2.ReadTimeout("no answer", request=request)
        return httpx2.Response(reply.status, headers=reply.headers, content=reply.body)


async def client(world: World, wire: Wire) -> AsyncIterator[Patient]:
    async with httpx2.AsyncClient(transport=wire) as http:
        made = Patient(api_key=world.secret, base_url="https://gateway.example/v1", http_client=http)
        made.world = world
        yield made


async def create(world: World, count: int, *, gateway: Gateway | None = None) -> Reply:
    headers = {"x-stainless-retry-count": str(count)}
    return await world.send("POST", "v1/videos", secret=world.secret, body=PROMPT, headers=headers, gateway=gateway)


@pytest.mark.world(limits={"max_parallel_requests": 1})
async def test_the_official_clients_retry_of_a_refusal_gets_no_other_requests_video(world: World) -> None:
    """Two equal creates at one at a time: the second is refused as often as it asks, and has a
    video of its own once the first has ended.
    """
    wire = Wire(world)
    async for each in client(world, wire):
        first = await each.videos.create(prompt="A cat", seconds="4")
        with pytest.raises(openai.RateLimitError):
            await each.videos.create(prompt="A cat", seconds="4")
        assert [reply.status for reply in wire.said] == [200, 429, 429, 429]
        await world.gateway.lifecycle.finish(first.id, None)
        second = await each.videos.create(prompt="A cat", seconds="4")
        assert second.id != first.id


@pytest.mark.world(limits={"max_parallel_requests": 1})
async def test_a_retry_of_a_refusal_is_a_new_request_on_any_instance(world: World) -> None:
    """The first video ends between the refusal and its retry, which another instance gets; that
    one's own retries are answered with the new video.
    """
    first = (await create(world, 0)).json["id"]
    refused = await create(world, 0)
    assert (refused.status, refused.code) == (429, "too_many_running")
    world.clock.skip(float(refused.headers["retry-after"]))
    await world.gateway.lifecycle.finish(first, None)
    other = world.another()
    made = await create(world, 1, gateway=other)
    assert (made.status, "idempotent-replayed" in made.headers) == (200, False)
    assert made.json["id"] != first
    assert (await create(world, 2)).json["id"] == made.json["id"]


@pytest.mark.world(limits={"rpm_limit": 1})
async def test_a_retry_before_its_time_is_that_of_a_lost_answer(world: World) -> None:
    """Of two equal requests one was refused and one has lost its answer: a refused client comes
    back when it was told to, so that an earlier retry is the other's.
    """
    world.clock.skip(20)
    first = (await create(world, 0)).json["id"]
    refused = await create(world, 0)
    assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
    assert (await create(world, 1)).json["id"] == first
    world.clock.skip(float(refused.headers["retry-after"]))
    assert (await create(world, 1)).json["id"] != first


@pytest.mark.world(limits={"max_budget": 400_000})
async def test_a_retry_of_a_create_that_the_budget_refused_is_refused(world: World) -> None:
    """The official client does not retry it; one that does is told the same again."""
    assert (await create(world, 0)).status == 200
    assert [(await create(world, count)).code for count in (0, 1, 2)] == ["budget_exceeded"] * 3


@pytest.mark.world(limits={"max_parallel_requests": 1})
async def test_a_client_that_is_refused_all_day_leaves_little_behind(world: World) -> None:
    """Refusals of one kind cost no more writes after the first few."""
    await create(world, 0)
    for _ in range(40):
        assert (await create(world, 0)).status == 429
    written = [key_of(each) for _, writes in world.faults.commits for each in writes]
    assert sum(key.startswith("once_r") for key in written) == 8
    rows = [row async for row in world.gateway.tables.gateway.beginning_with(world.owner, "once_r")]
    assert len(rows) == 1


@pytest.mark.parametrize("lost", [1, 2])
async def test_the_official_client_gets_its_video_after_its_own_longest_waits(world: World, lost: int) -> None:
    """It waits ten minutes for an answer and asks three times: one video, which the last try is
    answered with.
    """
    wire = Wire(world, lost)
    async for each in client(world, wire):
        began = world.clock.now()
        video = await each.videos.create(prompt="A cat", seconds="4")
        assert world.clock.now() - began >= timedelta(seconds=600 * lost)
        assert {reply.json["id"] for reply in wire.said} == {video.id}
        assert (await world.account()).running == 1


REFUSALS = st.lists(
    st.builds(
        Refusal,
        ask=st.sampled_from("ab"),
        number=st.integers(0, 3),
        due=st.floats(-300, 300).map(lambda each: NOW.timestamp() + each),
    ),
    max_size=80,
)


@given(REFUSALS, st.sampled_from("ab"), st.integers(0, 4))
def test_a_followed_refusal_is_an_equal_earlier_try_that_is_due(known: list[Refusal], ask: str, number: int) -> None:
    """Whatever else is remembered; a first try follows none."""
    found = refusals.followed(known, ask, number, NOW)
    assert found is None or (found.ask == ask and found.number < number and found.due <= NOW.timestamp() + 1)
    fitting = [each for each in known if each.ask == ask and each.number < number and each.due <= NOW.timestamp() + 1]
    assert (found is None) == (not fitting)


@given(REFUSALS, st.floats(0, 7200) | st.none())
def test_a_row_of_refusals_is_bounded(known: list[Refusal], retry_after: float | None) -> None:
    """64 of them, and 8 of equal tries; only those are kept whose retry may still come."""
    noted: list[Refusal] = []
    for each in known:
        noted = refusals.added(noted, each.ask, each.number, retry_after, NOW)
    assert len(noted) <= 64
    assert all(sum(each == other for other in noted) <= 8 for each in noted)
    later = NOW + timedelta(seconds=181)
    write = refusals.write("once_r0", None, noted, NOW)
    assert isinstance(write, Insert)
    assert refusals.read(Row(write.key, dict(write.values), ""), later) == []
