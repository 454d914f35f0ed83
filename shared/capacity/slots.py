"""Who may start where, and when: the arithmetic of a model's deployments. Pure: no storage, no
clock; times are unix seconds.

A deployment runs at most `max_running` jobs and is asked for at most `creates_per_minute` creates
in any 60 seconds. A create happens somewhere between taking the slot and hearing the answer, so
until it is answered it counts as happening now.

Waiting is fair by virtual time: a key's jobs are tagged one step apart, beginning where the queue
stands, and the lowest tag goes first. However many jobs one key has waiting, another key's first
job is tagged with the next of each. A key of priority 3 takes steps a third as long, and so starts
three jobs for each one of the others.
"""

from collections.abc import Iterable

import msgspec

from shared.config.catalog import Deployment

STEP = 60_480  # of virtual time, between two jobs of a key of priority 1; divisible by every priority
HIGHEST_PRIORITY = 10

_WINDOW = 61.0  # the upstream's 60 seconds, and one for its clock
_PATIENCE = 20.0  # seconds that a free slot waits for the one whose turn it is, before the next may have it
_LONGEST_QUEUE = 30  # as a power of two
_FIRST_REST, _LONGEST_REST = 5.0, 300.0  # seconds, of a deployment that fails without saying for how long
_MENDED_WITHIN = 600.0  # seconds: nobody is mending an outage that lasts longer
_AT_ONCE = 120.0  # seconds: a refusal so soon after reopening continues the earlier outage


class Lease(msgspec.Struct):
    """A slot that a video holds. `ask` tells what was asked for; `answered` is when the create was,
    None while under way.
    """

    since: float
    ask: str
    tag: int
    answered: float | None = None


class Outage(msgspec.Struct):
    """Why nothing is sent to a deployment before `until`. It began at `since`; nobody will mend one
    that is `lost`.
    """

    reason: str
    since: float
    until: float
    lost: bool = False
    request_id: str | None = None


class Load(msgspec.Struct):
    """One deployment now. `free_since` is when it last gave a slot back, `failures` how often it
    has failed in a row, `unreachable` whether it rests because no connection to it could be made.
    """

    leases: dict[str, Lease] = {}
    creates: list[float] = []
    rests_until: float = 0.0
    failures: int = 0
    outage: Outage | None = msgspec.field(default=None, name="closing")  # the name in stored rows
    free_since: float = 0.0
    unreachable: bool = False


class State(msgspec.Struct):
    """A model's whole capacity. `round` is the virtual time that the queue has reached, `rounds`
    the last tag of each key.
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
    """The outage of a deployment, also one that is just over while no job has been accepted
    since.
    """
    return load.outage if load.outage is not None and load.outage.until + _MENDED_WITHIN > now else None


def trouble(load: Load, now: float) -> str | None:
    """Why a deployment may be of no use now: its last outage, or failures in a row that are not
    long ago.
    """
    why = last_outage(load, now)
    if why is not None:
        return why.reason
    return "upstream_unavailable" if load.failures and now < load.rests_until + _MENDED_WITHIN else None


def is_lost(load: Load, now: float) -> bool:
    """Whether a deployment is down for so long that no waiting video should stay bound to it."""
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
    """Send nothing for so many seconds; where nobody has said how many, for longer after each
    failure in a row.

    A deployment that could not be reached may be tried in between by what costs nothing.
    """
    load.unreachable = unreachable
    if seconds is None:
        seconds = min(_FIRST_REST * 2**load.failures, _LONGEST_REST)
        load.failures = min(load.failures + 1, _LONGEST_QUEUE)
    load.rests_until = max(load.rests_until, now + seconds)


def reached(load: Load, now: float) -> None:
    """A deployment that could not be reached answers again: its rest is over. Its failures still
    count until it accepts a job.
    """
    if load.unreachable:
        load.rests_until, load.unreachable = now, False


def is_unreachable(load: Load, now: float) -> bool:
    """Whether a deployment rests because it could not be reached."""
    return load.unreachable and load.rests_until > now


def ready_at(deployment: Deployment, load: Load, ask: str, now: float) -> float | None:
    """When the deployment could start a job, as far as can be known; None while every slot is
    taken, or if it is lost.

    Two equal requests are not under way at once: if one's answer is lost, the job that is found
    must be its own.
    """
    if len(load.leases) >= deployment.max_running or is_lost(load, now):
        return None
    if any(lease.ask == ask and lease.answered is None for lease in load.leases.values()):
        return None
    return _openings_of(deployment, load, now)[0]


def _opens(load: Load, now: float) -> float:
    """When a deployment that rests or is down may be asked again."""
    why = outage(load, now)
    return max(load.rests_until, why.until if why else now, now)


def ready_now(state: State, deployments: Iterable[Deployment], ask: str, now: float) -> list[Deployment]:
    """The deployments that can start a job at this moment, those that do not fail first."""
    ready = [each for each in deployments if ready_at(each, state.load(each), ask, now) == now]
    return sorted(ready, key=lambda each: state.load(each).failures)


def openings(state: State, deployments: Iterable[Deployment], now: float) -> list[float]:
    """When a job can start on each slot that is free, the soonest first.

    That is later than now where a deployment rests, is down, or has had its creates of the last
    minute. A slot that a job holds has no opening, since nobody knows when the job will end.
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
    """The creates that count against the pace, the oldest first; one under way counts as happening
    now.
    """
    under_way = [now for lease in load.leases.values() if lease.answered is None]
    return sorted(each for each in load.creates if each > now - _WINDOW) + under_way


