"""Listings read what they show, in both orders; deleted videos are in neither."""

from collections.abc import Sequence

import msgspec
import pytest

from shared.media.video import Video, new_id, reversed_id
from shared.storage import video_store
from shared.storage.tables import Insert
from shared.storage.video_store import INDEXING, UPKEEP
from shared.upkeep.indexing import Indexing
from shared.videos.step_result import Failure
from tests.fakes.asking import Reply
from tests.fakes.world import World

# A budget gives the test tables of its own, as what is indexed holds for all keys together.
pytestmark = [pytest.mark.anyio, pytest.mark.world(budget=10**12)]


async def indexed(world: World) -> None:
    """Nothing of an earlier version is left."""
    await world.gateway.tables.gateway.commit(UPKEEP, Insert(INDEXING, {"done": True}))


async def ended(world: World, count: int) -> list[str]:
    ids = []
    for _ in range(count):
        video = await world.start()
        await world.gateway.lifecycle.finish(video.id, None)
        ids.append(video.id)
        world.clock.skip(1)
    return ids


async def listed(world: World, order: str, **query: str) -> list[str]:
    """The ids of all pages."""
    ids: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = await world.send("GET", "v1/videos", secret=world.secret, query={"order": order, "limit": "2", **query, **after})
        assert page.status == 200
        ids += [each["id"] for each in page.json["data"]]
        if not page.json["has_more"]:
            return ids
        after = {"after": page.json["last_id"]}


@pytest.mark.parametrize("ready", [True, False], ids=["indexed", "not yet indexed"])
async def test_both_orders_leave_nothing_out_and_show_no_deleted_ones(world: World, ready: bool) -> None:
    """Page by page, with deleted ones at both ends, in the middle and side by side."""
    if ready:
        await indexed(world)
    ids = await ended(world, 12)
    for number in (0, 1, 5, 6, 7, 11):
        await world.gateway.lifecycle.delete(ids[number])
    left = [each for number, each in enumerate(ids) if number not in (0, 1, 5, 6, 7, 11)]
    assert await listed(world, "asc") == left
    assert await listed(world, "desc") == left[::-1]
    assert len([each async for each in world.gateway.videos.of(world.owner)]) == 12, "none is lost"


QUERIES: Sequence[tuple[dict[str, str], set[int]]] = [
    ({"user": 'O\'Neil & "Ann"'}, {0, 3, 6}),
    ({"metadata[shot]": "1"}, {1, 4, 7}),
    ({"metadata[shot]": "1", "metadata[take]": "4"}, {4}),
    ({"status": "failed"}, {2, 3}),
    ({"status": "failed", "user": 'O\'Neil & "Ann"'}, {3}),
    ({"user": "nobody"}, set()),
]
"""Filters, and the numbers of the videos that they leave."""


@pytest.mark.parametrize("ready", [True, False], ids=["indexed", "not yet indexed"])
async def test_filters_leave_the_same_videos_in_both_orders(world: World, ready: bool) -> None:
    """Page by page, by status, user and metadata, and by several at once; never a deleted one."""
    if ready:
        await indexed(world)
    ids = []
    for number in range(9):
        metadata = {"shot": str(number % 3), "take": str(number)}
        video = await world.start(user='O\'Neil & "Ann"' if number % 3 == 0 else "else", metadata=metadata)
        failure: Failure | None = (
            {"code": "generation_failed", "message": "No.", "request_id": None} if number in (2, 3) else None
        )
        await world.gateway.lifecycle.finish(video.id, failure)
        ids.append(video.id)
        world.clock.skip(1)
    await world.gateway.lifecycle.delete(ids[8])
    for query, wanted in QUERIES:
        expected = [video_id for number, video_id in enumerate(ids) if number in wanted]
        assert await listed(world, "asc", **query) == expected, query
        assert await listed(world, "desc", **query) == expected[::-1], query


