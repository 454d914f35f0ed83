"""Merges several ordered reads into one."""

import heapq
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def merged(reads: Sequence[AsyncIterator[T]], key: Callable[[T], str]) -> AsyncIterator[T]:
    """The items of all reads, in the order of `key`, by which each read is ordered. Holds one item
    of each read in memory.

    Of items with equal keys, only the one of the first read is returned: a row that is moved
    meanwhile may be read in both places.
    """
    heads: list[tuple[str, int, T]] = []

    async def advance(index: int) -> None:
        async for item in reads[index]:
            heapq.heappush(heads, (key(item), index, item))
            return

    for index in range(len(reads)):
        await advance(index)
    last = None
    while heads:
        first, index, item = heapq.heappop(heads)
        if first != last:
            yield item
        last = first
        await advance(index)
