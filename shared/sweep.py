"""The repair that runs by timer: nothing that was promised stays forgotten."""

import logging
from datetime import timedelta

from shared.gateway import Gateway
from shared.orchestration import Orchestrations

logger = logging.getLogger("gateway")

_STARTING = timedelta(minutes=2)  # younger videos may simply not have got further yet
_ABANDONED = timedelta(minutes=10)  # a row this old without a video belongs to a request that was never admitted


async def sweep(gateway: Gateway, orchestrations: Orchestrations) -> None:
    """Restart missing and dead orchestrations, drop notes of videos that are finished or were never admitted."""
    now = gateway.clock.now()
    for model in gateway.settings.catalog.models:
        async for video_id, entered in gateway.pool.unfinished(model):
            if now - entered < _STARTING:
                continue
            entry = await gateway.ledger.find(video_id)
            if entry is None:
                if now - entered > _ABANDONED:
                    await gateway.budget.release(video_id)
                    await gateway.pool.leave(model.name, video_id)
            elif entry.video.finished:
                await gateway.budget.release(video_id, entry.video.spent)
                await gateway.pool.leave(model.name, video_id)
            elif not await orchestrations.alive(video_id):
                logger.warning("video %s had no living orchestration; starting it", video_id)
                await orchestrations.start(video_id)
