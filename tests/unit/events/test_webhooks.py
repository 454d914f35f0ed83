"""Webhooks: the official client manages endpoints and unwraps what they get."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise, product
from typing import Any

import httpx
import httpx2
import msgspec
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI

from shared.accounts.account import Account
from shared.accounts.commits import Commits
from shared.errors import StorageUnavailable
from shared.events.deliveries import MAIL
from shared.events.destination import Receipt
from shared.events.post import Answer, Letter, Post
from shared.events.record import record_of
from shared.events.webhooks.addresses import Addresses
from shared.events.webhooks.endpoints import Endpoint, Endpoints
from shared.events.webhooks.history import Attempt
from shared.events.webhooks.signing import secret_of
from shared.events.webhooks.webhooks import PAUSES
from shared.media.video import Video
from shared.storage.event_marks import marks_of
from shared.storage.tables import Delete, Write
from tests.fakes.asking import Reply
from tests.fakes.table import key_of
from tests.fakes.world import MASTER, World

pytestmark = pytest.mark.anyio

URL, PRIVATE = "https://93.184.215.14/hook", "https://10.0.0.4/hook"
UNWRAPPED = OpenAI(api_key="unused", base_url="http://127.0.0.1:1").webhooks
HOUR = 3600.0


@dataclass
class Receiver:
    """A server that keeps what it is sent, and answers `says`."""

    says: httpx.Response | Exception = field(default_factory=lambda: httpx.Response(200))
    requests: list[httpx.Request] = field(default_factory=list)

    def answer(self, request: httpx.Request) -> httpx.Response | None:
        if not request.url.path.startswith("/hook"):
            return None
        self.requests.append(request)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    def events(self, secret: str) -> list[tuple[str, str, str]]:
        """Id, type and video of what was sent with a valid signature."""
        found = []
        for request in self.requests:
            told: Any = json.loads(request.content)
            UNWRAPPED.verify_signature(request.content, dict(request.headers), secret=secret, tolerance=10**9)
            assert told["id"] == request.headers["webhook-id"]
            assert len(request.content) < 20_000
            found.append((told["id"], told["type"], told["data"]["id"]))
        return found


@pytest.fixture
def receiver(world: World) -> Receiver:
    found = Receiver()
    world.upstream.before(found.answer)
    return found


@asynccontextmanager
async def official(world: World, secret: str | None = None) -> AsyncIterator[AsyncOpenAI]:
    """The official client with the key's secret, as it stands."""

    async def answer(request: httpx2.Request) -> httpx2.Response:
        reply = await world.send(
            request.method,
            request.url.path,
            secret=secret or world.secret,
            body=request.content,
            query=dict(request.url.params),
            headers=dict(request.headers),
        )
        return httpx2.Response(reply.status, content=reply.body, headers={"content-type": "application/json"})

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as http:
        yield AsyncOpenAI(
            api_key=secret or world.secret, base_url="https://gateway.example/v1", http_client=http, max_retries=0
        )


async def ended(world: World, *, status: str = "completed", **fields: Any) -> Video:
    video = await world.start(**fields)
    await world.submitted(video.id)
    world.upstream.end(status, {"code": "x", "message": "No."} if status == "failed" else None)
    return await world.live(video.id)


async def test_the_official_client_manages_endpoints(world: World, receiver: Receiver) -> None:
    async with official(world) as client:
        made = await client.webhooks.create(name="mine", url=URL, event_types=["video.completed"])
        assert (made.object, made.name, made.url, made.event_types) == ("webhook_endpoint", "mine", URL, ["video.completed"])
        assert made.signing_secret.startswith("whsec_")
        found = await client.webhooks.retrieve(made.id)
        assert "signing_secret" not in found.model_extra  # type: ignore[operator]
        assert found.signing_secret_hint == f"whsec_...{made.signing_secret[-4:]}"
        changed = await client.webhooks.update(made.id, event_types=["video.failed"])
        assert (changed.event_types, changed.url) == (["video.failed"], URL)
        assert [each.id async for each in client.webhooks.list()] == [made.id]
        assert "video.completed" in (await client.webhooks.event_types.list()).data
        tested = await client.webhooks.test(made.id, event_type="video.failed")
        assert (tested.status_code, tested.success, tested.webhook_endpoint_id) == (200, True, made.id)
        assert receiver.events(made.signing_secret)[0][1] == "video.failed"
        assert (await client.webhooks.delete(made.id)).deleted
        with pytest.raises(NotFoundError):
            await client.webhooks.retrieve(made.id)


