"""What those who wait for a change are told of it, and what their looks cost."""

import asyncio
from datetime import timedelta

import pytest

from shared.media.video import new_id
from shared.videos.following import MOST_FOLLOWED, Follower, Subject, View, Views
from tests.fakes.clock import SkippingClock

pytestmark = pytest.mark.anyio

CLOCK = SkippingClock()
QUEUED = View("queued", 0, CLOCK.now())
DONE = View("completed", 100, CLOCK.now())
RUNNING = View("in_progress", 40, CLOCK.now())


class Readings:
    """A subject with readings that a test sets, counted."""

    def __init__(self, views: Views) -> None:
        self.clock = SkippingClock()
        self.views = views
        self.count = 0
        self.subject = Subject(self._read, self.clock)

    async def _read(self) -> Views:
        self.count += 1
        await asyncio.sleep(0)
        return self.views

    def follower(self, known: Views) -> Follower:
        return Follower(self.subject, self.clock, known)


async def test_all_who_wait_on_an_instance_share_a_reading() -> None:
    """A hundred tabs cost what one does."""
    readings = Readings({"a": QUEUED})
    followers = [readings.follower({"a": QUEUED}) for _ in range(100)]
    for _ in range(5):
        assert not any(await asyncio.gather(*(each.changes() for each in followers)))
        readings.clock.skip(1)
    assert readings.count == 5


async def test_every_follower_is_told_once() -> None:
    """Each by what it knew itself."""
    readings = Readings({"a": RUNNING})
    early, late = readings.follower({"a": QUEUED}), readings.follower({"a": RUNNING})
    assert (await early.changes(), await late.changes()) == ({"a": RUNNING}, {})
    readings.clock.skip(1)
    assert await early.changes() == {}


async def test_looks_become_rarer_where_nothing_happens() -> None:
    """Every second at first, every five seconds in a long queue; a change is seen in five seconds
    at most, and the next one in a second again.
    """
    readings = Readings({"a": QUEUED})
    follower = readings.follower({"a": QUEUED})
    for _ in range(200):
        await follower.changes()
        readings.clock.skip(1)
    assert 45 <= readings.count <= 70
    readings.views, before = {"a": RUNNING}, readings.count
    waits = 0
    while not await follower.changes():
        readings.clock.skip(1)
        waits += 1
    assert waits <= 5
    readings.clock.skip(1)
    await follower.changes()
    assert readings.count == before + 2


async def test_a_video_that_is_missing_was_deleted() -> None:
    """Of the newest videos of a key. One that newer ones have pushed out was not, but whoever saw
    it unfinished is told of it.
    """
    ids = [new_id("key_00000001", CLOCK.now() - timedelta(seconds=age)) for age in range(MOST_FOLLOWED + 1)]
    known = dict.fromkeys(ids[1:], DONE)
    readings = Readings(dict.fromkeys(ids[2:], DONE))
    assert await readings.follower(known).changes() == {ids[1]: None}
    readings = Readings(dict.fromkeys(ids[:-1], DONE))
    assert await readings.follower(known).changes() == {ids[0]: DONE}
    readings = Readings(dict.fromkeys(ids[:-1], DONE))
    assert await readings.follower({**known, ids[-1]: QUEUED}).changes() == {ids[0]: DONE, ids[-1]: None}


async def test_a_long_list_is_read_less_often() -> None:
    """Five hundred rows every five seconds."""
    readings = Readings({f"{number}": QUEUED for number in range(MOST_FOLLOWED)})
    for _ in range(20):
        await readings.subject.views()
        readings.clock.skip(1)
    assert readings.count == 4
