"""The watch: an orchestration that runs the sweep while any video is unfinished, and then ends.

A timer trigger as frequent would keep an idle app awake, and cost more than everything else that an
idle app does. There are two watches, which look in turn. Starting a video starts the watch whose
turn comes next, and every look starts both. If a watch's turn comes while the Python worker is
dead, the watch fails, and retries do not help; the other one looks a little later and starts it
again. If both have failed, the next create or the sweep's timer (five minutes) starts them. A watch
whose message was lost is running to the engine for ever: the sweep knows it, as it knows a video's
orchestration, by the time at which its custom status says that it is due.

A stuck video moves again within 90 s, even if one watch is lost: two times `EVERY` and the sweep's
`PATIENCE` are less.
"""

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import azure.durable_functions as df

WATCH, LOOK = "watch", "look"
FIRST_WATCH, SECOND_WATCH = WATCHES = ("watch", "second_watch")  # instance ids
EVERY = timedelta(seconds=20)  # from the look of one watch to the look of the other
_LONGEST_LOOK = timedelta(minutes=5)  # one that takes longer is taken for lost

# A timer may fire a second early. A turn counts as over from five seconds before it, so that the
# watch does not wait for the same turn again.
_EARLY = timedelta(seconds=5)
# A look that raises is repeated until the other watch replaces this one, for half an hour at most.
_RETRY_MILLISECONDS, _RETRY_ATTEMPTS = 30_000, 60


def watch(context: "df.DurableOrchestrationContext") -> Generator[Any, Any, None]:
    """Wait for this watch's turn, look, and start over while a look finds unfinished videos."""
    import azure.durable_functions as df

    turn = _next_turn(context.instance_id, context.current_utc_datetime)
    context.set_custom_status({"step": LOOK, "until": turn.isoformat()})
    yield context.create_timer(turn)
    over = context.current_utc_datetime + _LONGEST_LOOK
    context.set_custom_status({"step": LOOK, "until": over.isoformat()})
    retry = df.RetryOptions(_RETRY_MILLISECONDS, _RETRY_ATTEMPTS)
    unfinished = yield context.call_activity_with_retry(LOOK, retry, None)
    if unfinished:
        context.continue_as_new(None)


def next_watch(now: datetime) -> str:
    """The watch whose turn comes next. The other one may have just looked, found nothing
    unfinished, and be about to end.
    """
    return min(WATCHES, key=lambda each: _next_turn(each, now))


def _next_turn(instance: str, now: datetime) -> datetime:
    """A watch's next turn. It is computed from the time alone, so that the watches stay apart
    whenever they were started.
    """
    turn, first = len(WATCHES) * EVERY, datetime.fromtimestamp(0, UTC) + WATCHES.index(instance) * EVERY
    return first + ((now + _EARLY - first) // turn + 1) * turn
