"""docs/guardrails.md: its configurations work as they stand, and its examples are real answers."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.config.guardrail import GuardrailParams
from shared.config.settings import load
from tests.fakes.content_safety import HOST, KEY, ContentSafetyServer
from tests.fakes.world import world as open_world

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[2] / "docs" / "guardrails.md").read_text()
WORDS, SERVICES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
BLOCKED, PASSED = (json.loads(each) for each in re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


def read(block: str, tmp_path: Path) -> list[dict[str, Any]]:
    """The guardrails of a block, as the app reads them."""
    config = tmp_path / "config.yaml"
    config.write_text(block)
    env = {
        "AzureWebJobsStorage": "UseDevelopmentStorage=true",
        "AZURE_OPENAI_API_BASE": "https://example.openai.azure.com",
        "GATEWAY_CONFIG": str(config),
        "CONTENT_SAFETY_ENDPOINT": f"https://{HOST}/",
        "CONTENT_SAFETY_KEY": KEY,
    }
    return [msgspec.to_builtins(each) for each in load(env).guardrails]


async def test_the_operators_words_block_as_the_page_says(azurite: str, tmp_path: Path) -> None:
    async with open_world(azurite, guardrails=read(WORDS, tmp_path)) as world:
        reply = await world.send("POST", "/v1/videos", body={"prompt": "A zzblock"})
        assert reply.json == BLOCKED
        assert (await world.send("POST", "/v1/videos", body={"prompt": "The badge abc-1234"})).status == 400
        assert (await world.send("POST", "/v1/videos", body={"prompt": "A cat"})).json["guardrails"] == PASSED["guardrails"][:1]


async def test_the_services_are_asked_as_the_page_says(azurite: str, tmp_path: Path) -> None:
    server = ContentSafetyServer({"brawl": {"Violence": 2}, "nude": {"Sexual": 2}}, {"cola": "brands"})
    async with open_world(azurite, guardrails=read(SERVICES, tmp_path)) as world:
        world.upstream.before(server.answer)
        said = {prompt: await world.send("POST", "/v1/videos", body={"prompt": prompt}) for prompt in ("brawl", "nude", "cola")}
        assert {prompt: reply.status for prompt, reply in said.items()} == {"brawl": 200, "nude": 400, "cola": 400}
        passed = [each["guardrail"] for each in said["brawl"].json["guardrails"]]
        assert passed == ["acs-text", "acs-shield"]


def test_the_page_has_every_key() -> None:
    """And every guardrail."""
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`([\w/]+)`", row)}
    kinds = {"keywords", "azure/text_moderations", "azure/prompt_shield", "azure/image_moderations"}
    assert told == kinds | {*GuardrailParams.__struct_encode_fields__}
    assert "litellm_content_filter" in PAGE
