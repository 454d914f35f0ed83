"""What many tests need: one real Azurite for the whole run."""

import asyncio
from collections.abc import Iterator

import pytest

from local.azurite import Azurite


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connection string of an Azurite that is shared by all tests: name your tables, queues and
    containers apart.
    """
    with asyncio.Runner() as runner:
        storage = Azurite(tmp_path_factory.mktemp("azurite"))
        runner.run(storage.__aenter__())
        try:
            yield storage.connection_string
        finally:
            runner.run(storage.__aexit__(None, None, None))
