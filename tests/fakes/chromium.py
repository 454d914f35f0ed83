"""A real browser, driven by its DevTools protocol: https://chromedevtools.github.io/devtools-protocol/."""

import asyncio
import json
import re
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# Chromium's sandbox does not start as root, as whom containers run tests.
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server")
_LISTENING = re.compile(rb"DevTools listening on ws://([^/]+)/")


class Page:
    """An open page of the browser."""

    def __init__(self, devtools: aiohttp.ClientWebSocketResponse) -> None:
        self._devtools = devtools
        self._asked = 0

    async def visit(self, url: str) -> None:
        await self._ask("Page.navigate", url=url)

    async def run(self, function: str, *arguments: Any) -> Any:
        """What an async function of JavaScript gives, called in the page. All values are JSON."""
        called = f"({function})({', '.join(map(json.dumps, arguments))})"
        ended = await self._ask("Runtime.evaluate", expression=called, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in ended, ended
        return ended["result"]["value"]

    async def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._asked += 1
        await self._devtools.send_json({"id": self._asked, "method": method, "params": params})
        answer = await self._devtools.receive_json()
        assert answer["id"] == self._asked and "result" in answer, answer
        return dict(answer["result"])


@asynccontextmanager
async def browsing(profile: Path) -> AsyncIterator[Page]:
    """A page of a browser that knows nothing yet; it keeps its files in `profile`."""
    command = (CHROMIUM or "chromium", *_FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0")
    process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=PIPE)
    try:
        async with aiohttp.ClientSession(f"http://{await _devtools(process)}") as browser:
            async with browser.put("/json/new") as answer:
                page = await answer.json()
            async with browser.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as devtools:
                yield Page(devtools)
    finally:
        process.terminate()
        await process.wait()


async def _devtools(process: Process) -> str:
    """Host and port of the browser's DevTools, once it listens."""
    assert process.stderr is not None
    async for line in process.stderr:
        if found := _LISTENING.search(line):
            return found[1].decode()
    raise AssertionError("The browser has ended at once.")