def free_slots(state: State, deployments: Iterable[Deployment], now: float) -> int:
    """How many jobs could start at this moment, over all deployments."""
    return sum(moment <= now for moment in openings(state, deployments, now))


def may_start(state: State, deployments: Iterable[Deployment], place: int, now: float) -> bool:
    """Whether the job at this place of the queue (from 0) may take a free slot: those before it
    have theirs.

    A slot that stays free although somebody waits belongs to a job that sleeps, can run elsewhere
    only, or whose orchestration is gone. After `_PATIENCE` it is passed on to one more, after twice
    that to three, then seven, …
    """
    open_ones = [each for each in deployments if free_slots(state, [each], now)]
    idle = max((now - _free_since(each, state.load(each), now) for each in open_ones), default=0.0)
    passed = 2 ** min(int(idle / _PATIENCE), _LONGEST_QUEUE) - 1
    return bool(open_ones) and place < free_slots(state, open_ones, now) + passed


def _free_since(deployment: Deployment, load: Load, now: float) -> float:
    """Since when a deployment that can start a job could; 0 for one that was never used, which
    anybody may begin with.
    """
    pace = sorted(load.creates)[-deployment.creates_per_minute :]
    paced = pace[0] + _WINDOW if len(pace) == deployment.creates_per_minute else 0.0
    times = (load.free_since, load.rests_until, load.outage.until if load.outage else 0.0, paced)
    return max(each if each <= now else 0.0 for each in times)


def tag_for(state: State, owner: str, priority: int) -> int:
    """The tag of a key's next job; noted, so that the one after it is a step further."""
    last = state.rounds.get(owner)
    tag = state.round if last is None else max(state.round, last + STEP // priority)
    state.rounds[owner] = tag
    return tag


def take(state: State, deployment: Deployment, video_id: str, lease: Lease) -> None:
    """Give a video a slot, and let virtual time go on to its tag."""
    tag = lease.tag
    state.load(deployment).leases[video_id] = lease
    state.round = max(state.round, tag)
    state.rounds = {owner: last for owner, last in state.rounds.items() if last >= state.round}


def answered(state: State, video_id: str, now: float) -> bool:
    """The create was accepted: from now on it counts as one of the last minute, and whatever was
    wrong is over. Whether anything was.
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
    """Free a video's slot. A create that was never answered still counts as one, at the latest
    moment it can have been, unless nothing was `asked`.
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
    """The creates worth keeping: a little longer than they count, to tell since when a deployment
    is free.
    """
    return [each for each in load.creates if each > now - 3 * _WINDOW]


def estimated_start(state: State, deployments: Iterable[Deployment], place: int, run_seconds: float, now: float) -> float:
    """When the job at this place will start, if everything goes on as it does: in unix seconds."""
    able = [each for each in deployments if not is_lost(state.load(each), now)]
    paced = sum(each.creates_per_minute for each in able) / 60
    turned_over = sum(each.max_running for each in able) / max(run_seconds, 1.0)
    rate = min(paced, turned_over)
    opens = min((_opens(state.load(each), now) for each in able), default=now)
    return opens + (place + 1) / rate if rate > 0 else now + 3600.0
