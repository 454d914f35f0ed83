"""The pages of an upstream's list of jobs, and whether they tell everything since a moment."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import msgspec
import pytest

from shared.upstream.client import Upstream
from shared.upstream.jobs import Job, Listing, Page
from tests.fakes.clock import SkippingClock
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SINCE = NOW - timedelta(seconds=60)


def job(number: int, age: float | None) -> dict[str, Any]:
    """A job that was made so many seconds ago."""
    return {"id": f"video_{number}", "created_at": None if age is None else NOW.timestamp() - age}


class Server:
    """Lists these jobs, newest first, in pages of a hundred."""

    def __init__(
        self, jobs: list[dict[str, Any]], *, tells_more: bool = True, pages: bool = True, date: str | None = None
    ) -> None:
        self.jobs = jobs
        self.tells_more = tells_more
        self.pages = pages
        self.headers = {} if date is None else {"date": date}
        self.asked = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        ids = [each["id"] for each in self.jobs]
        after = request.url.params.get("after")
        start = ids.index(after) + 1 if self.pages and after in ids else 0
        page = self.jobs[start : start + 100]
        more = {"has_more": len(self.jobs) > start + 100} if self.tells_more else {}
        body = json.dumps({"object": "list", "data": page, **more}).encode()
        return httpx.Response(200, stream=httpx.ByteStream(body), headers=self.headers)


async def listed(world: World, server: Server) -> Listing:
    async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as http:
        (deployment,) = world.model.deployments
        upstream = Upstream(deployment, lambda: http, world.gateway.connections.token, SkippingClock(NOW))
        return await upstream.recent(SINCE)


async def test_a_list_is_read_until_it_is_older_than_the_attempt(world: World) -> None:
    """150 newer jobs take a second page, and a thousand older ones no third."""
    server = Server([job(n, n / 10) for n in range(150)] + [job(n, 60 + n) for n in range(150, 1150)])
    found = await listed(world, server)
    assert (found.complete, server.asked) == (True, 2)
    assert len(found.jobs) == 200


@pytest.mark.parametrize(
    ("server", "complete"),
    [
        (Server([job(n, 1) for n in range(99)], tells_more=False), True),
        (Server([job(n, 1) for n in range(250)], tells_more=False), True),
        (Server([job(n, 1) for n in range(250)], pages=False), False),
        (Server([job(n, 1) for n in range(5_000)]), False),
        (Server([job(n, None) for n in range(150)]), True),
        (Server([job(n, 3600 - n) for n in range(150)]), True),
    ],
    ids=["short", "no word of more", "the same page again", "without an end", "no times", "oldest first"],
)
async def test_a_list_that_cannot_be_read_to_its_end_is_not_complete(world: World, server: Server, complete: bool) -> None:
    """A server may leave out `has_more`, times and the order; what it repeats is no next page."""
    found = await listed(world, server)
    assert found.complete == complete
    if complete:
        assert len(found.jobs) == len(server.jobs)


@pytest.mark.parametrize(
    ("seconds", "made"), [("8", 8.0), (8, 8.0), ("\N{SUPERSCRIPT TWO}", None), ("9" * 400, None), ("", None)]
)
def test_a_length_that_is_none_is_not_charged_by(seconds: object, made: float | None) -> None:
    """The video of such a job is kept, whatever the server says of it."""
    assert msgspec.convert({"id": "a", "seconds": seconds}, Job).made_seconds == made


def test_a_page_without_end_is_not_read() -> None:
    """Each of its jobs would be compared, and looked up in a table."""
    listing = Listing(SINCE)
    page = Page([msgspec.Raw(b'{"id": "%d"}' % number) for number in range(10_001)], has_more=False)
    assert listing.add(page, None, NOW) is None
    assert (listing.complete, listing.jobs) == (False, [])


@pytest.mark.parametrize(("dated", "ahead"), [(-20, -20.0), (None, None)], ids=["behind", "undated"])
async def test_the_upstreams_clock_is_told_by_the_date_of_its_answer(
    world: World, dated: float | None, ahead: float | None
) -> None:
    """Where the answer bears none, nothing is known of it."""
    date = None if dated is None else format_datetime(NOW + timedelta(seconds=dated), usegmt=True)
    assert (await listed(world, Server([], date=date))).ahead == ahead


async def test_a_date_that_is_none_is_not_believed(world: World) -> None:
    """The list counts all the same."""
    found = await listed(world, Server([job(1, 1)], date="yesterday"))
    assert (found.ahead, len(found.jobs)) == (None, 1)
