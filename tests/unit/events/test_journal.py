"""What happened is told: once to everyone who listens, by the transaction that made it happen."""

import asyncio
import base64
import json
import logging
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from shared.config.sinks import SINKS
from shared.errors import StorageUnavailable
from shared.media.video import Video
from shared.storage.event_marks import UNTOLD, marks_of
from shared.storage.tables import Insert, Write
from shared.upkeep.sweep import Sweep
from tests.fakes.content_safety import HOST, KEY, ContentSafetyServer
from tests.fakes.orchestrations import Engine
from tests.fakes.simulator import picture
from tests.fakes.table import key_of
from tests.fakes.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.world(sinks=("datadog",))]


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """The journal's lines in the log."""
    found = (each.getMessage().partition("journal ")[2] for each in caplog.records)
    return [json.loads(text) for text in found if text]


async def made(world: World, video: Video, *end: Any) -> None:
    """The rest of a video's life, which ends so upstream."""
    await world.submitted(video.id)
    world.clock.skip(1)
    world.upstream.end(*end)
    await world.live(video.id)


async def test_a_video_that_completes_is_told_at_its_start_and_at_its_end(world: World) -> None:
    video = await world.start()
    await made(world, video)
    await world.delivered()
    assert world.receivers.seen == {"datadog": [f"{video.id}.started", f"{video.id}.ended"]}
    assert world.receivers.refused == []


async def test_a_video_that_fails_is_told_with_its_reason(world: World) -> None:
    video = await world.start()
    await made(world, video, "failed", {"code": "content_policy_violation", "message": "No."})
    await world.delivered()
    start, end = (json.loads(each["message"]) for each in json.loads(world.receivers.bodies[0]))
    assert (start["type"], start["status"], start["cost"]) == ("video.started", "queued", 0.0)
    assert (end["type"], end["error_code"], end["cost"]) == ("video.failed", "moderation_blocked", 0.0)


async def test_a_video_that_is_deleted_while_it_waits_is_told_as_cancelled(world: World) -> None:
    video = await world.start()
    world.clock.skip(1)
    await world.gateway.lifecycle.delete(video.id)
    await world.live(video.id)
    await world.delivered()
    assert world.receivers.seen == {"datadog": [f"{video.id}.started", f"{video.id}.ended"]}
    assert '\\"error_code\\":\\"cancelled\\"' in world.receivers.bodies[0]


