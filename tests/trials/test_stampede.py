from pathlib import Path

import pytest

from tests.trials.stampede import COVERED, CREATES, several_apps, stampede

pytestmark = pytest.mark.anyio


async def test_a_stampede_through_three_processes_stops_at_the_budget(azurite: str, tmp_path: Path) -> None:
    """200 creates of $0.40 at once against $10.00: exactly 25 are accepted, and never more is held
    than the budget.
    """
    async with several_apps(azurite, tmp_path) as apps:
        result = await stampede(apps)
    assert (result.accepted, result.refused, result.others) == (COVERED, CREATES - COVERED, {})
    assert result.most <= 10.0
