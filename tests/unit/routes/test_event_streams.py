"""Events of videos as they come, and calls that wait for one: told on whatever instance the change
was made, to nobody else, for no longer than they may.
"""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from shared.config.browsers import Waiting
from shared.media.video import Video
from shared.routes import paths
from shared.routes.calls import Reply, Request, respond
from shared.videos import following
from tests.fakes.world import World

pytestmark = pytest.mark.anyio


@dataclass
class Told:
    """One event."""

    name: str
    id: str
    data: dict[str, Any]


class Stream:
    """A caller of a stream, which may go away."""

    def __init__(self, world: World, path: str, last: str | None = None) -> None:
        self.here = True
        headers = {"authorization": f"Bearer {world.secret}", **({"last-event-id": last} if last else {})}
        self._request = Request("GET", headers, parts={"path": path}, connected=lambda: self.here)
        self._world = world
        self._left: list[str] = []

    async def open(self) -> Reply:
        reply = await respond(self._request, paths.other_path, gateway=self._world.gateway)
        if not isinstance(reply.body, bytes):
            self._pieces = reply.body
            assert await anext(reply.body) == b"retry: 1000\n\n"
        return reply

    async def text(self) -> str | None:
        """The next piece; None at the end."""
        piece = await anext(self._pieces, None)
        return None if piece is None else piece.decode()

    async def next(self) -> Told | None:
        """The next event, whatever comments come before it."""
        while not self._left and (text := await self.text()) is not None:
            self._left = [event for event in text.split("\n\n") if event and not event.startswith(":")]
        if not self._left:
            return None
        lines = dict(line.split(": ", 1) for line in self._left.pop(0).split("\n"))
        return Told(lines["event"], lines.get("id", ""), json.loads(lines["data"]))

    async def close(self) -> None:
        assert isinstance(self._pieces, AsyncIterator)
        await self._pieces.aclose()  # type: ignore[attr-defined]


async def opened(world: World, path: str, last: str | None = None) -> Stream:
    stream = Stream(world, path, last)
    reply = await stream.open()
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8"), reply.body
    return stream


def events_of(video: Video) -> str:
    return f"v1/videos/{video.id}/events"


async def test_a_video_is_told_as_it_is_and_at_every_change(world: World) -> None:
    """By another instance too. The stream ends with the video."""
    video = await world.start()
    stream = await opened(world, events_of(video))
    first = await stream.next()
    assert first is not None and (first.name, first.data["status"]) == ("video.queued", "queued")
    await world.submitted(video.id)
    world.upstream.run(progress=50)
    await world.another().rendering.check(video.id)
    second = await stream.next()
    assert second is not None and (second.name, second.data["progress"]) == ("video.in_progress", 50)
    world.upstream.end()
    await world.live(video.id)
    last = await stream.next()
    assert last is not None and (last.name, last.data["id"]) == ("video.completed", video.id)
    assert await stream.next() is None
    assert (await Stream(world, events_of(video), last.id).open()).status == 204  # a browser does not come back then


async def test_what_a_caller_knows_is_not_told_again(world: World) -> None:
    """It says so with `Last-Event-ID`; words that are not ours are no reason to refuse it."""
    video = await world.start()
    first = await (await opened(world, events_of(video), "nonsense")).next()
    assert first is not None
    stream = await opened(world, events_of(video), first.id)
    await world.gateway.lifecycle.delete(video.id)
    told = await stream.next()
    assert told is not None and (told.name, told.data["deleted"]) == ("video.deleted", True)
    assert await stream.next() is None


@pytest.mark.world(knobs={"waiting": Waiting(longest_seconds=50)})
async def test_a_quiet_stream_speaks_every_15_seconds_and_ends_in_time(world: World) -> None:
    """Before the platform ends it, in the middle of something."""
    video = await world.start()
    stream, begun = await opened(world, events_of(video)), world.clock.now()
    await stream.next()
    comments = 0
    while (text := await stream.text()) is not None:
        assert text == ": nothing new\n\n"
        comments += 1
        assert (world.clock.now() - begun).total_seconds() == pytest.approx(15 * comments, abs=2)
    assert comments == 3
    assert (world.clock.now() - begun).total_seconds() == pytest.approx(50, abs=1)


