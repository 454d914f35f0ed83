"""Messages that start videos: once, by the checks of a create, and never lost without a word."""

import base64
import json
import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from shared.errors import StorageUnavailable
from shared.media.video import Video
from shared.routes.video_requests import take
from tests.fakes.orchestrations import Engine
from tests.fakes.queues import FakeQueues
from tests.fakes.simulator import picture
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

QUEUE, POISON = "video-requests", "video-requests-poison"


@pytest.fixture
def queues(world: World) -> Iterator[FakeQueues]:
    fake = FakeQueues()
    world.upstream.before(fake.answer)
    yield fake


async def deliver(world: World, message: Any, delivery_id: str = "m1") -> None:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    settings = msgspec.structs.replace(world.gateway.settings, requests_queue=QUEUE)
    gateway = msgspec.structs.replace(world.gateway, settings=settings)
    await take(gateway, Engine(), delivery_id, body)


def asked(world: World, **fields: Any) -> dict[str, Any]:
    return {"key_id": world.owner, "model": world.model.name, "prompt": "A cat", "seconds": "4", **fields}


async def made(world: World) -> list[Video]:
    return [video async for video in world.gateway.videos.of(world.owner)]


async def test_a_message_starts_one_video_however_often_it_comes(world: World, queues: FakeQueues) -> None:
    """By its own id, by one that its sender gave, in plain JSON and in base64."""
    for _ in range(2):
        await deliver(world, asked(world, prompt="One"))
        await deliver(world, asked(world, prompt="Two", id="row 2"), "m2")
    await deliver(world, base64.b64encode(json.dumps(asked(world, prompt="Two", id="row 2")).encode()), "m3")
    assert sorted(video.prompt for video in await made(world)) == ["One", "Two"]
    assert not queues.put


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"no JSON", "invalid_json"),
        (b"[]", "invalid_json"),
        ({"key_id": 7}, "invalid_value"),
        ({"key_id": "key_00000000"}, "key_not_found"),
        ({"key_id": "../key"}, "key_not_found"),
        ({"prompt": ""}, "invalid_value"),
        ({"colour": "red"}, "unknown_parameter"),
        ({"seconds": "5"}, "invalid_value"),
        ({"id": ""}, "invalid_value"),
        ({"since": -1}, "invalid_value"),
        ({"since": True}, "invalid_value"),
        ({"callback_url": "http://10.0.0.1/"}, "invalid_value"),
        ({"input_reference": {"blob": "no such"}}, "blob_not_found"),
    ],
)
async def test_a_bad_message_is_kept_with_its_reason_told(
    message: Any, code: str, world: World, queues: FakeQueues, caplog: pytest.LogCaptureFixture
) -> None:
    """At once: no other try would change it. Nothing is spent."""
    given = message if isinstance(message, bytes) else asked(world, **message)
    with caplog.at_level(logging.INFO, "gateway"):
        await deliver(world, given)
    assert not await made(world)
    ((queue, kept, after),) = queues.put
    assert (queue, after) == (POISON, 0)
    assert kept == given if isinstance(given, bytes) else json.loads(kept) == given
    (line,) = [each.getMessage() for each in caplog.records if each.getMessage().startswith("journal")]
    told = json.loads(line.removeprefix("journal "))
    assert (told["type"], told["error_code"]) == ("request.rejected", code)
    assert told["id"].endswith(".rejected")


@pytest.mark.world(limits={"rpm_limit": 1})
async def test_what_is_refused_for_now_comes_back(world: World, queues: FakeQueues) -> None:
    """When the refusal says, with the id that makes it one video; for a day, then it is bad."""
    await deliver(world, asked(world, prompt="One"), "m1")
    await deliver(world, asked(world, prompt="Two"), "m2")
    ((queue, text, after),) = queues.put
    assert (queue, 10 <= after <= 60) == (QUEUE, True)
    world.clock.skip(after)
    await deliver(world, text, "m3")
    assert len(await made(world)) == 2
    await deliver(world, text, "m4")  # the first copy was not deleted: a crash came between
    assert len(await made(world)) == 2
    world.clock.skip(25 * 3600)
    await deliver(world, asked(world, prompt="Three"), "m5")
    await deliver(world, asked(world, prompt="Four", id="m2b", since=int(world.clock.now().timestamp()) - 25 * 3600), "m6")
    assert [each["prompt"] for each in queues.of(POISON)] == ["Four"]


@pytest.mark.world(limits={"max_budget": 400_000})
async def test_a_budget_that_is_used_up_is_asked_again_every_five_minutes(world: World, queues: FakeQueues) -> None:
    """Its window may begin anew, or the operator raise it."""
    await deliver(world, asked(world, prompt="One"), "m1")
    await deliver(world, asked(world, prompt="Two"), "m2")
    assert [(queue, after) for queue, _, after in queues.put] == [(QUEUE, 300)]
    assert (await world.account()).reserved == 400_000


@pytest.mark.parametrize("change", [{"blocked": True}, {"deleted": True}])
async def test_a_key_that_may_not_ask_starts_nothing(change: dict[str, bool], world: World, queues: FakeQueues) -> None:
    """As over HTTP."""
    await world.gateway.keys.update(world.owner, change)
    await deliver(world, asked(world))
    assert not await made(world) and len(queues.of(POISON)) == 1


async def test_an_image_comes_from_the_container_for_inputs_alone(world: World, queues: FakeQueues) -> None:
    """By its name there, whatever is in it; no name leads out of the container."""
    name = f"{world.owner}/a cat ä&?.png"
    await world.gateway.archive._put("inputs", name, picture((720, 1280)), "image/png")
    await deliver(world, asked(world, size="720x1280", input_reference={"blob": name}))
    (video,) = await made(world)
    assert video.reference == "image/png"
    for wrong in ("../videos/x", "a/../../videos/x", "./x", "a//b", "/x", "x/", "..", "", "a\\b", "a\nb", "x" * 1025, 7):
        await deliver(world, asked(world, input_reference={"blob": wrong}), f"m{wrong}"[:100])
    await deliver(world, asked(world, input_reference={"blob": name, "container": "videos"}), "other")
    assert len(await made(world)) == 1
    assert len(queues.of(POISON)) == 13


async def test_nothing_is_lost_while_storage_is_away(world: World, queues: FakeQueues) -> None:
    """The function fails, and the host delivers the message again."""
    queues.status = 503
    with pytest.raises(StorageUnavailable):
        await deliver(world, asked(world, colour="red"))
    queues.status = 201
    await deliver(world, asked(world, colour="red"))
    assert len(queues.of(POISON)) == 1
