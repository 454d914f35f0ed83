"""`make studio`: the page at `/studio`, on a stack that has made a dozen videos."""

import asyncio
import webbrowser
from collections.abc import Awaitable
from itertools import cycle
from typing import Any

import httpx

from local.stack import Options, Stack, StackError, start

# A dozen for the operator, whose key signs in; and a key with a budget, to be seen among the keys.
_PROMPTS = (
    "A cat playing with a ball of yarn in a sunny garden",
    "Rain on the window of a night train, lights passing by",
    "A red kite over grey dunes, seen from below",
    "Steam rising from a bowl of noodles in a small kitchen",
    "Two foxes running through fresh snow at dusk",
    "A paper boat drifting down a gutter after the storm",
    "Slow pan over a workbench with half a violin on it",
    "A lighthouse at dawn, gulls circling, no people",
    "Hands folding a crane from yellow paper",
    "An old tram turning a corner in Lisbon",
    "Ink spreading in a glass of water, close up",
    "A field of sunflowers turning their heads, time lapse",
)
_OTHERS = ("A dog shaking off water, very slowly", "Clouds over a mountain pass, from morning to night")
_BUDGET = {"key_alias": "Mia", "max_budget": 5, "budget_duration": "30d"}


async def studio(options: Options) -> None:
    """Start the stack, make the videos, open the page where there is a browser, and serve until
    cancelled. Raises StackError or ConfigurationError.
    """
    async with start(options) as stack:
        address = f"{stack.url}/studio"
        print(f"The studio is at {address}\nSign in with the key {stack.master_key}. Ctrl-C stops everything.", flush=True)
        await furnish(stack)
        await asyncio.to_thread(webbrowser.open, address)  # some browsers end only when they are closed
        await asyncio.Event().wait()


async def furnish(stack: Stack) -> None:
    """Ask for the videos, where none is there yet. Raises StackError."""
    headers = {"authorization": f"Bearer {stack.master_key}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60, trust_env=False) as gateway:
        if (await _told(gateway.get("/v1/videos", params={"limit": 1})))["data"]:
            return
        mia = await _told(gateway.post("/key/generate", json=_BUDGET))
        asked = [*((prompt, stack.master_key) for prompt in _PROMPTS), *((prompt, mia["key"]) for prompt in _OTHERS)]
        sizes = cycle(stack.model.capability.sizes)
        for prompt, key in asked:
            json = {"prompt": prompt, "model": stack.model.name, "size": next(sizes)}
            await _told(gateway.post("/v1/videos", json=json, headers={"authorization": f"Bearer {key}"}))


async def _told(answer: Awaitable[httpx.Response]) -> dict[str, Any]:
    """What the gateway answers. Raises StackError where it refuses."""
    given = await answer
    if given.is_error:
        raise StackError(f"The gateway has refused a video to look at: {given.text}")
    told: dict[str, Any] = given.json()
    return told
