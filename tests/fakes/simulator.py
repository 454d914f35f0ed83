"""A simulated server in a test: on a loopback port, with time that the test advances."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx
from PIL import Image

from local.simulator.process import listening
from local.simulator.server import SimulatedServer
from tests.fakes.clock import VirtualClock

DAY = 24 * 60 * 60
LONGEST_RENDER = 160  # simulated seconds


@dataclass
class Simulator:
    """`http` speaks to it with a key."""

    server: SimulatedServer
    clock: VirtualClock
    url: str
    http: httpx.AsyncClient

    async def create(self, **fields: str) -> httpx.Response:
        return await self.http.post("/videos", json={"model": "sora-2", "prompt": "A cat", **fields})

    async def created(self, **fields: str) -> str:
        """The id of a new video."""
        answer = await self.create(**fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    async def completed(self, **fields: str) -> str:
        """The id of a new video that has had time to end."""
        video_id = await self.created(**fields)
        await self.clock.advance(LONGEST_RENDER)
        return video_id

    async def get(self, video_id: str) -> dict[str, Any]:
        answer = await self.http.get(f"/videos/{video_id}")
        assert answer.status_code == 200, answer.text
        video: dict[str, Any] = answer.json()
        return video

    async def content(self, video_id: str, variant: str = "video") -> httpx.Response:
        return await self.http.get(f"/videos/{video_id}/content", params={"variant": variant})


@asynccontextmanager
async def simulator(data: Path, *, clock: VirtualClock | None = None, **options: Any) -> AsyncIterator[Simulator]:
    """`options` are those of `SimulatedServer`."""
    clock = clock or VirtualClock()
    server = SimulatedServer(data, clock, api_key="the-key", **options)
    async with (
        listening(server) as url,
        # A film is drawn when it is first asked for, which takes its time where others draw as
        # well.
        httpx.AsyncClient(
            base_url=f"{url}{server.dialect.base}",
            headers={"api-key": "the-key", "authorization": "Bearer the-key"},
            trust_env=False,
            timeout=60,
        ) as http,
    ):
        yield Simulator(server, clock, url, http)


async def eventually(condition: Callable[[], bool]) -> None:
    """Let real sockets and threads do their work until the condition holds."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came true")


def duration(film: bytes) -> float:
    """How many seconds an MP4 plays."""
    with av.open(io.BytesIO(film), "r") as container:
        assert container.duration is not None
        return container.duration / 1_000_000


def colour_at(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    """Red, green and blue of one pixel."""
    colour = image.convert("RGB").getpixel((x, y))
    assert isinstance(colour, tuple)
    return colour


def picture(size: tuple[int, int], format: str = "PNG", colour: str = "red") -> bytes:  # noqa: A002 -- Pillow's name for it
    """An encoded image of one colour."""
    encoded = io.BytesIO()
    Image.new("RGB", size, colour).save(encoded, format)
    return encoded.getvalue()
