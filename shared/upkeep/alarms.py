"""Alerts that the sweep finds: closed deployments, models whose videos fail too often, and events
that could not be delivered.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import msgspec

from shared.config.catalog import Model
from shared.events.alerts import Alert
from shared.gateway import Gateway
from shared.media.video import id_bound

_WITHIN = timedelta(hours=1)  # in which videos that failed are counted
_MANY, _RATE = 10, 0.5  # so many ended, and more than this part of them failed
_REMEMBERED = timedelta(days=60)


class Alarms(msgspec.Struct, frozen=True):
    """One run. `attempt` runs one part so that its failure does not stop the others."""

    gateway: Gateway
    attempt: Callable[[Awaitable[None]], Awaitable[bool]]
    now: datetime

    async def run(self) -> None:
        """Find and tell alerts. Nothing is read if no destination wants them."""
        if not self.gateway.journal.listened:
            return
        for model in self.gateway.settings.catalog.models:
            await self.attempt(self._tell(self._closed(model)))
        for destination in self.gateway.couriers.destinations:
            await self.attempt(self._tell(self._undeliverable(destination)))
        await self.attempt(self._tell(self._failing()))
        await self.attempt(self.gateway.alerts.forget(self.now - _REMEMBERED))

    async def _tell(self, found: AsyncIterator[Alert]) -> None:
        async for alert in found:
            await self.gateway.alerts.tell(alert)

    async def _closed(self, model: Model) -> AsyncIterator[Alert]:
        """One alert for each outage of a deployment."""
        for name, outage in (await self.gateway.pool.outages(model)).items():
            reason = f"The deployment {name} of {model.name} is closed: {outage.reason}."
            yield Alert(
                kind="deployment_closed",
                subject=name,
                since=str(outage.since),
                message=reason,
                model=model.name,
                deployment=name,
            )

    async def _undeliverable(self, destination: str) -> AsyncIterator[Alert]:
        """One alert for each day on which events were given up. They stay until they are replayed,
        longer than the note that they were told, so older days are left out.
        """
        last = await self.gateway.couriers.deliveries.last_given_up(destination)
        if last is not None and last >= self.now - _REMEMBERED:
            reason = f"{destination} has not taken events, which were given up: see GET /events/undelivered."
            yield Alert(kind="event_undeliverable", subject=destination, since=str(last.date()), message=reason)

    async def _failing(self) -> AsyncIterator[Alert]:
        """At most one alert an hour for each model, about the videos that were requested within the
        last hour. Those that their callers cancelled do not count.
        """
        ended: dict[str, list[bool]] = {}
        async for _, line in self.gateway.lines.between(before=id_bound(self.now - _WITHIN)):
            if line is not None and not line.cancelled:
                ended.setdefault(line.model, []).append(line.status == "failed")
        for model, failures in ended.items():
            if len(failures) >= _MANY and sum(failures) > _RATE * len(failures):
                hour = f"{self.now.astimezone(UTC):%Y-%m-%dT%H}"
                reason = f"{sum(failures)} of {len(failures)} videos of {model} that were asked for within an hour have failed."
                yield Alert(kind="failure_rate_high", subject=model, since=hour, message=reason, model=model)


def stuck(video_id: str, what: str) -> Alert:
    """The alert that a video did not go on by itself. `what` ends the sentence "The video …"."""
    return Alert(kind="video_stuck", subject=video_id, since=what, message=f"The video {what}.", video_id=video_id)