async def test_endpoints_are_listed_in_pages(world: World) -> None:
    async with official(world) as client:
        made = [await client.webhooks.create(name=str(n), url=URL, event_types=["video.failed"]) for n in range(5)]
        page = await client.webhooks.list(limit=2)
        assert ([each.id for each in page.data], page.has_more) == ([each.id for each in made[:2]], True)
        assert [each.id async for each in client.webhooks.list(limit=2)] == [each.id for each in made]


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_an_endpoint_is_told_of_the_end_it_asked_for(world: World, receiver: Receiver, status: str) -> None:
    """Once, signed, and nothing of the other end or of the start."""
    async with official(world) as client:
        made = await client.webhooks.create(name="mine", url=URL, event_types=[f"video.{status}"])  # type: ignore[list-item]
        await client.webhooks.create(name="other", url=f"{URL}/other", event_types=["video.failed", "video.completed"])
    video = await ended(world, status=status)
    await world.delivered()
    assert [request.url.path for request in receiver.requests].count("/hook/other") == 1
    receiver.requests = [request for request in receiver.requests if request.url.path == "/hook"]
    assert receiver.events(made.signing_secret) == [(f"evt_{video.id[6:]}_ended", f"video.{status}", video.id)]


async def test_a_start_is_told_where_it_was_asked_for(world: World, receiver: Receiver) -> None:
    async with official(world) as client:
        made = await client.webhooks.create(name="m", url=URL, event_types=["video.queued", "video.failed"])  # type: ignore[list-item]
    video = await world.start()
    await world.delivered()
    assert receiver.events(made.signing_secret) == [(f"evt_{video.id[6:]}_started", "video.queued", video.id)]


async def test_a_job_that_runs_is_told_of_where_it_was_asked_for(world: World, receiver: Receiver) -> None:
    """Once, however often it is looked at, and in the order of what happened; not to the other."""
    wanted = ["video.queued", "video.in_progress", "video.completed"]
    async with official(world) as client:
        made = await client.webhooks.create(name="m", url=URL, event_types=wanted)  # type: ignore[arg-type]
        await client.webhooks.create(name="o", url=f"{URL}/other", event_types=["video.failed"])
    video = await world.start()
    await world.delivered()  # events that are due together are sent at once, and may overtake each other
    await world.submitted(video.id)
    world.upstream.run(20)
    world.clock.skip(60)
    seen = (await world.gateway.rendering.check(video.id)).get("seen")
    world.upstream.run(40)
    await world.gateway.rendering.check(video.id, seen)
    await world.delivered()
    world.upstream.end()
    await world.live(video.id)
    await world.delivered()
    assert [told for _, told, _ in receiver.events(made.signing_secret)] == wanted


async def cut_off_while_it_is_told(world: World, at: Callable[[Write, str], bool]) -> tuple[str, str, str]:
    """A job is seen to run, and storage fails `at` such a write while its key's endpoint is told of
    it. Returns the endpoint, its secret and the video.
    """
    async with official(world) as client:
        made = await client.webhooks.create(name="m", url=URL, event_types=["video.in_progress"])  # type: ignore[list-item]
    video = await world.start()
    await world.submitted(video.id)
    world.upstream.run(20)
    world.clock.skip(60)

    def fail(writes: Sequence[Write]) -> None:
        if any(at(write, made.id) for write in writes):
            raise StorageUnavailable("no")

    world.faults.before = fail
    with pytest.raises(StorageUnavailable):
        await world.gateway.rendering.check(video.id)
    world.faults.before = lambda writes: None
    return made.id, made.signing_secret, video.id


