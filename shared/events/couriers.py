"""Couriers: one orchestration for each destination, which runs while deliveries wait for it.

A courier sends the deliveries that are due, waits until the next one is, and ends when none is
left. Code that adds a delivery summons the courier: if it runs, an event ends its wait; if not, it
is started. A summons may be lost; the sweep repeats it.
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
MAIL = "mail"  # the event that tells a courier of a new delivery

# The activity raises if storage does not answer. After so many attempts the courier fails, and the
# sweep starts another.
_RETRY_MILLISECONDS, _RETRY_ATTEMPTS = 5_000, 6
# The engine replays the whole history at every step, so it starts anew after so many activities.
_ROUNDS = 8
_PATIENCE = 5.0  # seconds for one summons


def courier(context: "df.DurableOrchestrationContext") -> Generator[Any, Any, None]:
    """Send what is due, wait until more is due or a summons comes, and send again."""
    destination = context.get_input()
    wait = yield _deliver(context, destination)
    for _ in range(_ROUNDS):
        if wait is None:
            return
        if wait > 0:
            yield from _wait(context, wait)
        wait = yield _deliver(context, destination)
    # Continue only after an activity. Right after a wait, the engine would hand the event that
    # ended the wait to the next execution too.
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
    """Wakes a destination's courier, or starts one. Raises if the engine does not answer."""

    async def summon(self, destination: str) -> None: ...


class Couriers(msgspec.Struct):
    """The work of the couriers, and the way to summon them.

    A summons goes through the durable client that this process was given last: the host passes one
    to each call of a function that has a client binding.
    """

    deliveries: Deliveries
    destinations: Destinations
    telemetry: Telemetry = SILENT
    _summoner: Summoner | None = None

    def go_through(self, summoner: Summoner) -> None:
        """Summon through this client from now on."""
        self._summoner = summoner

    async def deliver(self, name: str) -> float | None:
        """Send what is due to a destination. Returns the seconds until more is due (0: at once), or
        None if nothing is left or the destination is no longer configured. May be repeated. Raises
        StorageUnavailable.
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
        """Have new deliveries sent. Failures are only logged: the sweep summons again."""
        if self._summoner is not None:
            await asyncio.gather(*(self._summon(self._summoner, name) for name in names))

    async def summon_where_due(self) -> None:
        """Summon the courier of each destination that has deliveries due. This repairs a summons
        that was lost and a courier that failed. Raises StorageUnavailable.
        """
        waits = {name: await self.deliveries.wait(name) for name in self.destinations}
        await self.summon(name for name, wait in waits.items() if wait is not None and wait <= 0)

    async def _summon(self, summoner: Summoner, name: str) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await summoner.summon(name)
        except Exception as error:  # the client raises a plain Exception if the engine refuses
            logger.info("the courier of %s was not summoned (%s); the sweep will", name, type(error).__name__)

    def _tell(self, name: str, outcomes: Counter[str]) -> None:
        failed = outcomes["later"] + outcomes["refused"]
        if failed:
            logger.warning("%s: %d of %d events were not delivered", name, failed, outcomes.total())
        for outcome, count in outcomes.items():
            self.telemetry.measure(DELIVERIES, count, {"destination": name, "outcome": outcome})
