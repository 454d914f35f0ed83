"""Counts requests to storage: all of them, and those of which each waits for the one before."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import aiohttp
import pytest

from shared.storage.table_connection import Connection


@dataclass
class RoundTrips:
    """What went out, as moments in order: when each request began, and when it had its answer."""

    moments: Iterator[int] = field(default_factory=count)
    spans: list[tuple[int, int]] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return len(self.spans)

    @property
    def in_a_row(self) -> int:
        """The longest chain of requests of which each began after the end of the one before."""
        chain, last = 0, -1
        for begun, ended in sorted(self.spans, key=lambda span: span[1]):
            if begun > last:
                chain, last = chain + 1, ended
        return chain


@contextmanager
def round_trips(monkeypatch: pytest.MonkeyPatch) -> Iterator[RoundTrips]:
    """Those to tables, and those to blobs, which leave by a client of their own."""
    found = RoundTrips()

    def noted(owner: type, method: str) -> None:
        inner = getattr(owner, method)

        async def asked(*args: Any, **kwargs: Any) -> Any:
            begun = next(found.moments)
            answer = await inner(*args, **kwargs)
            found.spans.append((begun, next(found.moments)))
            return answer

        patched.setattr(owner, method, asked)

    with monkeypatch.context() as patched:
        noted(Connection, "ask")
        noted(aiohttp.ClientSession, "_request")
        yield found