async def test_a_running_job_that_could_not_be_told_of_is_told_of_with_the_end(world: World, receiver: Receiver) -> None:
    _, secret, video_id = await cut_off_while_it_is_told(world, lambda write, endpoint: key_of(write).endswith(endpoint))
    world.upstream.end()
    await world.live(video_id)
    await world.delivered()
    assert receiver.events(secret) == [(f"evt_{video_id[6:]}_running", "video.in_progress", video_id)]


async def test_an_untold_event_does_not_outlive_its_endpoint(world: World, receiver: Receiver) -> None:
    """The app dies while it tells, and its caller deletes the endpoint before the end."""
    endpoint, _, video_id = await cut_off_while_it_is_told(
        world, lambda write, _: isinstance(write, Delete) and key_of(write).startswith("event_")
    )
    async with official(world) as client:
        await client.webhooks.delete(endpoint)
    world.upstream.end()
    await world.live(video_id)
    assert not await marks_of(world.gateway.tables.gateway, video_id)


async def test_a_key_without_webhooks_costs_nothing(world: World, receiver: Receiver) -> None:
    """No row is written for it, and other keys' endpoints are told nothing."""
    other = await world.gateway.keys.issue(await world.account())
    async with official(world, other.secret) as client:
        await client.webhooks.create(name="m", url=URL, event_types=["video.completed"])
    await ended(world)
    await world.delivered()
    assert not receiver.requests
    assert not [row async for row in world.gateway.tables.gateway.beginning_with(world.owner, "event_")]


async def test_tries_keep_to_the_standards_times(world: World, receiver: Receiver) -> None:
    """Ten of them with one id; then the operator finds it."""
    assert list(PAUSES) == [5, 300, 1800, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR]
    async with official(world) as client:
        await client.webhooks.create(name="m", url=URL, event_types=["video.completed"])
    receiver.says = httpx.Response(503)
    await ended(world)
    await world.delivered(sum(PAUSES) + 60)
    at = [int(request.headers["webhook-timestamp"]) for request in receiver.requests]
    gaps = [later - one for one, later in pairwise(at)]
    assert len(at) == 10
    assert all(pause <= gap <= pause + 10 for pause, gap in zip(PAUSES, gaps, strict=True)), gaps
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert [each.destination async for each in world.gateway.couriers.deliveries.undelivered()] == ["webhooks"]


@pytest.mark.parametrize(
    "says",
    [
        httpx.ConnectError("down"),
        httpx.ReadTimeout("slow"),
        httpx.Response(302, headers={"location": URL}),
        httpx.Response(404),
    ],
)
async def test_a_failed_try_is_made_again(world: World, receiver: Receiver, says: httpx.Response | Exception) -> None:
    """A redirect is a failure, and is not followed."""
    async with official(world) as client:
        made = await client.webhooks.create(name="m", url=URL, event_types=["video.completed"])
    receiver.says = says
    await ended(world)
    await world.delivered(1)
    assert len(receiver.requests) == 1
    receiver.says = httpx.Response(204)
    await world.delivered(10)
    assert len(set(receiver.events(made.signing_secret))) == 1
    assert len(receiver.requests) == 2


async def test_retry_after_is_kept_to(world: World, receiver: Receiver) -> None:
    async with official(world) as client:
        await client.webhooks.create(name="m", url=URL, event_types=["video.completed"])
    receiver.says = httpx.Response(429, headers={"retry-after": "600"})
    await ended(world)
    await world.delivered(700)
    first, second = (int(request.headers["webhook-timestamp"]) for request in receiver.requests)
    assert 600 <= second - first <= 610


