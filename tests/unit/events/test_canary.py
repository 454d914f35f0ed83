"""With `log_prompts: false` a marked prompt goes upstream and to its owner, and nowhere else; and
no secret goes anywhere but to whom it belongs.
"""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shared.config.sinks import SINKS
from shared.events.alerts import TOLD
from shared.events.deliveries import MAIL, POISON
from shared.upkeep.sweep import Sweep
from tests.fakes.orchestrations import Engine
from tests.fakes.receivers import SETTINGS
from tests.fakes.upstream import error
from tests.fakes.world import MASTER, World

PROMPT = "zeisig"  # in every prompt, and quoted by the upstream
HOOK = "https://93.184.215.14/hook"
RULES = [{"guardrail_name": "house", "params": {"guardrail": "keywords", "default_on": True, "blocked_words": ["verboten"]}}]

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.world(sinks=tuple(SINKS), guardrails=RULES, knobs={"log_prompts": False}, limits={"soft_budget": 1}),
]


async def lived(world: World) -> tuple[list[Any], list[str]]:
    """One video of every end: what its steps have left for the durable history, and what callers
    were answered that is not an object of their video.
    """
    history: list[Any] = []
    answers = [(await asked(world, "verboten")).body.decode()]
    for end in ("completed", "failed", "refused", "deleted"):
        if end == "refused":
            world.upstream.script("create", error(400, f"Not this: {PROMPT}", code="content_policy_violation"))
        video_id = (await asked(world, end)).json["id"]
        if end == "deleted":
            await world.send("DELETE", f"/v1/videos/{video_id}", secret=world.secret)
        steps = world.gateway.steps
        history.append(await steps.submit(video_id))
        world.upstream.run(10)
        world.clock.skip(60)
        history.append(await steps.check(video_id) if "done" in history[-1] else history[-1])
        world.upstream.end("failed" if end == "failed" else "completed", {"code": "x", "message": f"Not this: {PROMPT}"})
        history.append(await steps.check(video_id) if "again" in history[-1] else history[-1])
        await steps.finish({"video": video_id, "failure": history[-1].get("failed")})
        assert (await world.video(video_id)).finished
    await Sweep(world.gateway, Engine()).run()
    return history, answers


async def asked(world: World, word: str) -> Any:
    body = {"prompt": f"A {PROMPT} {word}", "seconds": "4", "callback_url": HOOK}
    return await world.send("POST", "/v1/videos", secret=world.secret, body=body)


async def rows(world: World) -> AsyncIterator[str]:
    """Everything that is stored for others than the video's owner."""
    partitions = [POISON, TOLD, "spend", *(f"{MAIL}{name}" for name in world.gateway.couriers.destinations)]
    for partition in partitions:
        async for row in world.gateway.tables.gateway.scan(partition):
            yield json.dumps(row.values, default=str)
    async for row in world.gateway.tables.pools.scan(world.model.name):
        yield json.dumps(row.values, default=str)


async def test_a_marked_prompt_and_the_secrets_are_nowhere_else(world: World, caplog: pytest.LogCaptureFixture) -> None:
    hooked: list[httpx.Request] = []

    def hook(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != "/hook":
            return world.receivers.answer(request)
        hooked.append(request)
        return httpx.Response(200)

    world.upstream.before(hook)
    made = {"name": "m", "url": HOOK, "event_types": ["video.queued", "video.in_progress", "video.completed", "video.failed"]}
    signing = (await world.send("POST", "/v1/webhook_endpoints", secret=world.secret, body=made)).json["signing_secret"]
    with caplog.at_level(logging.DEBUG):
        history, answers = await lived(world)
        stored = [text async for text in rows(world)]
        await world.delivered()
    assert len(hooked) > 8 and len(world.receivers.bodies) >= 20  # it was told to everybody
    sent = world.receivers.bodies + [f"{request.headers} {request.content.decode()}" for request in hooked]
    seen = {"log": caplog.text, "sent": " ".join(sent), "stored": " ".join(stored), "history": repr(history)}
    seen["errors"] = " ".join(answers)
    keys = [value for name, value in SETTINGS.items() if name.endswith(("KEY", "SECRET"))]
    secrets = [world.secret, MASTER, "upstream-secret", signing, *keys]
    found = [(where, secret) for where, text in seen.items() for secret in (PROMPT, *secrets) if secret in text]
    assert found == []
