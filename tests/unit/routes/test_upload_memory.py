"""A large reference image, from its first byte to storage: held at most twice."""

import tracemalloc
from collections.abc import AsyncIterator

import pytest

from shared.media.reference_image import LARGEST
from shared.routes import paths
from shared.routes.calls import Request
from tests.fakes.asking import ask
from tests.fakes.simulator import picture
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

HEADS = (
    '--edge\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nA cat\r\n'
    '--edge\r\nContent-Disposition: form-data; name="input_reference"; filename="a.jpg"\r\n\r\n'
)


async def test_an_image_of_20_mib_is_stored_at_twice_its_size(world: World) -> None:
    """Read, unpacked, checked, told apart from others and uploaded."""
    image = picture((720, 1280), "JPEG")
    rest = LARGEST - len(image)
    noise = bytes(64 * 1024)

    async def body() -> AsyncIterator[bytes]:
        yield HEADS.encode() + image
        for at in range(0, rest, len(noise)):
            yield noise[: rest - at]
        yield b"\r\n--edge--\r\n"

    headers = {"authorization": f"Bearer {world.secret}", "content-type": "multipart/form-data; boundary=edge"}
    await world.start()  # what is loaded once is loaded
    tracemalloc.start()
    try:
        request = Request("POST", headers, parts={"path": "v1/videos"}, body=body())
        reply = await ask(request, paths.other_path, world.gateway)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reply.status == 200, reply.body
    kept = await world.gateway.archive.reference(await world.video(reply.json["id"]))
    assert kept is not None
    assert len(kept.data) == LARGEST
    assert peak <= 2 * LARGEST
