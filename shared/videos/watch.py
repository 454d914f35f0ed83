"""The watch: an orchestration that has the sweep look every half minute while any video is
unfinished, and then ends.

A timer as frequent would keep an idle app awake, at a higher cost than everything else that an idle
app does. Starting a video starts the watch; the sweep's timer starts it again where it was lost.
"""

from collections.abc import Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import azure.durable_functions as df

WATCH, LOOK = "watch", "look"
EVERY = timedelta(seconds=30)

# A look that raises is repeated for half an hour; then the sweep's timer starts a new watch.
_RETRY_MILLISECONDS, _RETRY_ATTEMPTS = 30_000, 60


def watch(context: "df.DurableOrchestrationContext") -> Generator[Any, Any, None]:
    """Wait, look, and start over while a look finds unfinished videos."""
    import azure.durable_functions as df

    yield context.create_timer(context.current_utc_datetime + EVERY)
    retry = df.RetryOptions(_RETRY_MILLISECONDS, _RETRY_ATTEMPTS)
    unfinished = yield context.call_activity_with_retry(LOOK, retry, None)
    if unfinished:
        context.continue_as_new(None)