@pytest.mark.parametrize("ready", [True, False], ids=["indexed", "not yet indexed"])
async def test_a_page_looks_at_so_many_videos_and_says_where_it_stopped(
    world: World, ready: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be empty, and the next one goes on from there; the last one says that there are no
    more.
    """
    if ready:
        await indexed(world)
    monkeypatch.setattr(video_store, "_STEPS", (1, 2))
    ids = await ended(world, 8)
    for order, first in (("desc", ids[::-1]), ("asc", ids)):
        asked = {"order": order, "user": "nobody"}
        pages: list[Reply] = []
        while not pages or pages[-1].json["has_more"]:
            after = {"after": pages[-1].json["last_id"]} if pages else {}
            pages.append(await world.send("GET", "v1/videos", secret=world.secret, query={**asked, **after}))
        assert [page.json["data"] for page in pages] == [[], [], []]
        assert [page.json["last_id"] for page in pages] == [first[2], first[5], None]


async def test_videos_of_one_millisecond_are_all_listed(world: World) -> None:
    """Ids of one time are told apart by chance, in the one order and in the other."""
    await indexed(world)
    now = world.clock.now()
    ids = set()
    for _ in range(7):
        video = Video(id=new_id(world.owner, now), model="m", created_at=now, prompt="A cat", seconds=4, size="1x1", cost=1)
        ids.add((await world.gateway.ledger.admit(video)).video.id)
    for order in ("asc", "desc"):
        shown = await listed(world, order)
        assert (len(shown), set(shown)) == (7, ids)


async def test_a_deleted_video_is_still_found_and_changed(world: World) -> None:
    """Its orchestration sees it out where it lies now; a step repeated changes nothing."""
    (video_id,) = await ended(world, 1)
    await world.gateway.lifecycle.delete(video_id)
    await world.gateway.lifecycle.delete(video_id)
    await world.gateway.videos.hide(video_id)
    await world.gateway.videos.update(video_id, progress=100)
    video = await world.video(video_id)
    assert (video.deleted, video.status) == (True, "completed")


def test_the_reversed_id_turns_back() -> None:
    """And sorts the other way round."""
    older, newer = "video_0f0000000010000000100000000000aa", "video_0f0000000000000000100000000000aa"
    assert f"video_{reversed_id(f'video_{reversed_id(older)}')}" == older
    assert newer < older
    assert reversed_id(older) < reversed_id(newer)


async def test_videos_of_an_earlier_version_are_indexed_in_the_end(world: World) -> None:
    """Listed, counted and reported before, in between and after; a run that is cut off goes on
    where it was.
    """
    gateway = world.gateway
    await gateway.keys.update(world.owner, {"alias": "studio", "user_id": "anna"})
    old = [await earlier(world, n) for n in range(9)]
    shown = [each.id for each in old if not each.deleted]

    async def right() -> None:
        assert await listed(world, "asc") == shown
        assert await listed(world, "desc") == await listed(world, "desc", limit="4") == shown[::-1]
        lines = (await world.send("GET", "spend/logs")).json
        assert [line["video_id"] for line in lines] == [each.id for each in reversed(old)]
        sums = (await world.send("GET", "spend/report")).json
        assert (sums[0]["videos"], sums[0]["running"], sums[0]["completed"]) == (9, 3, 6)

    await right()
    await Indexing(gateway, 4).run()
    world.clock.skip(1900)
    for _ in range(3):
        await Indexing(gateway, 4).run()
        await right()
    assert await world.another().videos.indexed()
    lines = (await world.send("GET", "spend/logs", query={"user": "anna"})).json
    assert {line["key_alias"] for line in lines if line["status"] == "completed"} == {"studio"}
    for each in old:
        await gateway.lifecycle.delete(each.id)
    assert await listed(world, "asc") == await listed(world, "desc") == []
    assert len((await world.send("GET", "spend/logs")).json) == 9


async def earlier(world: World, number: int) -> Video:
    """A video as the version before wrote it: in its key's partition, and nowhere else."""
    now = world.clock.now()
    video = Video(id=new_id(world.owner, now), model="m", created_at=now, prompt="A cat", seconds=4, size="1x1", cost=1)
    if number % 3:
        video = msgspec.structs.replace(video, status="completed", finished_at=now, deleted=number % 3 == 2)
    await world.gateway.tables.gateway.commit(world.owner, Insert(video.id, video.to_row()))
    world.clock.skip(1)
    return video


async def test_counts_are_of_a_keys_own_listed_videos(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By status. Deleted ones are in none; those of others neither; and the oldest of very many."""
    made = []
    for _ in range(3):
        made.append((await world.start()).id)
        world.clock.skip(1)  # ids of one moment have no order
    completed, deleted, _ = made
    await world.gateway.lifecycle.finish(completed, None)
    await world.gateway.lifecycle.finish(deleted, None)
    await world.gateway.lifecycle.delete(deleted, None)
    told = (await world.send("GET", "v1/videos/counts", secret=world.secret)).json
    counted = {"queued": 1, "in_progress": 0, "completed": 1, "failed": 0}
    assert told == {"object": "video.counts", **counted, "has_more": False}
    assert (await world.send("GET", "v1/videos/counts")).json["queued"] == 0
    monkeypatch.setattr(video_store, "MOST_COUNTED", 1)
    told = (await world.send("GET", "v1/videos/counts", secret=world.secret)).json
    assert (told["queued"], told["completed"], told["has_more"]) == (1, 0, True)
