"""What many tests need: one real Azurite for the whole run, and a world for each test."""

import asyncio
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from coverage import Coverage
from hypothesis import HealthCheck, settings

from local.azurite import Azurite
from tests.fakes.world import World
from tests.fakes.world import world as open_world

# How long an example takes is the machine's doing, and no finding.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

UNMEASURED = ("tests/project/", "tests/stack/", "tests/trials/")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Coverage is what the tests of modules and of stand-ins reach, each example once.

    Before Python 3.12 measuring doubles to triples the time of everything that runs. Whole stacks,
    trials and generated examples come by the same lines thousands of times, and most of that in
    processes that nobody measures.
    """
    coverage = None if measured(item) else Coverage.current()
    if coverage is None:
        return (yield)
    coverage.stop()
    try:
        return (yield)
    finally:
        coverage.start()


def measured(item: pytest.Item) -> bool:
    return not item.nodeid.startswith(UNMEASURED) and item.get_closest_marker("hypothesis") is None


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connection string of an Azurite that is shared by all tests: name your tables, queues and
    containers apart.
    """
    with asyncio.Runner() as runner:
        storage = Azurite(tmp_path_factory.mktemp("azurite"), keep=False)
        runner.run(storage.__aenter__())
        try:
            yield storage.connection_string
        finally:
            runner.run(storage.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Coroutine tests run on asyncio alone, as the app does."""
    return "asyncio"


@pytest.fixture
async def world(azurite: str, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A world of the test's own. `@pytest.mark.world(knobs={…}, limits={…})` sets options:
    those of `tests.fakes.world.world`. A test's own mark is added to its module's.
    """
    options: dict[str, Any] = {}
    for mark in request.node.iter_markers("world"):  # the test's own comes first
        options = {**mark.kwargs, **options}
    async with open_world(azurite, **options) as opened:
        yield opened
