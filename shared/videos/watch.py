"""The watch: an orchestration that has the sweep look while any video is unfinished, and then ends.

A timer as frequent would keep an idle app awake, at a higher cost than everything else that an idle
app does. Starting a video starts the watch. There are two, half a turn apart, so that the sweep
looks every half minute: each look starts the watch that is missing. A watch whose turn comes while
the Python worker is dead fails with all else that was due, and retries do not help; the other one
looks within a minute. Where both are lost, the next create or the sweep's timer (five minutes)
starts the first again.
"""

from collections.abc import Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import azure.durable_functions as df

WATCH, LOOK = "watch", "look"
FIRST_WATCH, SECOND_WATCH = "watch", "second_watch"  # instance ids
EVERY = timedelta(seconds=30)  # from the look of one watch to the look of the other

# A look that raises is repeated for half an hour; then the watch fails, and the other one goes on.
_RETRY_MILLISECONDS, _RETRY_ATTEMPTS = 30_000, 60


def watch(context: "df.DurableOrchestrationContext") -> Generator[Any, Any, None]:
    """Wait, look, and start over while a look finds unfinished videos.

    A watch begins when the other one looks. Its first wait is half a turn, which sets them apart.
    """
    import azure.durable_functions as df

    turn = 2 * EVERY if context.get_input() else EVERY
    yield context.create_timer(context.current_utc_datetime + turn)
    retry = df.RetryOptions(_RETRY_MILLISECONDS, _RETRY_ATTEMPTS)
    unfinished = yield context.call_activity_with_retry(LOOK, retry, None)
    if unfinished:
        context.continue_as_new(True)
