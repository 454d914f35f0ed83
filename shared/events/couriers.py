"""Couriers: one orchestration for each destination, which runs while anything is on its way there.

It sends what is due, waits until more is, and ends when nothing is left. Who hands something over
summons it: an event ends its wait, and where none runs one is started. A summons is a hint that may
be lost; the sweep repeats it.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Generator, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from shared.events.deliveries import Deliveries
from shared.events.destination import Destinations
from shared.telemetry.telemetry import DELIVERIES, SILENT, Telemetry

if TYPE_CHECKING:
    import azure.durable_functions as df

logger = logging.getLogger("gateway")

COURIER, DELIVER = "courier", "deliver"
MAIL = "mail"  # the event that says that something new is on its way

# A delivery that raises (storage did not answer) runs again this often; then the courier fails and
# the sweep starts another.
_RETRY_MILLISECONDS, _RETRY_ATTEMPTS = 5_000, 6
# The whole history is replayed at every step, so it is cut off after this many deliveries.
_ROUNDS = 8
_PATIENCE = 5.0  # seconds for one summons


def courier(context: "df.DurableOrchestrationContext") -> Generator[Any, Any, None]:
    """Deliver, wait until more is due or something new comes, and deliver again."""
    destination = context.get_input()
    wait = yield _deliver(context, destination)
    for _ in range(_ROUNDS):
        if wait is None:
            return
        if wait > 0:
            yield from _wait(context, wait)
        wait = yield _deliver(context, destination)
    # Not right after a wait: the engine would deliver the event that ended it to the next execution
    # again.
    if wait is not None:
        context.continue_as_new(destination)


def _deliver(context: "df.DurableOrchestrationContext", destination: str) -> Any:
    import azure.durable_functions as df

    return context.call_activity_with_retry(DELIVER, df.RetryOptions(_RETRY_MILLISECONDS, _RETRY_ATTEMPTS), destination)


def _wait(context: "df.DurableOrchestrationContext", seconds: float) -> Generator[Any, Any, None]:
    timer = context.create_timer(context.current_utc_datetime + timedelta(seconds=seconds))
    yield context.task_any([context.wait_for_external_event(MAIL), timer])
    if not timer.is_completed:
        timer.cancel()


def instance_of(destination: str) -> str:
    """The id of a destination's courier."""
    return f"{COURIER}-{destination}"


class Summoner(Protocol):
    """Wakes a destination's courier, or starts one. Raises where the engine does not answer."""

    async def summon(self, destination: str) -> None: ...


class Couriers(msgspec.Struct):
    """What couriers do, and who calls them.

    They are summoned through the durable client that this process was given last: the host passes
    one to every call of a function that asks for one.
    """

    deliveries: Deliveries
    destinations: Destinations
    telemetry: Telemetry = SILENT
    _summoner: Summoner | None = None

    def go_through(self, summoner: Summoner) -> None:
        self._summoner = summoner

    async def deliver(self, name: str) -> float | None:
        """Send what is due to a destination. Returns the seconds until more is, 0 for at once; None
        where nothing is left, or the destination is no longer configured. May be repeated.
        """
        destination = self.destinations.get(name)
        if destination is None:
            return None
        due = await self.deliveries.due(name)
        if due:
            receipts = await destination.send(due)
            await self.deliveries.settle(destination, receipts)
            self._tell(name, Counter(each.outcome for each in receipts))
        wait = await self.deliveries.wait(name)
        return None if wait is None else max(wait, 0.0)

    async def summon(self, names: Iterable[str]) -> None:
        """Have something new delivered. Failures are only logged: the sweep summons again."""
        if self._summoner is not None:
            await asyncio.gather(*(self._summon(self._summoner, name) for name in names))

    async def summon_where_due(self) -> None:
        """Summon the courier of every destination that something is due for: the net for summonses
        that are lost, and for couriers that have failed. Raises StorageUnavailable.
        """
        waits = {name: await self.deliveries.wait(name) for name in self.destinations}
        await self.summon(name for name, wait in waits.items() if wait is not None and wait <= 0)

    async def _summon(self, summoner: Summoner, name: str) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await summoner.summon(name)
        except Exception as error:  # the client raises a plain Exception where the engine refuses
            logger.info("the courier of %s was not summoned (%s); the sweep will", name, type(error).__name__)

    def _tell(self, name: str, outcomes: Counter[str]) -> None:
        failed = outcomes["later"] + outcomes["refused"]
        if failed:
            logger.warning("%s: %d of %d events were not delivered", name, failed, outcomes.total())
        for outcome, count in outcomes.items():
            self.telemetry.measure(DELIVERIES, count, {"destination": name, "outcome": outcome})
