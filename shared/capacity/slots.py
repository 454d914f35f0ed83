"""Which video may start on which deployment, and when. Pure: no storage, no clock; times are unix
seconds.

A deployment runs at most `max_running` jobs and gets at most `creates_per_minute` creates in any 60
seconds. The upstream counts a create at some moment between taking the slot and the answer; until
the answer it counts here as happening now.

Waiting is fair by virtual time. A key's jobs get tags one STEP apart, beginning at the virtual time
that the queue has reached, and the lowest tag starts first. So a key with many waiting jobs does
not delay the first job of another key. A key of priority 3 takes steps of a third, and so starts
three jobs for each job of a key of priority 1.

A free slot is offered to a waiting video, which takes the offer up once it is awake. An offer that
is not taken up within `_PATIENCE` lapses.
"""

from bisect import insort
from collections.abc import Iterable

import msgspec

from shared.config.catalog import Deployment

STEP = 60_480  # of virtual time, between two jobs of a key of priority 1; divisible by every priority
HIGHEST_PRIORITY = 10

_WINDOW = 61.0  # the upstream's 60 seconds, and one for its clock
_PATIENCE = 20.0  # seconds that a slot is kept for the video that it was offered to
_MOST_FAILURES = 30  # that are counted: the rest after each failure doubles
_FIRST_REST, _LONGEST_REST = 5.0, 300.0  # seconds, of a deployment that fails without saying for how long
_MENDED_WITHIN = 600.0  # seconds: an outage that lasts longer is taken for permanent
_SURELY = 3  # refused connections in a row: the server is gone, and not just busy
_AT_ONCE = 120.0  # seconds: a refusal so soon after reopening continues the earlier outage


class Lease(msgspec.Struct, omit_defaults=True):
    """A slot that a video holds. `ask` is what `ask_of` says of its create, `answered` the time of
    its answer, None until then.

    An `offered` slot is kept for a video that has not taken it up, and may not do so before
    `since`. A `bound` video can use no other deployment. A video is `followed` if an equal one in
    the queue waits for its answer.
    """

    since: float
    ask: str
    tag: int
    answered: float | None = None
    offered: bool = False
    bound: bool = False
    followed: bool = False


class Outage(msgspec.Struct):
    """Why nothing is sent to a deployment before `until`. `since` is when it began. A `lost`
    deployment will not come back before then.
    """

    reason: str
    since: float
    until: float
    lost: bool = False
    request_id: str | None = None


class Load(msgspec.Struct):
    """The state of one deployment.

    `leases` are its slots in use, by video; `creates` the times of recent creates. `failures` is
    the number of failures in a row, `unreachable` whether it rests because no connection could be
    made.
    """

    leases: dict[str, Lease] = {}
    creates: list[float] = []
    rests_until: float = 0.0
    failures: int = 0
    outage: Outage | None = msgspec.field(default=None, name="closing")  # the name in stored rows
    unreachable: bool = False


class State(msgspec.Struct):
    """The state of some of a model's deployments. `round` is the virtual time that the queue has
    reached on them, `rounds` the last tags of some keys.
    """

    loads: dict[str, Load] = {}
    round: int = 0
    rounds: dict[str, int] = {}

    def load(self, deployment: str) -> Load:
        """The state of a deployment, an empty one if it has none."""
        return self.loads.setdefault(deployment, Load())


def outage(load: Load, now: float) -> Outage | None:
    """The outage that a deployment is in now."""
    return load.outage if load.outage is not None and load.outage.until > now else None


def last_outage(load: Load, now: float) -> Outage | None:
    """The outage of a deployment. One that has ended still counts for `_MENDED_WITHIN`, unless a
    job was accepted since.
    """
    return load.outage if load.outage is not None and load.outage.until + _MENDED_WITHIN > now else None


def closed_by(load: Load, now: float) -> str | None:
    """Why nobody should wait for a deployment now: the reason of its outage, or
    `upstream_unavailable` if it has refused connections several times in a row.
    """
    why = outage(load, now)
    if why is not None:
        return why.reason
    return "upstream_unavailable" if is_unreachable(load, now) and load.failures >= _SURELY else None


def trouble(load: Load, now: float) -> str | None:
    """Why a deployment may not be usable now: the reason of its last outage, or
    `upstream_unavailable` after recent failures in a row.
    """
    why = last_outage(load, now)
    if why is not None:
        return why.reason
    return "upstream_unavailable" if load.failures and now < load.rests_until + _MENDED_WITHIN else None


def is_lost(load: Load, now: float) -> bool:
    """Whether a deployment's outage is `lost`, or lasts for more than ten minutes, so that no
    waiting video should stay bound to it.
    """
    why = outage(load, now)
    return why is not None and (why.lost or now - why.since >= _MENDED_WITHIN)


def take_down(load: Load, reason: str, now: float, seconds: float, *, lost: bool, request_id: str | None) -> None:
    """Send nothing to a deployment for so many seconds.

    A refusal within 120 s of reopening continues the earlier outage: `since` keeps its first time.
    """
    before = load.outage
    if before is not None and before.lost and before.until > now and not lost:
        return
    since = before.since if before is not None and now - before.until < _AT_ONCE else now
    load.outage = Outage(reason, since, now + seconds, lost, request_id)


def rest(load: Load, now: float, seconds: float | None, *, unreachable: bool = False) -> None:
    """Send nothing to a deployment for `seconds`; with None, for longer after each failure in a
    row.

    A deployment that is `unreachable` may be tested meanwhile with a request that makes no job.
    """
    load.unreachable = unreachable
    if seconds is None:
        seconds = min(_FIRST_REST * 2**load.failures, _LONGEST_REST)
        load.failures = min(load.failures + 1, _MOST_FAILURES)
    load.rests_until = max(load.rests_until, now + seconds)


