"""What uploads cost while they come: an image that is stored is held at most twice, and one that is
refused not at all.
"""

import tracemalloc
from collections.abc import AsyncIterator

import pytest

from shared.media.reference_image import LARGEST
from shared.routes import paths
from shared.routes.calls import Request
from tests.fakes.asking import Reply, ask
from tests.fakes.simulator import picture
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

FORM = "multipart/form-data; boundary=edge"
HEADS = (
    b'--edge\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nA cat\r\n'
    b'--edge\r\nContent-Disposition: form-data; name="input_reference"; filename="a.jpg"\r\n\r\n'
)
PIECE = 64 * 1024  # bytes, as they come from a socket
MIB = 1024 * 1024


async def body(head: bytes, size: int, tail: bytes, noise: bytes = bytes(PIECE)) -> AsyncIterator[bytes]:
    """Without a declared length: so many bytes between a head and a tail."""
    yield head
    for at in range(0, size, PIECE):
        yield noise[: size - at]
    yield tail


async def sent(world: World, pieces: AsyncIterator[bytes], media_type: str) -> tuple[Reply, int]:
    """The reply to a create, and the bytes that were held for it at most."""
    headers = {"authorization": f"Bearer {world.secret}", "content-type": media_type}
    await world.start()  # what is loaded once is loaded
    tracemalloc.start()
    try:
        reply = await ask(Request("POST", headers, parts={"path": "v1/videos"}, body=pieces), paths.other_path, world.gateway)
        return reply, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_an_image_of_20_mib_is_stored_at_twice_its_size(world: World) -> None:
    """Read, unpacked, checked, told apart from others and uploaded."""
    image = picture((720, 1280), "JPEG")
    reply, peak = await sent(world, body(HEADS + image, LARGEST - len(image), b"\r\n--edge--\r\n"), FORM)
    assert reply.status == 200, reply.body
    kept = await world.gateway.archive.reference(await world.video(reply.json["id"]))
    assert kept is not None
    assert len(kept.data) == LARGEST
    assert peak <= 2 * LARGEST


@pytest.mark.parametrize("kind", ["a form", "JSON"])
async def test_a_body_of_100_mib_that_is_refused_costs_one(world: World, kind: str) -> None:
    """Also where no length was declared, so that it is refused only when its 20 MiB have come."""
    if kind == "a form":
        reply, peak = await sent(world, body(HEADS, 100 * MIB, b"\r\n--edge--\r\n"), FORM)
    else:
        head = b'{"prompt": "A cat", "input_reference": "data:image/jpeg;base64,'
        reply, peak = await sent(world, body(head, 100 * MIB, b'"}', b"A" * PIECE), "application/json")
    assert (reply.status, reply.json["error"]["param"]) == (413, "input_reference")
    assert peak <= MIB


@pytest.mark.parametrize("head", [HEADS, HEADS + b"abc"], ids=["nothing", "a little"])
async def test_an_upload_that_is_cut_off_leaves_no_file(world: World, head: bytes) -> None:
    """Its caller has gone away; an open file would be a warning, which fails a test."""

    async def cut() -> AsyncIterator[bytes]:
        async for piece in body(head, MIB, b""):
            yield piece
        raise ConnectionError

    reply, _ = await sent(world, cut(), FORM)
    assert (reply.status, reply.code) == (400, "incomplete_body")
