"""The watch: an orchestration beside the videos' own. While anything is unfinished it has the sweep
look every half minute; then it ends.

A timer that looked as often would keep an idle app awake, which costs more than all else that an
idle app does. Whatever starts a video also starts the watch; the sweep's timer does it again where
the watch itself was lost.
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
    """Wait, look, and begin anew while a look finds anything unfinished."""
    import azure.durable_functions as df

    yield context.create_timer(context.current_utc_datetime + EVERY)
    retry = df.RetryOptions(_RETRY_MILLISECONDS, _RETRY_ATTEMPTS)
    unfinished = yield context.call_activity_with_retry(LOOK, retry, None)
    if unfinished:
        context.continue_as_new(None)