async def test_a_slow_endpoint_holds_up_no_other(world: World, receiver: Receiver) -> None:
    """Hundreds of events wait for eight that answer nothing; another of the same key gets its event
    in the first batch, and one of another key too.
    """
    other = await world.gateway.keys.issue(await world.account())
    async with official(world) as client, official(world, other.secret) as stranger:
        slow = [await client.webhooks.create(name="slow", url=f"{URL}/slow", event_types=["video.completed"]) for _ in range(8)]
        for each, path in ((client, "quick"), (stranger, "other")):
            await each.webhooks.create(name=path, url=f"{URL}/{path}", event_types=["video.queued"])  # type: ignore[list-item]
    told = record_of("ended", await ended(world), prompts=False)
    await world.gateway.couriers.deliver("webhooks")
    for number, endpoint in product(range(20), slow):
        await world.gateway.couriers.deliveries.add("webhooks", msgspec.structs.replace(told, id=f"{number}"), endpoint.id)
    world.clock.skip(1)
    await world.start()
    await world.gateway.lifecycle.start(world.request(prompt="Another"), other.key_id)
    receiver.requests.clear()
    receiver.says = httpx.ReadTimeout("slow")
    await world.gateway.couriers.deliver("webhooks")
    asked = [request.url.path for request in receiver.requests]
    assert {path: asked.count(path) for path in asked} == {"/hook/slow": 38, "/hook/quick": 1, "/hook/other": 1}


