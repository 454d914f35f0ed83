"""Which video may start on which deployment, and when. Pure: no storage, no clock; times are unix
seconds.

A deployment runs at most `max_running` jobs and gets at most `creates_per_minute` creates in any 60
seconds. The upstream counts a create at some moment between taking the slot and the answer; until
the answer it counts here as happening now.

Waiting is fair by virtual time. A key's jobs get tags one STEP apart, beginning at the virtual time
that the queue has reached, and the lowest tag starts first. So a key with many waiting jobs does
not delay the first job of another key. A key of priority 3 takes steps of a third, and so starts
three jobs for each job of a key of priority 1.
"""

from collections.abc import Iterable

import msgspec

from shared.config.catalog import Deployment

STEP = 60_480  # of virtual time, between two jobs of a key of priority 1; divisible by every priority
HIGHEST_PRIORITY = 10

_WINDOW = 61.0  # the upstream's 60 seconds, and one for its clock
_PATIENCE = 20.0  # seconds that a free slot is kept for the job whose turn it is
_LONGEST_QUEUE = 30  # as a power of two
_FIRST_REST, _LONGEST_REST = 5.0, 300.0  # seconds, of a deployment that fails without saying for how long
_MENDED_WITHIN = 600.0  # seconds: an outage that lasts longer is taken for permanent
_SURELY = 3  # refused connections in a row: the server is gone, and not just busy
_AT_ONCE = 120.0  # seconds: a refusal so soon after reopening continues the earlier outage


