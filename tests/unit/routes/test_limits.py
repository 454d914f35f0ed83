"""What a careful attacker with a key can make the gateway do: little, and nothing to others."""

import asyncio
import base64
import json
import threading
import time
from collections.abc import AsyncIterator

import pytest

from shared.config.catalog import Catalog
from shared.media.reference_image import Fit, Reference, check_reference
from shared.media.requests import CreateRequest, Fields, parse_create
from shared.routes import paths
from shared.routes.calls import Request
from tests.fakes.asking import ask
from tests.fakes.world import World
from tests.unit.media.test_reference_image import encoded, picture

pytestmark = pytest.mark.anyio

FORM = "multipart/form-data; boundary=edge"


def field(name: str, value: str) -> str:
    return f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'


async def create(world: World, **fields: object) -> str:
    """The code with which a create is refused."""
    reply = await world.send("POST", "v1/videos", secret=world.secret, body={"prompt": "A cat", **fields})
    return reply.code if reply.status != 200 else "200"


def inline(data: bytes) -> dict[str, str]:
    return {"image_url": f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"}


@pytest.mark.world(limits={"max_budget": 0})
async def test_a_key_without_money_has_no_image_unpacked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its account is looked at first, so that even the dearest image costs nothing."""
    unpacked: list[object] = []
    monkeypatch.setattr("shared.media.reference_image.check_reference", lambda *given: unpacked.append(given))
    assert await create(world, input_reference=inline(encoded(picture(), "JPEG"))) == "budget_exceeded"
    assert unpacked == []


async def test_images_are_unpacked_beside_the_event_loop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at a time, however many are sent, so that everybody else is answered as usual."""
    threads: list[int] = []
    under_way: list[int] = []
    most = 0

    def watched(data: bytes, size: str, fit: Fit) -> Reference:
        nonlocal most
        threads.append(threading.get_ident())
        under_way.append(1)
        most = max(most, len(under_way))
        try:
            return check_reference(data, size, fit)
        finally:
            under_way.pop()

    monkeypatch.setattr("shared.media.reference_image.check_reference", watched)
    image = inline(encoded(picture((720, 1280)), "JPEG", progressive=True))
    codes = await asyncio.gather(*(create(world, input_reference=image) for _ in range(8)))
    assert codes == ["200"] * 8
    assert len(threads) == 8
    assert threading.get_ident() not in threads
    assert most <= 2


async def test_a_request_is_read_beside_the_event_loop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image in a data URL takes half a second: nobody else waits for it."""
    threads: list[int] = []

    def watched(fields: Fields, catalog: Catalog) -> CreateRequest:
        threads.append(threading.get_ident())
        return parse_create(fields, catalog)

    monkeypatch.setattr("shared.routes.videos.parse_create", watched)
    assert await create(world) == "200"
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_a_body_is_refused_by_the_length_it_declares(world: World) -> None:
    """Before it is asked for, where the host has not read it yet."""

    async def unread() -> AsyncIterator[bytes]:
        yield b""
        raise AssertionError("it was read")

    headers = {"authorization": f"Bearer {world.secret}", "content-length": str(33 * 1024**2)}
    asked = Request("POST", headers, parts={"path": "v1/videos"}, body=unread())
    assert (await ask(asked, paths.other_path, world.gateway)).status == 413


@pytest.mark.parametrize("unit", [b'{"a":1},', b"[],", b"1,", b'"",'])
async def test_json_of_countless_values_is_refused_unread(world: World, unit: bytes) -> None:
    """32 MiB of them would become a gigabyte of objects."""
    body = b'{"prompt":[' + unit * (31 * 1024**2 // len(unit)) + b"1]}"
    before = time.process_time()
    reply = await world.send("POST", "v1/videos", secret=world.secret, body=body)
    assert (reply.status, reply.code) == (413, "request_too_large")
    assert time.process_time() - before < 1.0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (field("prompt", "A cat") + field("prompt", "A dog"), "prompt"),
        (field("prompt", "A cat") + field("metadata[a]", "1") + field("metadata[a]", "2"), "metadata[a]"),
    ],
)
async def test_a_field_that_is_sent_twice_is_refused(world: World, body: str, param: str) -> None:
    """Neither the first nor the last is silently taken."""
    reply = await world.send(
        "POST", "v1/videos", secret=world.secret, body=f"{body}--edge--".encode(), headers={"content-type": FORM}
    )
    assert (reply.status, reply.code, reply.json["error"]["param"]) == (400, "duplicate_parameter", param)


@pytest.mark.parametrize("body", [b'{"prompt":"a","prompt":"b"}', b'{"prompt":"a","metadata":{"prompt":"1","prompt":"2"}}'])
async def test_a_name_that_stands_twice_in_an_object_is_refused(world: World, body: bytes) -> None:
    """A filter in front of the gateway may have looked at the other one."""
    reply = await world.send("POST", "v1/videos", secret=world.secret, body=body)
    assert (reply.status, reply.code, reply.json["error"]["param"]) == (400, "duplicate_parameter", "prompt")


@pytest.mark.parametrize("after", ["nope", "video_1", "video_" + "g" * 32, "x" * 5_000])
async def test_a_page_after_what_is_no_video_is_refused(world: World, after: str) -> None:
    """It would be the first page again, for ever."""
    reply = await world.send("GET", "v1/videos", secret=world.secret, query={"after": after})
    assert (reply.status, reply.json["error"]["param"]) == (400, "after")


async def test_a_remix_in_a_size_that_is_no_longer_made_is_refused(world: World) -> None:
    """The operator has taken it out of the configuration since."""
    video = await world.start(size="1280x720")
    await world.submitted(video.id)
    world.upstream.end()
    await world.live(video.id)
    (model,) = world.gateway.settings.catalog.models
    able = model.capability
    smaller = type(able)(("720x1280",), able.seconds, {"720x1280": 100_000})
    changed = world.with_model(type(model)(model.name, smaller, model.deployments))
    reply = await changed.send("POST", f"v1/videos/{video.id}/remix", secret=world.secret, body={"prompt": "A dog"})
    assert (reply.status, reply.code) == (400, "remix_not_supported")
    assert "1280x720" in reply.json["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "key/info", "GET"),
        ("DELETE", "v1/key/generate", "POST"),
        ("GET", "key/delete", "POST"),
        ("POST", "key/list", "GET"),
    ],
)
async def test_the_allow_header_is_that_of_the_action(world: World, method: str, path: str, allow: str) -> None:
    """Each of the operator's actions takes one method."""
    reply = await world.send(method, path)
    assert (reply.status, reply.headers["allow"]) == (405, allow)


async def test_an_unknown_action_on_keys_is_an_unknown_path(world: World) -> None:
    """As it is anywhere else."""
    reply = await world.send("POST", "key/steal")
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (404, "unknown_url")