def reached(load: Load, now: float) -> None:
    """A deployment that could not be reached answers again: end its rest. Its failures count until
    it accepts a job.
    """
    if load.unreachable:
        load.rests_until, load.unreachable = now, False


def is_unreachable(load: Load, now: float) -> bool:
    """Whether a deployment rests because it could not be reached."""
    return load.unreachable and load.rests_until > now


def _opens(load: Load, now: float) -> float:
    """The earliest time at which a deployment may be asked, after its rest and its outage."""
    why = outage(load, now)
    return max(load.rests_until, why.until if why else now, now)


def openings(deployment: Deployment, load: Load, now: float) -> list[float]:
    """The times at which a job can start on each free slot, the soonest first.

    Such a time lies ahead if the deployment rests, is down, or has reached `creates_per_minute`.
    A slot in use has no such time, since nobody knows when its job will end.
    """
    if not has_openings(deployment, load, now):
        return []
    free, opens = deployment.max_running - len(load.leases), _opens(load, now)
    creates = _creates(load, load.leases.values(), now)
    if len(creates) + free <= deployment.creates_per_minute:
        return [opens] * free
    times: list[float] = []
    for _ in range(free):
        times.append(max(opens, _paced(deployment, creates)))
        insort(creates, times[-1])
    return times


def has_openings(deployment: Deployment, load: Load, now: float) -> bool:
    """Whether there are openings, without working them out: there may be thousands."""
    return len(load.leases) < deployment.max_running and not is_lost(load, now)


def open_soon(deployment: Deployment, load: Load, now: float) -> list[float]:
    """The openings that can be offered. A deployment that rests or is down has none, since that may
    last longer than it says; one that has reached `creates_per_minute` has.
    """
    return openings(deployment, load, now) if is_open(deployment, load, now) else []


def is_open(deployment: Deployment, load: Load, now: float) -> bool:
    """Whether there are openings that can be offered."""
    return _opens(load, now) <= now and has_openings(deployment, load, now)


def may_create_at(deployment: Deployment, load: Load, video_id: str, now: float) -> float | None:
    """When a video may take up its offer. None if the deployment rests or is down by now."""
    if _opens(load, now) > now:
        return None
    offer = load.leases[video_id]
    before = [each for each in load.leases.values() if not each.offered or each.since < offer.since]
    return max(now, _paced(deployment, _creates(load, before, now)))


def _creates(load: Load, leases: Iterable[Lease], now: float) -> list[float]:
    """The creates that count against `creates_per_minute`, in order. One under way counts as
    happening now, an offered slot as a create at its time.
    """
    under_way = (max(each.since, now) if each.offered else now for each in leases if each.answered is None)
    return sorted([*load.creates, *under_way])


def _paced(deployment: Deployment, creates: list[float]) -> float:
    """When one more create is allowed by `creates_per_minute`. `creates` are in order."""
    most = deployment.creates_per_minute
    return creates[-most] + _WINDOW if len(creates) >= most else 0.0


def lapsed(lease: Lease, now: float) -> bool:
    """Whether an offer was not taken up in time: its video was not woken, or has lost its
    orchestration.
    """
    return lease.offered and lease.since + _PATIENCE < now


def next_tag(reached: int, last: int | None, priority: int) -> int:
    """The tag of a key's next job after the one tagged `last`, at the virtual time `reached`."""
    return reached if last is None else max(reached, last + STEP // priority)


def take(state: State, deployment: str, video_id: str, lease: Lease) -> None:
    """Give a video a slot, and advance the virtual time to its tag."""
    state.load(deployment).leases[video_id] = lease
    state.round = max(state.round, lease.tag)
    state.rounds = {owner: last for owner, last in state.rounds.items() if last >= state.round}


def answered(load: Load, video_id: str, now: float) -> bool:
    """The create was accepted: count it as one of the last minute, and clear failures and outage of
    its deployment. Returns whether there were any.
    """
    lease = load.leases.get(video_id)
    if lease is None or lease.answered is not None:
        return False
    lease.answered = now
    load.creates = [*_recent(load, now), now]
    was_wrong = load.failures > 0 or load.outage is not None
    load.failures, load.outage, load.unreachable = 0, None, False
    return was_wrong


def give_back(load: Load, video_id: str, now: float, *, asked: bool = True) -> Lease | None:
    """Free a video's slot. A create without an answer counts as if it happened now, the latest
    possible time, unless it was never sent (`asked` is False).
    """
    lease = load.leases.pop(video_id, None)
    if lease is not None and lease.answered is None and asked and not lease.offered:
        load.creates = [*_recent(load, now), now]
    return lease


def _recent(load: Load, now: float) -> list[float]:
    """The creates that still count."""
    return [each for each in load.creates if each > now - _WINDOW]


def estimated_start(loads: Iterable[tuple[Deployment, Load]], place: int, run_seconds: float, now: float) -> float:
    """When the job at this place should start at the current rate, in unix seconds."""
    able = [(deployment, load) for deployment, load in loads if not is_lost(load, now)]
    paced = sum(each.creates_per_minute for each, _ in able) / 60
    turned_over = sum(each.max_running for each, _ in able) / max(run_seconds, 1.0)
    rate = min(paced, turned_over)
    opens = min((_opens(load, now) for _, load in able), default=now)
    return opens + (place + 1) / rate if rate > 0 else now + 3600.0
