"""Deleting a video that the upstream may be making: gone for its caller at once, and paid for if
the upstream completes it.
"""

from typing import Any

import httpx
import pytest

from shared.accounts.account import recount
from shared.media.video import GATEWAY_OWNER
from shared.storage.tables import WriteConflict
from tests.fakes.upstream import error
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

RESET = httpx.ReadError("reset")


async def accepted(world: World) -> str:
    video = await world.start()
    assert await world.submitted(video.id) == {"done": True}
    return video.id


async def counted(world: World) -> dict[str, Any]:
    """The key's counters, which must be what its videos say."""
    account = await world.account()
    assert recount(account, [each async for each in world.gateway.videos.of(world.owner)]) == account
    return {"reserved": account.reserved, "running": account.running, "spend": account.spend}


HELD = {"reserved": 400_000, "running": 1, "spend": 0}
CHARGED = {"reserved": 0, "running": 0, "spend": 400_000}
RETURNED = {"reserved": 0, "running": 0, "spend": 0}


@pytest.mark.world(limits={"max_budget": 400_000, "max_parallel_requests": 1})
async def test_creating_and_deleting_is_not_free(world: World) -> None:
    """A key that pays for one video gets one job, however often it deletes and asks again."""
    video_id = await accepted(world)
    assert (await world.send("DELETE", f"v1/videos/{video_id}", secret=world.secret)).status == 200
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        assert (await world.send(method, f"v1/videos/{video_id}{path}", secret=world.secret)).status == 404
    assert (await world.send("GET", "v1/videos", secret=world.secret)).json["data"] == []
    for _ in range(8):
        again = await world.send("POST", "v1/videos", secret=world.secret, body={"prompt": "A dog", "seconds": "4"})
        assert again.status == 429
    world.upstream.end()
    await world.live(video_id)
    again = await world.send("POST", "v1/videos", secret=world.secret, body={"prompt": "A dog", "seconds": "4"})
    assert again.code == "budget_exceeded"
    assert world.upstream.asked.count("create") == 1


@pytest.mark.parametrize(("end", "after"), [("completed", CHARGED), ("failed", RETURNED)])
@pytest.mark.world(budget=10**9)
async def test_money_follows_the_job_of_a_deleted_video(world: World, end: str, after: dict[str, int]) -> None:
    """Reserved while the job runs; charged where the upstream completes it, else returned; in the
    budget of the whole gateway too.
    """
    video_id = await accepted(world)
    await world.gateway.lifecycle.delete(video_id)
    assert "again" in await world.gateway.rendering.check(video_id)
    assert await counted(world) == HELD
    world.upstream.end(end)
    video = await world.live(video_id)
    assert await counted(world) == after
    whole = await world.gateway.ledger.account(GATEWAY_OWNER)
    assert whole is not None
    assert (whole.reserved, whole.running, whole.spend) == (0, 0, after["spend"])
    assert (video.deleted, video.status, await world.gateway.archive.length(video)) == (True, end, None)
    assert world.upstream.asked[-1] == "delete"
    assert "content" not in world.upstream.asked


async def test_a_deleted_video_whose_create_is_refused_costs_nothing(world: World) -> None:
    """No job was made, and none is asked for after the deletion."""
    video = await world.start()
    world.upstream.script("create", error(429, "busy"))

    async def delete(request: httpx.Request) -> None:
        if request.method == "POST":
            await world.gateway.lifecycle.delete(video.id)

    world.upstream.meanwhile(delete)
    try:
        done = await world.submitted(video.id)
    except WriteConflict:  # the engine runs the step again
        done = await world.submitted(video.id)
    assert done["failed"]["code"] == "cancelled"
    await world.gateway.lifecycle.finish(video.id, done["failed"])
    assert await counted(world) == RETURNED
    assert world.upstream.asked.count("create") == 1


async def test_a_deleted_video_whose_answer_was_lost_is_charged_for_the_job_that_is_found(world: World) -> None:
    """The upstream's list decides, as for every unclear create."""
    video = await world.start()
    world.upstream.accept_then(RESET)
    await world.gateway.submission.submit(video.id)
    await world.gateway.lifecycle.delete(video.id)
    assert await counted(world) == HELD
    world.upstream.end()
    await world.live(video.id)
    assert await counted(world) == CHARGED


async def test_a_video_deleted_while_it_is_saved_is_charged(world: World) -> None:
    """The upstream had completed it; no bytes of it stay."""
    video_id = await accepted(world)
    world.upstream.end()
    for step in (world.gateway.rendering.check, world.gateway.rendering.save):
        await step(video_id)
    await world.gateway.lifecycle.delete(video_id)
    await world.live(video_id)
    assert await counted(world) == CHARGED
    assert await world.gateway.archive.length(await world.video(video_id)) is None


@pytest.mark.parametrize("change", ["block", "delete", "regenerate"])
async def test_a_key_that_another_instance_has_ended_changes_nothing_more(world: World, change: str) -> None:
    """Creates, remixes, repeated creates and deletions read the key anew, whatever is remembered of
    it here.
    """
    done = await accepted(world)
    world.upstream.end()
    await world.live(done)
    body = {"prompt": "A dog", "seconds": "4"}
    repeated = {"idempotency-key": "one"}
    first = await world.send("POST", "v1/videos", secret=world.secret, body=body, headers=repeated)
    assert first.status == 200
    other = world.another()
    if change == "block":
        await other.keys.update(world.owner, {"blocked": True})
    elif change == "delete":
        await other.keys.delete(world.owner)
    else:
        await other.keys.regenerate(world.owner)
    for method, path, given, headers in (
        ("POST", "v1/videos", body, {}),
        ("POST", "v1/videos", body, repeated),
        ("POST", f"v1/videos/{done}/remix", {"prompt": "A dog"}, {}),
        ("DELETE", f"v1/videos/{done}", None, {}),
        ("DELETE", f"v1/videos/{first.json['id']}", None, {}),
    ):
        reply = await world.send(method, path, secret=world.secret, body=given, headers=headers)
        assert (reply.status, method, path) == (401, method, path)
    assert not (await world.video(done)).deleted
    assert (await world.send("DELETE", f"v1/videos/{done}")).status == 200, "the operator may"