async def test_a_key_is_told_of_all_its_videos_and_no_others(world: World) -> None:
    """New, changed and deleted ones, from now on."""
    old = await world.start()
    stream = await opened(world, "v1/videos/events")
    other = await world.gateway.keys.issue(await world.account())
    await world.gateway.lifecycle.start(world.request(prompt="Another's"), other.key_id)
    made = await world.start(prompt="A dog")
    told = await stream.next()
    assert told is not None and (told.name, told.data["id"]) == ("video.queued", made.id)
    await world.gateway.lifecycle.delete(old.id)
    told = await stream.next()
    assert told is not None and (told.name, told.data["id"]) == ("video.deleted", old.id)


async def test_who_comes_back_is_told_what_it_has_missed(world: World) -> None:
    """What came to its status after the last event; nothing of an hour before."""
    await world.start(prompt="Long ago")
    world.clock.skip(3600)
    stream = await opened(world, "v1/videos/events")
    first = await world.start(prompt="One")
    told = await stream.next()
    await stream.close()
    missed = await world.start(prompt="Two")
    assert told is not None
    again = await opened(world, "v1/videos/events", told.id)
    seen = {event.data["id"] for _ in range(2) if (event := await again.next())}
    assert seen == {first.id, missed.id}  # events of the last minute may come twice
    assert await again.text() == ": nothing new\n\n"


async def test_changes_come_one_by_one_and_stop_with_their_caller(world: World) -> None:
    """Five hundred long prompts are never held at once. Who was cut off hears again what it may not
    have heard; after a long absence nothing is made up for.
    """
    began = f"{world.clock.now().timestamp() * 1000:.0f}.queued.0"
    made = []
    for number in range(3):
        world.clock.skip(1)
        made.append(await world.start(prompt=f"{number}"))
    world.clock.skip(297)
    stream = await opened(world, "v1/videos/events", began)
    told = [await stream.next(), await stream.next()]
    assert not stream._left  # of each piece
    assert [each.data["id"] for each in told if each] == [video.id for video in made[:2]]
    stream.here = False
    assert await stream.next() is None
    assert told[1]
    again = await opened(world, "v1/videos/events", told[1].id)
    heard = [event for _ in made if (event := await again.next())]
    assert [event.data["id"] for event in heard] == [video.id for video in made]
    known = await opened(world, "v1/videos/events", heard[-1].id)
    assert await known.text() == ": nothing new\n\n"
    world.clock.skip(301)
    late = await opened(world, "v1/videos/events", began)
    assert await late.text() == ": nothing new\n\n"


