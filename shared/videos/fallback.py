"""Moves a video to another model, at that model's price, if its own cannot make it now."""

import logging

import msgspec

from shared.accounts.gateway_budget import GatewayBudget
from shared.accounts.ledger import Ledger
from shared.capacity.pool import Pool
from shared.config.catalog import Catalog, Model
from shared.errors import RequestError
from shared.media.video import Video

logger = logging.getLogger("gateway")


class Fallback(msgspec.Struct, frozen=True):
    """The configured fallbacks of each model."""

    catalog: Catalog
    ledger: Ledger
    budget: GatewayBudget
    pool: Pool

    async def take(self, video: Video, model: Model, *, patient: bool) -> bool:
        """Move the video to the first of its model's fallbacks that can make it and that the
        budgets allow. Returns False if there is none. Raises StorageUnavailable.

        A `patient` video cannot wait for its own model, so it also moves to a fallback whose outage
        will pass.
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
        """The fallbacks that can make such a video. A remix has no fallback: only the deployment
        that has its source can make it.
        """
        if video.source_upstream_id:
            return []
        return [
            other
            for other in self.catalog.fallbacks(model)
            if video.seconds in other.capability.seconds
            and other.capability.makes(video.size)
            and video.asked.keys() - {"seed"} <= other.capability.parameters.keys()
            and other.name != video.fallback_from
        ]

    async def _move(self, video: Video, other: Model) -> bool:
        # It enters there before it leaves here: a crash in between leaves one row too many, which
        # the sweep deletes.
        await self.pool.enter(other, video.id)
        price = other.capability.price(video.seconds, video.size, video.asked)
        try:
            # Hold the higher of the two prices until the key has reserved the new one, so that the
            # hold is never less than the key's reservation.
            await self.budget.reprice(video.id, max(price, video.cost))
            await self.ledger.move(video.id, other.name, price)
        except RequestError as error:
            logger.info("video %s cannot fall back to %s: %s", video.id, other.name, error.code)
            await self.budget.reprice(video.id, video.cost)
            await self.pool.leave(other.name, video.id)
            return False
        await self.budget.reprice(video.id, price)
        return True
