"""Admission through real processes and the official client: nothing that is sent twice starts
twice.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from aiohttp import ClientSession, web
from anyio.from_thread import start_blocking_portal

from tests.fakes.stack import Served, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def served(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(azurite, tmp_path_factory.mktemp("admission")) as gateway:
        yield gateway


# The client's pool may lose a socket where a hundred threads share it; that is not ours to see.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_hundred_threads_with_one_idempotency_key_get_one_video(served: Served) -> None:
    """One video, 100 equal ids, and one create upstream."""
    key, prompt = served.new_key(), "A cat that is asked for a hundred times"
    ids: list[str] = []

    with served.client(key) as client:

        def create() -> None:
            headers = {"idempotency-key": "one"}
            ids.append(client.post("/v1/videos", json={"prompt": prompt}, headers=headers, timeout=120).json()["id"])

        threads = [threading.Thread(target=create) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(ids) == 100
    assert len(set(ids)) == 1
    assert len(videos(served, key)) == 1


Trouble = Callable[[int, Callable[[], Awaitable[web.Response]]], Awaitable[web.Response]]


async def answers_500(attempt: int, forward: Callable[[], Awaitable[web.Response]]) -> web.Response:
    """The gateway has done its work, and something between says 500."""
    answer = await forward()
    return answer if attempt >= 2 else web.Response(status=500)


async def fails_before(attempt: int, forward: Callable[[], Awaitable[web.Response]]) -> web.Response:
    """The first tries never reach the gateway."""
    return await forward() if attempt >= 2 else web.Response(status=500)


async def hangs(attempt: int, forward: Callable[[], Awaitable[web.Response]]) -> web.Response:
    """The gateway has done its work, and its answer takes longer than the client waits."""
    answer = await forward()
    if attempt < 2:
        await asyncio.Event().wait()
    return answer


async def drops(attempt: int, forward: Callable[[], Awaitable[web.Response]]) -> web.Response:
    """The gateway has done its work, and the connection breaks."""
    answer = await forward()
    if attempt < 2:
        raise ConnectionResetError
    return answer


async def overtaken(attempt: int, forward: Callable[[], Awaitable[web.Response]]) -> web.Response:
    """The first try is stuck on its way, and arrives at the gateway after its own retry."""
    if attempt == 0:
        asyncio.get_running_loop().create_task(late(forward))
        await asyncio.Event().wait()
    return await forward()


async def late(forward: Callable[[], Awaitable[web.Response]]) -> None:
    await asyncio.sleep(0)
    await forward()


@pytest.mark.parametrize("trouble", [answers_500, fails_before, hangs, drops, overtaken], ids=lambda trouble: trouble.__name__)
def test_the_clients_own_retries_make_one_video(served: Served, trouble: Trouble) -> None:
    """The official client repeats a create up to twice without any key; whatever went wrong, it is
    one video.
    """
    key = served.new_key()
    with between(served.url, trouble) as url, openai.OpenAI(base_url=f"{url}/v1", api_key=key, timeout=2) as client:
        made = client.videos.create(prompt=f"A cat and {trouble.__name__}", seconds="4")
        again = client.videos.create(prompt=f"A cat and {trouble.__name__}", seconds="4")
    listed = videos(served, key)
    assert {made.id, again.id} == {video["id"] for video in listed}, "equal requests that are meant are two videos"
    assert len(listed) == 2


def videos(served: Served, key: str) -> list[dict[str, Any]]:
    with served.client(key) as client:
        listed: list[dict[str, Any]] = client.get("/v1/videos").json()["data"]
    return listed


@contextmanager
def between(gateway: str, trouble: Trouble) -> Iterator[str]:
    """A proxy before the gateway that makes trouble for the first create it sees."""
    attempts = iter(range(100))

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        kept = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length")}

        async def forward() -> web.Response:
            async with ClientSession() as session, session.post(f"{gateway}{request.path}", data=body, headers=kept) as answer:
                return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")

        answer = await trouble(next(attempts), forward)
        if isinstance(answer, web.Response) and answer.status >= 500 and request.transport is None:
            raise ConnectionResetError
        return answer

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)

    async def serve(runner: web.AppRunner) -> str:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    with start_blocking_portal() as portal:
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        try:
            yield portal.call(serve, runner)
        finally:
            portal.call(runner.cleanup)