async def test_a_cancelled_video_ends_in_one_line(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Also where its caller deletes it twice, and then its orchestration ends."""
    caplog.set_level(logging.INFO, "gateway")
    video = await world.start()
    for _ in range(2):
        world.clock.skip(1)
        await world.gateway.lifecycle.delete(video.id)
    world.clock.skip(1)
    await world.live(video.id)
    assert [each["id"] for each in lines(caplog)] == [f"{video.id}.started", f"{video.id}.ended"]


async def test_what_was_cut_off_before_its_line_is_noted_later(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The start by the sweep, the end by the step that runs again: each in one line."""
    caplog.set_level(logging.INFO, "gateway")

    def cut_off(writes: Sequence[Write]) -> None:
        if any(key_of(write).startswith("event_") for write in writes if isinstance(write, Insert)):
            raise StorageUnavailable("no answer")

    world.faults.after = cut_off
    with pytest.raises(StorageUnavailable):
        await world.start()
    (video,) = (await world.gateway.videos.newest_first(world.owner, 2)).videos
    world.clock.skip(60)
    await Sweep(world.gateway, Engine()).run()
    with pytest.raises(StorageUnavailable):
        await made(world, video)
    assert [each["id"] for each in lines(caplog)] == [f"{video.id}.started"]
    world.clock.skip(1)
    await world.gateway.lifecycle.finish(video.id, None)
    await world.gateway.lifecycle.finish(video.id, None)
    assert [each["id"] for each in lines(caplog)] == [f"{video.id}.started", f"{video.id}.ended"]


async def test_the_mark_is_written_with_the_change_that_it_tells_of(world: World) -> None:
    """One transaction has the account, the video and the mark, at either end: no crash separates
    them, and no further request is made for it.
    """
    video = await world.start()
    await made(world, video)
    groups = [{key_of(write) for write in writes} for _, writes in world.faults.commits]
    assert [{"key", video.id} <= group for group in groups if f"event_{video.id}.started" in group] == [True, False]
    assert [{"key", video.id} <= group for group in groups if f"event_{video.id}.ended" in group] == [True, False]


async def test_a_start_that_could_not_be_told_is_told_at_the_end(world: World) -> None:
    """The caller has a video all the same."""

    def fail(writes: Sequence[Write]) -> None:
        if any("_video_" in key_of(write) and key_of(write)[0].isdigit() for write in writes):
            raise StorageUnavailable("no")

    world.faults.before = fail
    video = await world.start()
    assert [happening for happening, _ in await marks_of(world.gateway.tables.gateway, video.id)] == ["started"]
    world.faults.before = lambda _: None
    await made(world, video)
    await world.delivered()
    assert world.receivers.seen == {"datadog": [f"{video.id}.started", f"{video.id}.ended"]}


async def test_a_video_is_not_forgotten_before_it_was_told(world: World) -> None:
    """Its row in the pool, which has the last step repeated, goes last."""
    video = await world.start()

    def fail(writes: Sequence[Write]) -> None:
        if any(key_of(write).endswith(f"{video.id}.ended_") for write in writes):
            raise StorageUnavailable("no")

    world.faults.before = fail
    with pytest.raises(StorageUnavailable):
        await made(world, video)
    assert await world.gateway.pool.is_unfinished(world.model.name, video.id)
    world.faults.before = lambda _: None
    await world.gateway.lifecycle.finish(video.id, None)
    await world.delivered()
    assert world.receivers.seen["datadog"][-1] == f"{video.id}.ended"


async def test_a_last_step_that_runs_twice_tells_once(world: World) -> None:
    video = await world.start()
    await made(world, video)
    await world.delivered()
    await world.gateway.lifecycle.finish(video.id, None)
    await world.delivered()
    assert world.receivers.seen == {"datadog": [f"{video.id}.started", f"{video.id}.ended"]}


@pytest.mark.world(sinks=())
async def test_where_nobody_listens_nothing_is_written_for_it(world: World) -> None:
    video = await world.start()
    await made(world, video)
    keys = {key_of(write) for _, writes in world.faults.commits for write in writes}
    assert not [key for key in keys if key.startswith("event_") or key.endswith("ed_")]


@pytest.mark.world(sinks=(), knobs={"log_prompts": True})
async def test_the_log_has_a_line_for_each(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway")
    video = await world.start(prompt="A marked prompt", user="u1")
    await made(world, video)
    start, end = lines(caplog)
    assert (start["id"], start["type"], start["prompt"]) == (f"{video.id}.started", "video.started", "A marked prompt")
    assert (end["id"], end["status"], end["cost"], end["user"]) == (f"{video.id}.ended", "completed", 0.4, "u1")


@pytest.mark.world(knobs={"log_prompts": False})
async def test_with_log_prompts_off_a_prompt_is_in_no_line_and_no_event(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    video = await world.start(prompt="The canary sings")
    await made(world, video)
    await made(world, await world.start(), "failed", {"code": "bad", "message": "No canary, please."})
    await world.delivered()
    rows = [row.values async for row in world.gateway.tables.gateway.scan("mail_datadog")]
    assert world.receivers.bodies
    assert "canary" not in f"{caplog.text}{world.receivers.bodies}{rows}"


RULES = [{"guardrail_name": "house", "params": {"guardrail": "keywords", "default_on": True, "blocked_words": ["zz"]}}]


@pytest.mark.world(sinks=tuple(SINKS), guardrails=RULES)
async def test_a_blocked_request_is_seen_once_by_every_provider(world: World) -> None:
    """As a failure, by an id of its own, with who asked and what has blocked it."""
    reply = await world.send("POST", "/v1/videos", secret=world.secret, body={"prompt": "A zz"})
    assert reply.status == 400
    await world.delivered()
    assert world.receivers.refused == []
    assert {name: len(seen) for name, seen in world.receivers.seen.items()} == dict.fromkeys(SINKS, 1)
    (event_id,) = {each for seen in world.receivers.seen.values() for each in seen}
    assert event_id.endswith(".blocked")
    logs = [body for body in world.receivers.bodies if "ddsource" in body]
    (told,) = [json.loads(each["message"]) for body in logs for each in json.loads(body)]
    assert (told["type"], told["error_code"], told["cost"]) == ("request.blocked", "content_policy_violation", 0.0)
    assert (told["key_id"], told["request_id"]) == (world.owner, reply.headers["x-request-id"])
    assert told["guardrails"] == [{"guardrail": "house", "result": "blocked", "category": "blocked_words"}]


@pytest.mark.world(sinks=("datadog", "webhook"), guardrails=RULES)
@pytest.mark.parametrize("writes", [1, 2, 3])
async def test_a_blocked_request_that_is_cut_off_is_told_to_everyone_by_the_sweep(world: World, writes: int) -> None:
    """After its mark, after the first provider, after the last: each hears of it once, and no mark
    is left.
    """
    world.faults.dies_after = len(world.faults.commits) + writes
    asking = asyncio.create_task(world.send("POST", "/v1/videos", secret=world.secret, body={"prompt": "A zz"}))
    await world.faults.died.wait()
    asking.cancel()
    world.faults.dies_after = None
    after = world.another()
    await Sweep(after, Engine()).run()
    assert len(await untold(world)) == 1  # its request may still be telling it
    world.clock.skip(121)
    await Sweep(after, Engine()).run()
    await world.delivered()
    assert {name: len(seen) for name, seen in world.receivers.seen.items()} == {"datadog": 1, "webhook": 1}
    assert await untold(world) == []


@pytest.mark.world(sinks=("datadog",), guardrails=RULES)
async def test_a_mark_is_only_for_what_is_blocked(world: World) -> None:
    """A request that is refused otherwise writes nothing."""
    before = len(world.faults.commits)
    assert (await world.send("POST", "/v1/videos", secret=world.secret, body={"prompt": ""})).status == 400
    assert len(world.faults.commits) == before
    assert (await world.send("POST", "/v1/videos", secret=world.secret, body={"prompt": "A zz"})).status == 400
    assert [len(writes) for _, writes in world.faults.commits[before:]] == [1, 1, 1]  # mark, delivery, mark
    assert await untold(world) == []


async def untold(world: World) -> list[str]:
    return [row.key async for row in world.gateway.tables.gateway.scan(UNTOLD)]


SERVICE = {"default_on": True, "api_base": f"https://{HOST}/", "api_key": KEY}
SEVERAL = [
    *RULES,
    {"guardrail_name": "lenient", "params": {"guardrail": "azure/text_moderations", "on_error": "allow", **SERVICE}},
    {"guardrail_name": "image", "params": {"guardrail": "azure/image_moderations", **SERVICE}},
]


@pytest.mark.world(sinks=("datadog",), guardrails=SEVERAL)
@pytest.mark.parametrize(("severity", "code"), [(6, "content_policy_violation"), (None, "guardrail_unavailable")])
async def test_a_request_that_is_not_let_through_tells_what_every_guardrail_said(
    world: World, severity: int | None, code: str
) -> None:
    """Also those before the one that stopped it, and where that one's service is down."""

    server = ContentSafetyServer(image={"Hate": severity or 0})

    def answer(request: httpx.Request) -> httpx.Response | None:
        is_down = request.url.host == HOST and (severity is None or "text:" in request.url.path)
        return httpx.Response(500) if is_down else server.answer(request) or world.receivers.answer(request)

    world.upstream.before(answer)
    image = f"data:image/png;base64,{base64.b64encode(picture((720, 1280))).decode()}"
    body = {"prompt": "A cat", "size": "720x1280", "input_reference": image}
    reply = await world.send("POST", "/v1/videos", secret=world.secret, body=body)
    assert reply.code == code
    await world.delivered()
    (told,) = [json.loads(each["message"]) for body in world.receivers.bodies for each in json.loads(body)]
    assert (told["type"], told["error_code"]) == ("request.blocked", code)
    last = {"result": "unavailable"} if severity is None else {"result": "blocked", "category": "Hate"}
    assert told["guardrails"] == [
        {"guardrail": "house", "result": "passed"},
        {"guardrail": "lenient", "result": "unavailable"},
        {"guardrail": "image", **last},
    ]


@pytest.mark.world(sinks=("datadog",), guardrails=RULES, knobs={"log_prompts": False})
async def test_a_blocked_request_is_refused_also_where_it_cannot_be_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has it, without the words that were found."""

    def fail(writes: Sequence[Write]) -> None:
        raise StorageUnavailable("no")

    world.faults.before = fail
    with caplog.at_level(logging.INFO, "gateway"):
        assert (await world.send("POST", "/v1/videos", secret=world.secret, body={"prompt": "A zz"})).status == 400
    (line,) = lines(caplog)
    assert line["type"] == "request.blocked"
    assert "zz" not in caplog.text
