"""docs/webhooks.md: its examples work as they stand, with the official client."""

import ast
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from shared.config.file import GatewayKnobs
from shared.events.webhooks.payload import body
from shared.events.webhooks.signing import secret_of, signed
from shared.events.webhooks.webhooks import PAUSES
from tests.fakes.world import World
from tests.unit.events.test_webhooks import official

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
CREATE, SECRET = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
(EVENT,) = (json.loads(each) for each in re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


async def test_an_endpoint_is_made_as_the_page_says(world: World) -> None:
    """The page's client is synchronous; this one is the same but for `await`."""
    async with official(world) as client:
        names: dict[str, Any] = {"client": client}
        source = CREATE.replace("client.", "await client.", 1)
        await eval(compile(source, "webhooks.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        made = names["made"]
        assert [(each.id, each.url) async for each in client.webhooks.list()] == [(made.id, "https://studio.example/hooks")]


def test_the_event_is_one_of_ours_and_the_official_client_unwraps_it() -> None:
    sent = body(EVENT["id"], EVENT["type"], EVENT["created_at"], EVENT["data"]["id"])
    assert json.loads(sent) == EVENT
    secret = secret_of("token")
    headers = signed(EVENT["id"], EVENT["created_at"], sent, [secret])
    client = OpenAI(api_key="none", webhook_secret=secret)
    client.webhooks.verify_signature(sent, headers, tolerance=10**10)


def test_the_keys_secret_is_made_as_the_page_says() -> None:
    names: dict[str, Any] = {"api_key": "sk-mine"}
    exec(SECRET, names)
    assert names["secret"] == secret_of(hashlib.sha256(b"sk-mine").hexdigest())


def test_the_page_has_the_tries_and_the_knob() -> None:
    said = [5, 5 * 60, 30 * 60, *(hours * 3600 for hours in (2, 5, 10, 14, 20, 24))]
    assert list(PAUSES) == said and "5 s, 5 min, 30 min,\n2 h, 5 h, 10 h, 14 h, 20 h and 24 h" in PAGE
    assert "`webhook_networks`" in PAGE and "webhook_networks" in GatewayKnobs.__struct_fields__