class Lease(msgspec.Struct):
    """A slot that a video holds. `ask` is a hash of what the upstream was asked for, `answered` the
    time of its answer, None until then.
    """

    since: float
    ask: str
    tag: int
    answered: float | None = None


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

    `leases` are its slots in use, by video; `creates` the times of recent creates. `free_since` is
    when a slot was last given back, `failures` the number of failures in a row, `unreachable`
    whether it rests because no connection could be made.
    """

    leases: dict[str, Lease] = {}
    creates: list[float] = []
    rests_until: float = 0.0
    failures: int = 0
    outage: Outage | None = msgspec.field(default=None, name="closing")  # the name in stored rows
    free_since: float = 0.0
    unreachable: bool = False


class State(msgspec.Struct):
    """The state of a model. `round` is the virtual time that the queue has reached, `rounds` the
    last tag of each key.
    """

    loads: dict[str, Load] = {}
    waiting: int = 0
    round: int = 0
    rounds: dict[str, int] = {}

    def load(self, deployment: Deployment) -> Load:
        return self.loads.setdefault(deployment.name, Load())

    def holder(self, video_id: str) -> str | None:
        """The deployment whose slot a video holds."""
        return next((name for name, load in self.loads.items() if video_id in load.leases), None)


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
    `upstream_unavailable` where it has refused connections several times in a row.
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
        load.failures = min(load.failures + 1, _LONGEST_QUEUE)
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


def ready_at(deployment: Deployment, load: Load, ask: str, now: float) -> float | None:
    """When the deployment can start a job; None while every slot is taken, or where it is lost.

    None as well while an equal request is unanswered there: if its answer is lost, a job that the
    list shows must be its own.
    """
    if len(load.leases) >= deployment.max_running or is_lost(load, now):
        return None
    if any(lease.ask == ask and lease.answered is None for lease in load.leases.values()):
        return None
    return _openings_of(deployment, load, now)[0]


def _opens(load: Load, now: float) -> float:
    """The earliest time at which a deployment may be asked, after its rest and its outage."""
    why = outage(load, now)
    return max(load.rests_until, why.until if why else now, now)


def ready_now(state: State, deployments: Iterable[Deployment], ask: str, now: float) -> list[Deployment]:
    """The deployments that can start a job now, those with the fewest failures first."""
    ready = [each for each in deployments if ready_at(each, state.load(each), ask, now) == now]
    return sorted(ready, key=lambda each: state.load(each).failures)


def openings(state: State, deployments: Iterable[Deployment], now: float) -> list[float]:
    """The times at which a job can start on each free slot, the soonest first.

    Such a time lies ahead where the deployment rests, is down, or has reached `creates_per_minute`.
    A slot in use has no such time, since nobody knows when its job will end.
    """
    times = [moment for each in deployments for moment in _openings_of(each, state.load(each), now)]
    return sorted(times)


def _openings_of(deployment: Deployment, load: Load, now: float) -> list[float]:
    if is_lost(load, now):
        return []
    creates, opens, most = _counted(load, now), _opens(load, now), deployment.creates_per_minute
    first = len(creates)
    for _ in range(deployment.max_running - len(load.leases)):
        paced = creates[-most] + _WINDOW if len(creates) >= most else opens
        creates.append(max(opens, paced))
    return creates[first:]


def _counted(load: Load, now: float) -> list[float]:
    """The creates that count against `creates_per_minute`, the oldest first; one under way counts
    as happening now.
    """
    under_way = [now for lease in load.leases.values() if lease.answered is None]
    return sorted(each for each in load.creates if each > now - _WINDOW) + under_way


def free_slots(state: State, deployments: Iterable[Deployment], now: float) -> int:
    """How many jobs could start now, on all these deployments together."""
    return sum(moment <= now for moment in openings(state, deployments, now))


def may_start(state: State, deployments: Iterable[Deployment], place: int, now: float) -> bool:
    """Whether the job at this place of the queue (from 0) may take a free slot: there are more free
    slots than jobs before it.

    A slot may stay free because the job whose turn it is sleeps, can only run elsewhere, or has
    lost its orchestration. So after `_PATIENCE` one more job may take it, after twice that three
    more, then seven, and so on.
    """
    open_ones = [each for each in deployments if free_slots(state, [each], now)]
    idle = max((now - _free_since(each, state.load(each), now) for each in open_ones), default=0.0)
    passed = 2 ** min(int(idle / _PATIENCE), _LONGEST_QUEUE) - 1
    return bool(open_ones) and place < free_slots(state, open_ones, now) + passed


def _free_since(deployment: Deployment, load: Load, now: float) -> float:
    """Since when a deployment has been able to start a job. 0 for one that was never used: any job
    may start there at once.
    """
    pace = sorted(load.creates)[-deployment.creates_per_minute :]
    paced = pace[0] + _WINDOW if len(pace) == deployment.creates_per_minute else 0.0
    times = (load.free_since, load.rests_until, load.outage.until if load.outage else 0.0, paced)
    return max(each if each <= now else 0.0 for each in times)


def tag_for(state: State, owner: str, priority: int) -> int:
    """The tag of a key's next job. Stored in `state`, so that the key's next tag is a step
    higher.
    """
    last = state.rounds.get(owner)
    tag = state.round if last is None else max(state.round, last + STEP // priority)
    state.rounds[owner] = tag
    return tag


def take(state: State, deployment: Deployment, video_id: str, lease: Lease) -> None:
    """Give a video a slot, and advance the virtual time to its tag."""
    tag = lease.tag
    state.load(deployment).leases[video_id] = lease
    state.round = max(state.round, tag)
    state.rounds = {owner: last for owner, last in state.rounds.items() if last >= state.round}


def answered(state: State, video_id: str, now: float) -> bool:
    """The create was accepted: count it as one of the last minute, and clear failures and outage of
    its deployment. Returns whether there were any.
    """
    for load in state.loads.values():
        lease = load.leases.get(video_id)
        if lease is not None and lease.answered is None:
            lease.answered = now
            load.creates = [*_recent(load, now), now]
            was_wrong = load.failures > 0 or load.outage is not None
            load.failures, load.outage, load.unreachable = 0, None, False
            return was_wrong
    return False


def give_back(state: State, video_id: str, now: float, *, asked: bool = True) -> Lease | None:
    """Free a video's slot. A create without an answer counts as if it happened now, the latest
    possible time, unless it was never sent (`asked` is False).
    """
    for load in state.loads.values():
        lease = load.leases.pop(video_id, None)
        if lease is not None:
            if lease.answered is None and asked:
                load.creates = [*_recent(load, now), now]
            load.free_since = now
            return lease
    return None


def _recent(load: Load, now: float) -> list[float]:
    """The creates of the last three minutes: longer than they count, because `_free_since` needs
    them.
    """
    return [each for each in load.creates if each > now - 3 * _WINDOW]


def estimated_start(state: State, deployments: Iterable[Deployment], place: int, run_seconds: float, now: float) -> float:
    """When the job at this place should start at the current rate, in unix seconds."""
    able = [each for each in deployments if not is_lost(state.load(each), now)]
    paced = sum(each.creates_per_minute for each in able) / 60
    turned_over = sum(each.max_running for each in able) / max(run_seconds, 1.0)
    rate = min(paced, turned_over)
    opens = min((_opens(state.load(each), now) for each in able), default=now)
    return opens + (place + 1) / rate if rate > 0 else now + 3600.0
