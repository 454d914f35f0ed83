"""Several ordered reads as one."""

from collections.abc import AsyncIterator, Sequence

import pytest

from shared.storage.merging import merged

pytestmark = pytest.mark.anyio


async def read(words: Sequence[str], taken: list[str]) -> AsyncIterator[str]:
    for word in words:
        taken.append(word)
        yield word


async def test_reads_are_merged_in_order_and_an_equal_key_comes_from_the_first_alone() -> None:
    reads = [read(each, []) for each in (["a", "d first", "e"], [], ["b", "c", "d second", "f"])]
    assert [each async for each in merged(reads, lambda word: word[0])] == ["a", "b", "c", "d first", "e", "f"]


async def test_of_each_read_one_item_is_held() -> None:
    taken: list[str] = []
    async for each in merged([read("ace", taken), read("bdf", taken)], str):
        assert taken == ["a", "b"]
        assert each == "a"
        break