async def test_an_event_that_cannot_be_sent_holds_up_no_other(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with it: the other is sent once, and it alone is tried again."""
    async with official(world) as client:
        made = [await client.webhooks.create(name="m", url=f"{URL}/{n}", event_types=["video.completed"]) for n in (1, 2)]
    pinned = Addresses.pinned

    async def resolve(addresses: Addresses, url: str, hosts: Sequence[str]) -> tuple[httpx.URL, httpx.URL]:
        return await pinned(addresses, url, hosts) if url != made[0].url else 1 / 0  # type: ignore[return-value]

    monkeypatch.setattr(Addresses, "pinned", resolve)
    await ended(world)
    await world.delivered(60)
    assert [request.url.path for request in receiver.requests] == ["/hook/2"]
    assert [row.values["to"] async for row in world.gateway.tables.gateway.scan(f"{MAIL}webhooks")] == [made[0].id]


async def test_an_endpoint_that_is_deleted_while_its_server_says_gone_is_dropped(world: World, receiver: Receiver) -> None:
    async with official(world) as client:
        made = await client.webhooks.create(name="m", url=URL, event_types=["video.completed"])
    await ended(world)
    found = await world.gateway.webhooks.endpoints.find(world.owner, made.id)
    receiver.says = httpx.Response(410)

    async def find(endpoints: Endpoints, owner: str, endpoint_id: str) -> Endpoint:
        await endpoints.remove(owner, endpoint_id)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Endpoints, "find", find)
        await world.delivered(60)
    assert len(receiver.requests) == 1
    assert not [row async for row in world.gateway.tables.gateway.scan(f"{MAIL}webhooks")]


@pytest.mark.parametrize("host", ["xn--strae-oqa.de", "xn--a.example"])
async def test_the_certificate_is_asked_for_by_the_name_that_was_given(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """However it reads when it is decoded."""

    async def pinned(addresses: Addresses, url: str, hosts: Sequence[str]) -> tuple[httpx.URL, httpx.URL]:
        return httpx.URL(url), httpx.URL(URL)

    monkeypatch.setattr(Addresses, "pinned", pinned)
    body = {"prompt": "A cat", "callback_url": f"https://{host}/hook"}
    video = (await world.send("POST", "/v1/videos", secret=world.secret, body=body)).json
    await world.submitted(video["id"])
    world.upstream.end()
    await world.live(video["id"])
    await world.delivered()
    (request,) = receiver.requests
    assert (request.headers["host"], request.extensions["sni_hostname"]) == (host, host)


async def test_an_operator_cannot_give_a_key_an_address_that_is_none(world: World) -> None:
    for url in ("https://x:y/", "https://a.example:99999/", "https://[", "http://a.example/"):
        refused = await world.send("POST", "/key/generate", body={"webhook_url": url})
        assert (refused.status, refused.json["error"]["param"]) == (400, "webhook_url"), url


async def test_a_key_tests_one_endpoint_at_a_time(world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that hang hold up nobody's events, and no other key's tests; the key may try again
    when its test has ended.
    """
    others = [await world.gateway.keys.issue(await world.account()) for _ in range(20)]
    keys = [world.secret, *(each.secret for each in others)]
    made = []
    for key in keys:
        async with official(world, key) as client:
            made.append(await client.webhooks.create(name="m", url=URL, event_types=["video.completed"]))
    hang, post = asyncio.Event(), Post.post
    asked = asyncio.Semaphore(0)

    async def posted(self: Post, letter: Letter) -> Answer:
        if b"evt_test_" in letter.body:
            asked.release()
            await hang.wait()
        return await post(self, letter)

    monkeypatch.setattr(Post, "post", posted)

    async def tested(number: int) -> Reply:
        path, body = f"/v1/webhook_endpoints/{made[number].id}/test", {"event_type": "video.completed"}
        return await world.send("POST", path, secret=keys[number], body=body)

    tests = [asyncio.create_task(tested(number)) for number in range(len(keys))]
    async with asyncio.timeout(120):  # only where they hold each other up
        for _ in keys:
            await asked.acquire()
        refused = await tested(0)
    assert (refused.status, refused.code) == (429, "webhook_test_running")
    await ended(world)
    await world.delivered()
    assert [request.headers["webhook-id"][-6:] for request in receiver.requests] == ["_ended"]
    hang.set()
    assert {reply.status for reply in await asyncio.gather(*tests)} == {200}
    assert (await tested(0)).status == 200


async def test_a_server_that_says_gone_gets_nothing_more(world: World, receiver: Receiver) -> None:
    """Until its owner changes it."""
    async with official(world) as client:
        made = await client.webhooks.create(name="m", url=URL, event_types=["video.completed"])
        receiver.says = httpx.Response(410)
        await ended(world)
        await world.delivered(HOUR)
        await ended(world)
        await world.delivered(HOUR)
        assert len(receiver.requests) == 1
        repeated = f"/v1/webhook_endpoints/{made.id}/deliveries/{receiver.requests[0].headers['webhook-id']}"
        assert (await world.send("POST", repeated, secret=world.secret)).code == "webhook_endpoint_disabled"
        assert (await client.webhooks.retrieve(made.id)).model_extra["disabled"] == "its server answered 410"  # type: ignore[index]
        await client.webhooks.update(made.id, url=f"{URL}/new")
    receiver.says = httpx.Response(200)
    await ended(world)
    await world.delivered()
    assert [request.url.path for request in receiver.requests] == ["/hook", "/hook/new"]


async def test_what_is_on_its_way_to_a_deleted_endpoint_is_dropped(world: World, receiver: Receiver) -> None:
    async with official(world) as client:
        made = await client.webhooks.create(name="m", url=URL, event_types=["video.completed"])
        receiver.says = httpx.Response(500)
        await ended(world)
        await world.delivered(1)
        await client.webhooks.delete(made.id)
    await world.delivered(HOUR)
    assert len(receiver.requests) == 1
    assert not [row async for row in world.gateway.tables.gateway.scan(f"{MAIL}webhooks")]
    assert not [each async for each in world.gateway.couriers.deliveries.undelivered()]


async def test_what_was_sent_to_an_endpoint_is_forgotten_with_it(world: World, receiver: Receiver) -> None:
    """Also what arrives while it is deleted: nobody could see it, or take it away."""
    async with official(world) as client:
        made = await client.webhooks.create(name="m", url=URL, event_types=["video.completed"])
        await ended(world)
        await world.delivered()
        history = world.gateway.webhooks.history
        (told,) = await history.of(world.owner, made.id)
        await client.webhooks.delete(made.id)
    assert await history.of_all(world.owner) == []
    await history.note(world.owner, made.id, [told])
    assert await history.of_all(world.owner) == []


async def test_a_try_reads_the_account_once(world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """For an endpoint, and for an address that is signed with a secret made of the key."""
    async with official(world) as client:
        await client.webhooks.create(name="m", url=URL, event_types=["video.completed"])
    await ended(world, callback_url=f"{URL}/own")
    read, account = [], Commits.account

    async def counted(commits: Commits, owner: str) -> Account | None:
        read.append(owner)
        return await account(commits, owner)

    monkeypatch.setattr(Commits, "account", counted)
    await world.gateway.couriers.deliver("webhooks")
    assert len(receiver.requests) == 2
    assert read == [world.owner] * 2


async def test_a_former_secret_signs_for_a_day(world: World, receiver: Receiver) -> None:
    """Where its owner wants that; otherwise it ends at once."""
    async with official(world) as client:
        made = await client.webhooks.create(name="m", url=URL, event_types=["video.completed"])
        rotated = await client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
        assert rotated.signing_secret != made.signing_secret
        await client.webhooks.test(made.id, event_type="video.completed")
        assert receiver.events(made.signing_secret)
        assert receiver.events(rotated.signing_secret)
        world.clock.skip(timedelta(hours=24).total_seconds())
        receiver.requests.clear()
        await client.webhooks.test(made.id, event_type="video.completed")
        assert len(receiver.requests[0].headers["webhook-signature"].split()) == 1
        assert receiver.events(rotated.signing_secret)
        last = await client.webhooks.rotate_secret(made.id)
        receiver.requests.clear()
        await client.webhooks.test(made.id, event_type="video.completed")
        assert len(receiver.requests[0].headers["webhook-signature"].split()) == 1
        assert receiver.events(last.signing_secret)


async def test_the_owner_sees_the_last_deliveries_and_repeats_one(world: World, receiver: Receiver) -> None:
    async with official(world) as client:
        made = await client.webhooks.create(name="m", url=URL, event_types=["video.completed"])
    path = f"/v1/webhook_endpoints/{made.id}/deliveries"
    receiver.says = httpx.Response(500)
    video = await ended(world)
    await world.delivered(1)
    (shown,) = (await world.send("GET", path, secret=world.secret)).json["data"]
    event_id = f"evt_{video.id[6:]}_ended"
    assert (shown["id"], shown["video_id"], shown["event_type"]) == (event_id, video.id, "video.completed")
    assert (shown["status_code"], shown["outcome"], shown["tries"]) == (500, "later", 1)
    receiver.says = httpx.Response(200)
    await world.delivered(10)
    receiver.requests.clear()
    assert (await world.send("POST", f"{path}/{event_id}", secret=world.secret)).status == 200
    await world.delivered()
    assert receiver.events(made.signing_secret) == [(event_id, "video.completed", video.id)]
    (shown,) = (await world.send("GET", path, secret=world.secret)).json["data"]
    assert (shown["status_code"], shown["outcome"]) == (200, "delivered")
    assert (await world.send("POST", f"{path}/evt_other", secret=world.secret)).code == "webhook_delivery_not_found"
    assert (await world.send("GET", path, secret=MASTER)).status == 404


async def test_an_event_that_is_repeated_while_it_waits_goes_on_once(world: World, receiver: Receiver) -> None:
    """Both fall due together, and neither is sent again and again: they would have one row."""
    async with official(world) as client:
        made = await client.webhooks.create(name="m", url=URL, event_types=["video.completed"])
    receiver.says = httpx.Response(503, headers={"retry-after": "3600"})
    video = await ended(world)
    await world.gateway.couriers.deliver("webhooks")
    world.clock.skip(10)
    path = f"/v1/webhook_endpoints/{made.id}/deliveries/evt_{video.id[6:]}_ended"
    assert (await world.send("POST", path, secret=world.secret)).status == 200
    await world.gateway.couriers.deliver("webhooks")
    world.clock.skip(HOUR)
    assert await world.gateway.couriers.deliver("webhooks") == HOUR
    assert len(receiver.requests) == 4
    assert len([row async for row in world.gateway.tables.gateway.scan(f"{MAIL}webhooks")]) == 1


async def test_an_event_that_arrives_by_one_of_two_deliveries_has_arrived(world: World) -> None:
    async with official(world) as client:
        made = await client.webhooks.create(name="m", url=URL, event_types=["video.completed"])
    told = record_of("ended", await ended(world), prompts=False)
    deliveries = world.gateway.couriers.deliveries
    await deliveries.add("webhooks", msgspec.structs.replace(told, time=told.time + timedelta(seconds=1)), made.id)
    world.clock.skip(2)
    first, second = await deliveries.due("webhooks")
    await deliveries.settle(world.gateway.webhooks, [Receipt(first, "later"), Receipt(second, "delivered")])
    assert await deliveries.wait("webhooks") is None


async def test_the_operator_sees_the_last_deliveries_of_every_key(world: World, receiver: Receiver) -> None:
    """Newest first, each with its key and its endpoint; a key sees none of it."""
    async with official(world) as client:
        made = [await client.webhooks.create(name=name, url=URL, event_types=["video.completed"]) for name in ("a", "b")]
    receiver.says = httpx.Response(200)
    videos = []
    for _ in range(2):
        videos.append((await ended(world)).id)
        await world.delivered()
        world.clock.skip(60)
    told = [each for each in (await world.send("GET", "events/deliveries")).json["data"] if each["key_id"] == world.owner]
    assert [each["video_id"] for each in told] == [videos[1], videos[1], videos[0], videos[0]]
    assert {(each["webhook_endpoint_id"], each["status_code"]) for each in told} == {(each.id, 200) for each in made}
    assert (await world.send("GET", "events/deliveries", secret=world.secret)).code == "master_key_required"


async def test_the_history_of_an_endpoint_is_bounded(world: World) -> None:
    history = world.gateway.webhooks.history
    async with official(world) as client:
        made = await client.webhooks.create(name="m", url=URL, event_types=["video.completed"])
    for number in range(30):
        told = {"record_id": "r", "type": "video.failed", "video_id": "v", "tries": 1, "outcome": "delivered"}
        attempt = msgspec.convert({**told, "event_id": f"evt_{number}", "tried_at": world.clock.now()}, Attempt)
        await history.note(world.owner, made.id, [attempt, attempt] if number == 29 else [attempt])
    assert [each.event_id for each in await history.of(world.owner, made.id)][:1] == ["evt_29"]
    assert len(await history.of(world.owner, made.id)) == 20


async def test_nothing_inside_is_reached(world: World, receiver: Receiver) -> None:
    """The address is looked at when it is sent to, whatever it was when it was given."""
    async with official(world) as client:
        made = await client.webhooks.create(name="m", url=PRIVATE, event_types=["video.completed"])
        reply = await world.send(
            "POST", f"/v1/webhook_endpoints/{made.id}/test", secret=world.secret, body={"event_type": "video.completed"}
        )
        assert (reply.status, reply.code) == (400, "webhook_unreachable")
        with pytest.raises(BadRequestError):
            await client.webhooks.create(name="m", url="http://a.example", event_types=["video.completed"])
    await ended(world)
    await world.delivered(HOUR)
    assert not receiver.requests


@pytest.mark.world(knobs={"webhook_networks": ["10.0.0.0/8"]})
async def test_the_operator_may_list_a_network(world: World, receiver: Receiver) -> None:
    async with official(world) as client:
        made = await client.webhooks.create(name="m", url=PRIVATE, event_types=["video.completed"])
        assert (await client.webhooks.test(made.id, event_type="video.completed")).status_code == 200


async def test_a_request_may_name_its_own_address(world: World, receiver: Receiver) -> None:
    """Signed by a secret that follows from the key; it is told of the end, and nobody sees it."""
    body = {"prompt": "A cat", "callback_url": f"{URL}?token=secret"}
    reply = await world.send("POST", "/v1/videos", secret=world.secret, body=body)
    assert "token=secret" not in reply.body.decode()
    await world.submitted(reply.json["id"])
    world.upstream.end()
    await world.live(reply.json["id"])
    await world.delivered()
    account = await world.account()
    assert receiver.events(secret_of(account.token or "")) == [
        (f"evt_{reply.json['id'][6:]}_ended", "video.completed", reply.json["id"])
    ]
    assert str(receiver.requests[0].url) == f"{URL}?token=secret"


async def test_a_key_may_have_an_address_for_all_its_videos(world: World, receiver: Receiver) -> None:
    """A request's own takes its place. The operator's answer has the secret that signs."""
    key = (await world.send("POST", "/key/generate", body={"webhook_url": URL})).json
    for body in ({"prompt": "A cat"}, {"prompt": "A dog", "callback_url": f"{URL}/own"}):
        made = (await world.send("POST", "/v1/videos", secret=key["key"], body=body)).json
        await world.submitted(made["id"])
        world.upstream.end()
        await world.live(made["id"])
    await world.delivered()
    assert {request.url.path for request in receiver.requests} == {"/hook", "/hook/own"}
    assert len(receiver.events(key["webhook_secret"])) == 2


async def test_a_key_may_be_limited_to_hosts(world: World) -> None:
    key = (await world.send("POST", "/key/generate", body={"callback_hosts": ["a.example"]})).json["key"]
    refused = await world.send("POST", "/v1/videos", secret=key, body={"prompt": "A cat", "callback_url": URL})
    assert (refused.status, refused.json["error"]["param"]) == (400, "callback_url")
    endpoint = {"name": "m", "url": URL, "event_types": ["video.failed"]}
    assert (await world.send("POST", "/v1/webhook_endpoints", secret=key, body=endpoint)).status == 400
    told = {"prompt": "A cat", "callback_url": "https://a.example/hook"}
    assert (await world.send("POST", "/v1/videos", secret=key, body=told)).status == 200


async def test_hosts_that_a_key_has_lost_get_nothing_more(world: World, receiver: Receiver) -> None:
    """Neither its endpoints nor what requests have named, which its owner sees; the operator's own
    address does.
    """
    key = (await world.send("POST", "/key/generate", body={"webhook_url": f"{URL}/operator"})).json["key"]
    async with official(world, key) as client:
        made = await client.webhooks.create(name="m", url=f"{URL}/endpoint", event_types=["video.completed"])
        for own in ({"callback_url": f"{URL}/own"}, {}):
            video = (await world.send("POST", "/v1/videos", secret=key, body={"prompt": "A cat", **own})).json
            await world.submitted(video["id"])
            world.upstream.end()
            await world.live(video["id"])
        changed = await world.send("POST", "/key/update", body={"key": key, "callback_hosts": ["a.example"]})
        assert changed.status == 200
        await world.delivered(60)
        assert [request.url.path for request in receiver.requests] == ["/hook/operator"]
        told = (await world.send("GET", f"/v1/webhook_endpoints/{made.id}/deliveries", secret=key)).json["data"]
        assert {each["reason"] for each in told} == {"it is on none of the key's hosts"}
        with pytest.raises(BadRequestError, match="hosts"):
            await client.webhooks.test(made.id, event_type="video.completed")


@pytest.mark.parametrize(
    "fields",
    [
        {"url": URL},
        {"name": "m"},
        {"name": "", "url": URL},
        {"name": "m", "url": URL, "event_types": ["batch.completed"]},
        {"name": "m", "url": URL, "event_types": []},
        {"name": "m", "url": URL, "enabled": True},
        {"name": "m", "url": 7},
    ],
)
async def test_a_wrong_endpoint_changes_nothing(world: World, fields: dict[str, Any]) -> None:
    assert (await world.send("POST", "/v1/webhook_endpoints", secret=world.secret, body=fields)).status == 400
    assert await world.gateway.webhooks.endpoints.of(world.owner) == []


async def test_nobody_sees_another_keys_endpoint(world: World) -> None:
    """Not even the operator, who has endpoints of its own."""
    async with official(world) as client:
        made = await client.webhooks.create(name="m", url=URL, event_types=["video.failed"])
    for method, path in (("GET", ""), ("POST", ""), ("DELETE", ""), ("POST", "/rotate_secret"), ("POST", "/test")):
        body = {"event_type": "video.failed"} if path == "/test" else {}
        reply = await world.send(method, f"/v1/webhook_endpoints/{made.id}{path}", secret=MASTER, body=body)
        assert (reply.status, reply.code) == (404, "webhook_endpoint_not_found"), (method, path)


async def test_a_key_has_a_bounded_number_of_endpoints(world: World) -> None:
    """Also when they are made at once."""
    body = {"name": "m", "url": URL, "event_types": ["video.failed"]}
    send = world.send
    replies = await asyncio.gather(*(send("POST", "/v1/webhook_endpoints", secret=world.secret, body=body) for _ in range(25)))
    assert sorted(reply.status for reply in replies) == [200] * 20 + [400] * 5
    assert len(await world.gateway.webhooks.endpoints.of(world.owner)) == 20
