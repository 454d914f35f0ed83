"""What many tests need: one real Azurite for the whole run, and a world for each test."""

import asyncio
import os
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextlib import contextmanager
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


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "worlds have Azurite's tables instead of tables in memory; unit tests without a world are left out"
    parser.addoption("--real-tables", action="store_true", help=told)


COVERAGE = pytest.StashKey[Coverage | None]()
MEASURED = pytest.StashKey[set[str]]()
UNMEASURED = ("tests/project/", "tests/stack/", "tests/trials/")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Coverage is what imports reach, and the tests of modules and of stand-ins, each once.

    Before Python 3.12 measuring doubles the time of everything that runs. So one worker of several
    measures what imports reach; fixtures, whole stacks, trials, generated examples and all but the
    first parameters of a test come by the same lines thousands of times, and are not measured.
    """
    coverage = session.config.stash[COVERAGE] = alone(Coverage.current())
    measures = os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0"
    with switched(None if measures else coverage, on=False):
        return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--real-tables"):
        items[:] = [item for item in items if not item.nodeid.startswith("tests/unit/") or "world" in fixtures(item)]
    first = {item.nodeid.partition("[")[0]: item for item in reversed(items)}
    config.stash[MEASURED] = {item.nodeid for item in first.values() if measured(item)}


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    with switched(session.config.stash[COVERAGE], on=False):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    is_measured = item.nodeid in item.config.stash[MEASURED]
    with switched(item.config.stash[COVERAGE] if is_measured else None, on=True):
        return (yield)


def alone(coverage: Coverage | None) -> Coverage | None:
    """The one that is measuring, as the only one. In a worker the plugin starts two, one on top of
    the other: where the upper one stops, the lower one goes on, and nobody reads what it measured.
    """
    while running := Coverage.current():
        running.stop()
    if coverage:
        coverage.start()
    return coverage


@contextmanager
def switched(coverage: Coverage | None, *, on: bool) -> Iterator[None]:
    """Measures coverage, or does not, until the block ends; then it is as it was before."""
    if coverage is None:
        yield
        return
    into, back = (coverage.start, coverage.stop) if on else (coverage.stop, coverage.start)
    into()
    try:
        yield
    finally:
        back()


def fixtures(item: pytest.Item) -> Sequence[str]:
    return getattr(item, "fixturenames", ())


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
    options: dict[str, Any] = {"real_tables": request.config.getoption("--real-tables")}
    for mark in request.node.iter_markers("world"):  # the test's own comes first
        options = {**mark.kwargs, **options}
    async with open_world(azurite, **options) as opened:
        yield opened
