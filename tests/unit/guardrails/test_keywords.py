"""The operator's words, however they are written."""

import pytest

from shared.guardrails.findings import Finding
from shared.guardrails.keywords import Keywords

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "prompt",
    [
        "a zzblock here",
        "ZZBlock",
        "a zz\u200bblock",
        "ｚｚｂｌｏｃｋ",
        "(zzblock)",
        "secret\n project",
        "城堡里的猫妖",
        "c++",
    ],
)
async def test_a_word_is_found_however_it_is_written(prompt: str) -> None:
    found = await Keywords(["zzblock", "Secret Project", "猫妖", "c++"], {}).check(prompt)
    assert found is not None
    assert found.category == "blocked_words"


@pytest.mark.parametrize("prompt", ["a zzblocker", "xzzblock", "zz block", "secretproject", "c"])
async def test_a_part_of_a_longer_word_is_not_it(prompt: str) -> None:
    """Scunthorpe can be filmed."""
    assert await Keywords(["zzblock", "secret project", "c++"], {}).check(prompt) is None


async def test_a_pattern_is_told_by_its_name() -> None:
    keywords = Keywords([], {"employee": r"\b[a-z]{3}-\d{4}\b"})
    assert await keywords.check("the badge of ABC-1234") == Finding("patterns", "it matches 'employee'")
    assert await keywords.check("ABCD-1234") is None
