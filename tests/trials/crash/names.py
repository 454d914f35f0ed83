"""What the crash matrix calls a write: by the rows of a commit, or by what the orchestration engine
does with it.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from local.durable import tables as engine
from local.durable.episode import Turn
from local.durable.protocol import FINAL, EventType
from local.durable.tables import ActivityClaim, Claims
from shared.accounts.spend_lines import SPEND
from shared.events.alerts import TOLD as ALERTS
from shared.events.deliveries import MAIL, POISON
from shared.media.video import GATEWAY_OWNER
from shared.storage.event_marks import UNTOLD
from shared.storage.tables import Delete, Insert, Merge, Replace, Row, Write
from shared.storage.video_store import UPKEEP

_ROWS = {
    "video_": "video",
    "gone_": "gone",
    "old_": "listing",
    "event_": "event",
    "webhook_log_": "history",
    "webhooks": "endpoints",
    "open_": "open line",
    "done_": "line",
    "wait_": "place",
    "once_r": "refusals",
    "once_": "once",
    "hold_": "hold",
    "state": "state",
    "usual": "usual",
    "key": "key",
}
# Leases are only a courtesy between hosts (`local.durable.hub`), and are renewed at no particular
# moment.
_COURTESIES = ("renew", "release")


def commit_name(table: str, partition: str, writes: Sequence[Write]) -> str:
    """`keys[+video ~key]`: the table, or the partition where that says more, and the rows that
    come, change and go.
    """
    place = {"gateway": "keys", "pools": "pool"}[table]
    if partition in ("tokens", "beats", "asks", "copies", GATEWAY_OWNER, SPEND, UPKEEP, POISON, ALERTS, UNTOLD):
        place = partition
    if partition.startswith(MAIL):
        place = "mail"
    return f"{place}[{' '.join(sorted(_row(place, write) for write in writes))}]"


def _row(place: str, write: Write) -> str:
    match write:
        case Insert(key, _):
            sign = "+"
        case Replace(Row(key), _) | Merge(Row(key), _):
            sign = "~"
        case Delete(Row(key)):
            sign = "-"
    if place == "tokens":
        return sign + (kind if (kind := key.partition("_")[0]) in ("alias", "identity") else "token")
    if place in ("mail", POISON):
        return f"{sign}delivery"
    if place in ("asks", "copies", ALERTS, UNTOLD):
        return sign + {"asks": "ask", "copies": "copy", ALERTS: "alert", UNTOLD: "event"}[place]
    kind = next((kind for start, kind in _ROWS.items() if key.startswith(start)), "claim")
    return sign + ("note" if kind == "video" and place == "pool" else kind)


def engine_name(work: Callable[..., Any], result: Any) -> str | None:
    """What a transaction of the task hub was for; None for one that only takes, renews or returns
    leases.

    The store is given closures, each over one statement of `local.durable.tables`.
    """
    statement = next((each for each in work.__code__.co_names if hasattr(engine, each)), "unnamed")
    if statement in _COURTESIES:
        return None
    given = inspect.getclosurevars(work).nonlocals
    match given.get("turn"), given.get("claim"), result:
        case Turn() as turn, _, _:
            return f"{statement} {_what_next(turn)}"
        case _, ActivityClaim() as claim, _:
            return f"{statement} {claim.name}"
        case _, _, Claims() as claims:
            fired = any(each.message["EventType"] == EventType.TIMER_FIRED for each in claims.episodes)
            return "fire timers" if fired else None
    return statement


def _what_next(turn: Turn) -> str:
    if turn.next_input is not None:
        return "begins anew"
    if turn.status in FINAL:
        return "ends"
    return " ".join(f"schedules {each.name or each.kind}" for each in turn.scheduled) or "waits"
