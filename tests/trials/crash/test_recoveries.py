"""A video moves again within a minute and a half of any disaster, with Azure's own time-outs."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from tests.trials.crash.matrix import sites_in
from tests.trials.crash.recoveries import DISASTERS, PROMISED, recovery


def test_a_video_moves_again_within_a_minute_and_a_half_of_any_disaster(tmp_path: Path) -> None:
    """At least one of them waits for the time-out of messages that a dead instance holds."""

    async def run() -> None:
        async with AsyncExitStack() as running:
            places = await sites_in(tmp_path, running, len(DISASTERS))
            found = await asyncio.gather(*map(recovery, places, DISASTERS.values()))
        assert [wrong for _, wrongs in found for wrong in wrongs] == []
        seconds = dict(zip(DISASTERS, (moved for moved, _ in found), strict=True))
        assert max(seconds.values()) <= PROMISED, seconds
        assert max(seconds.values()) >= 30, seconds

    asyncio.run(run())