async def test_what_is_made_is_told_however_long_the_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest begin first, with newer ones behind them. That one has ended is no deletion."""
    monkeypatch.setattr(following, "MOST_FOLLOWED", 2)
    first, second = [await world.start(prompt="First"), await world.start(prompt="Second")]
    world.clock.skip(1)
    for prompt in ("Third", "Fourth"):
        await world.start(prompt=prompt)
    stream = await opened(world, "v1/videos/events")
    await world.submitted(first.id)
    world.upstream.run(progress=50)
    await world.gateway.rendering.check(first.id)
    told = await stream.next()
    assert told is not None and (told.name, told.data["id"]) == ("video.in_progress", first.id)
    world.upstream.end()
    await world.live(first.id)
    told = await stream.next()
    assert told is not None and (told.name, told.data["id"]) == ("video.completed", first.id)
    await world.gateway.lifecycle.delete(second.id)
    told = await stream.next()
    assert told is not None and (told.name, told.data["id"]) == ("video.deleted", second.id)


async def test_events_is_no_video(world: World) -> None:
    """The path of a key's stream is never looked up as an id, and another's video is a 404."""
    assert paths.find("GET", "v1/videos/events").parts == {}
    video = await world.start()
    other = await world.gateway.keys.issue(await world.account())
    reply = await world.send("GET", events_of(video), secret=other.secret)
    assert (reply.status, reply.code) == (404, "video_not_found")


@pytest.mark.parametrize(("change", "code"), [({"blocked": True}, "key_blocked"), ({"deleted": True}, "invalid_api_key")])
async def test_a_key_that_may_no_longer_ask_hears_no_more(world: World, change: dict[str, bool], code: str) -> None:
    """Within the seconds for which an instance remembers a key."""
    video = await world.start()
    stream = await opened(world, events_of(video))
    await stream.next()
    await world.another().keys.update(world.owner, change)
    told = await stream.next()
    assert told is not None and (told.name, told.data["error"]["code"]) == ("error", code)
    assert await stream.next() is None
    assert not world.gateway.places._taken


async def test_a_caller_that_goes_away_frees_its_place(world: World) -> None:
    """Within a second where it says nothing, at once where its connection is closed; also where the
    answer was never sent.
    """
    video = await world.start()
    stream = await opened(world, events_of(video))
    await stream.next()
    assert world.gateway.places._taken.total() == 1
    stream.here = False
    before = world.clock.now()
    assert await stream.next() is None
    assert (world.clock.now() - before).total_seconds() <= 1
    assert not world.gateway.places._taken
    await (await opened(world, events_of(video))).close()
    assert not world.gateway.places._taken
    unsent = await respond(Stream(world, events_of(video))._request, paths.other_path, gateway=world.gateway)
    assert world.gateway.places._taken.total() == 1
    del unsent
    gc.collect()
    for _ in range(10):  # the loop closes what nobody holds, soon
        await asyncio.sleep(0)
    assert not world.gateway.places._taken


@pytest.mark.world(knobs={"waiting": Waiting(max_calls=2, max_calls_per_key=1)})
async def test_no_more_calls_wait_than_the_operator_allows(world: World) -> None:
    """A stream is refused; a call with `?wait=` is answered at once."""
    video = await world.start()
    held = await opened(world, "v1/videos/events")
    refused = await Stream(world, events_of(video)).open()
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (429, "too_many_waiting")  # type: ignore[arg-type]
    assert refused.headers["retry-after"] == "5"
    before = world.clock.now()
    assert (await world.send("GET", f"v1/videos/{video.id}", secret=world.secret, query={"wait": "30"})).status == 200
    assert world.clock.now() == before
    with world.gateway.places.taken("key_1"):
        full = await world.send("GET", events_of(video))
    assert (full.status, full.code) == (503, "waiting_room_full")
    await held.close()
    assert (await Stream(world, events_of(video)).open()).status == 200


@pytest.mark.world(knobs={"waiting": Waiting(max_calls=0)})
async def test_the_operator_may_let_nobody_wait(world: World) -> None:
    """Streams are not there then."""
    video = await world.start()
    reply = await world.send("GET", events_of(video), secret=world.secret)
    assert (reply.status, reply.code) == (404, "waiting_disabled")
    reply = await world.send("GET", f"v1/videos/{video.id}", secret=world.secret, query={"wait": "30"})
    assert reply.status == 200


def meanwhile(world: World, patch: pytest.MonkeyPatch, at: float, happens: Callable[[], Awaitable[Any]]) -> None:
    """Have something happen once so many seconds have passed."""
    until, sleep = world.clock.now().timestamp() + at, world.clock.sleep
    left = [happens]

    async def sleeping(seconds: float) -> None:
        await sleep(seconds)
        if left and world.clock.now().timestamp() >= until:
            await left.pop()()

    patch.setattr(world.clock, "sleep", sleeping)


async def test_a_call_may_wait_for_a_change(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is answered a second or so after the change, or with the same video when its time is
    over.
    """
    video = await world.start()
    asked = world.clock.now()

    async def wait() -> tuple[str, float]:
        reply = await world.send("GET", f"v1/videos/{video.id}", secret=world.secret, query={"wait": "30"})
        return reply.json["status"], (world.clock.now() - asked).total_seconds()

    assert await wait() == ("queued", 30)
    asked = world.clock.now()
    await world.submitted(video.id)
    world.upstream.end()
    meanwhile(world, monkeypatch, 10, lambda: world.live(video.id))
    status, seconds = await wait()
    assert status in ("in_progress", "completed") and 10 <= seconds <= 13
    await world.live(video.id)
    asked = world.clock.now()
    assert await wait() == ("completed", 0)


async def test_a_video_that_is_deleted_while_it_is_waited_for_is_a_404(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for everybody who asks then."""
    video = await world.start()
    meanwhile(world, monkeypatch, 3, lambda: world.gateway.lifecycle.delete(video.id))
    reply = await world.send("GET", f"v1/videos/{video.id}", secret=world.secret, query={"wait": "30"})
    assert (reply.status, reply.code) == (404, "video_not_found")


@pytest.mark.parametrize("wait", ["-1", "soon", "1e9", "nan", "", "٣"])
async def test_a_wait_that_is_no_number_is_refused(wait: str, world: World) -> None:
    """By its name."""
    video = await world.start()
    reply = await world.send("GET", f"v1/videos/{video.id}", secret=world.secret, query={"wait": wait})
    assert (reply.status, reply.json["error"]["param"]) == (400, "wait")
