"""What the sweep learns from the engine, through the real client and the stand-in."""

import asyncio
from collections.abc import AsyncIterator, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import pytest
from azure.durable_functions.models.utils.http_utils import _close_session

from shared.upkeep.engine import DurableEngine, Status
from shared.videos.orchestration import VIDEO_LIFE
from shared.videos.watch import WATCH
from tests.fakes.engine import orchestrator
from tests.trials.engine.engines import stand_in

pytestmark = pytest.mark.anyio

VIDEO = "video_7e6a1c0ffee0a1b2c3d4000000000001"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _fails(context: df.DurableOrchestrationContext) -> Generator[Any, Any, None]:
    yield context.create_timer(context.current_utc_datetime)
    raise ZeroDivisionError


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[DurableEngine]:
    """One on which every recipe fails."""
    recipes = {VIDEO_LIFE: orchestrator(_fails), WATCH: orchestrator(_fails)}
    async with stand_in(tmp_path, recipes, {}) as served:
        yield DurableEngine(df.DurableOrchestrationClient(served.binding))
        await _close_session()


async def failed(engine: DurableEngine) -> Status:
    while VIDEO not in await engine.failed():  # noqa: ASYNC110 - the client can only be asked
        await asyncio.sleep(0.02)
    status = await engine.status(VIDEO)
    assert status is not None
    return status


async def test_failures_in_a_row_are_counted_in_the_input(engine: DurableEngine) -> None:
    """Nothing else remembers them."""
    assert await engine.status(VIDEO) is None
    await engine.start(VIDEO)
    assert (await failed(engine)).failures == 1
    await engine.start(VIDEO, restarts=4)
    status = await failed(engine)
    assert (status.living, status.failures) == (False, 5)


@pytest.mark.parametrize(("restarts", "pause"), [(0, 0), (1, 30), (2, 60), (3, 120), (9, 3600), (10_000, 3600)])
def test_pauses_double_to_an_hour(restarts: int, pause: int) -> None:
    status = Status(living=False, due=None, restarts=restarts, failed_at=NOW)
    assert not status.rests(NOW + timedelta(seconds=pause))
    assert not pause or status.rests(NOW + timedelta(seconds=pause - 1))
