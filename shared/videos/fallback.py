"""Another model in the place of one that cannot serve: moving a video there with its price."""

import logging
from dataclasses import dataclass

from shared.accounts.gateway_budget import GatewayBudget
from shared.accounts.ledger import Ledger
from shared.capacity.pool import Pool
from shared.config.catalog import Catalog, Model
from shared.errors import RequestError
from shared.media.video import Video

logger = logging.getLogger("gateway")


@dataclass(frozen=True)
class Fallback:
    catalog: Catalog
    ledger: Ledger
    budget: GatewayBudget
    pool: Pool

    async def take(self, video: Video, model: Model, *, patient: bool) -> bool:
        """Move the video to the first of its model's fallbacks that can make it and that the budget
        allows; False where there is none.

        A `patient` video has nothing else to wait for, so that a fallback which is down only for a
        moment will do.
        """
        for other in self._able(video, model):
            if await (self.pool.is_lost(other) if patient else self.pool.is_down(other)):
                continue
            if await self._move(video, other):
                await self.pool.leave(model.name, video.id)
                logger.info("video %s falls back from %s to %s", video.id, model.name, other.name)
                return True
        return False

    def _able(self, video: Video, model: Model) -> list[Model]:
        """The fallbacks that make such videos. A remix has none: it runs where its source lives."""
        if video.source_upstream_id:
            return []
        return [
            other
            for other in self.catalog.fallbacks(model)
            if video.seconds in other.capability.seconds
            and video.size in other.capability.sizes
            and other.name != video.fallback_from
        ]

    async def _move(self, video: Video, other: Model) -> bool:
        # Noted there before it is forgotten here: a crash between the two leaves a note too many,
        # which the sweep drops.
        await self.pool.enter(other, video.id)
        price = other.capability.price(video.seconds, video.size)
        try:
            # The dearer of the two is held until the key has the new price: never less is held than
            # is reserved.
            await self.budget.reprice(video.id, max(price, video.cost))
            await self.ledger.move(video.id, other.name, price)
        except RequestError as error:
            logger.info("video %s cannot fall back to %s: %s", video.id, other.name, error.code)
            await self.budget.reprice(video.id, video.cost)
            await self.pool.leave(other.name, video.id)
            return False
        await self.budget.reprice(video.id, price)
        return True
