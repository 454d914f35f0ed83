"""What tests of the task hub share."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.clock import VirtualClock
from tests.fakes.engine import START, Generate, Rig, Serve, running


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Runs a hub with these flows until the test is over, with the scripted activities `a` and `b`,
    and `echo`, which returns its input. `options` are those of `Rig`.
    """
    async with AsyncExitStack() as hubs:

        async def run(*flows: Generate, **options: Any) -> Rig:
            named, instant = {flow.__name__: flow for flow in flows}, {"echo": lambda given: given}
            rig = Rig(tmp_path, VirtualClock(START), named, ("a", "b"), instant, **options)
            return await hubs.enter_async_context(running(rig))

        yield run
