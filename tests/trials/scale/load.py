"""Who asks for what, when: bursts of some keys, trickles of the others; and how an ideal queue
would have served them.
"""

import heapq
import math
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

BURST, PRIORITY, TRICKLE = "burst", "burst, priority 3", "trickle"

_LENGTHS = {4: (0.5, 75.0), 8: (0.3, 140.0), 12: (0.2, 220.0)}  # seconds of video: how often, and the median of its render
_SPREAD = 0.35  # of the logarithm of a render time
_SHORTEST, _LONGEST = 30.0, 1200.0
_ODD = 0.01  # of all renders take any time up to the longest
_WINDOW = 60.0


@dataclass(frozen=True)
class Plan:
    """A simulation. `refreshed` progress tells the truth more or less; without it the upstream says
    0 until it is done.
    """

    videos: int = 10_000
    deployments: int = 5
    keys: int = 200
    instances: int = 4
    max_running: int = 2
    creates_per_minute: int = 2
    progress: bool = True
    seed: int = 1

    @property
    def slots(self) -> int:
        return self.deployments * self.max_running


@dataclass(frozen=True, order=True)
class Request:
    """One create: `at` and `render` in seconds, `key` a number, `prompt` its own."""

    at: float
    key: int
    prompt: str = field(compare=False)
    seconds: int = field(compare=False)
    render: float = field(compare=False)
    kind: str = field(compare=False)


def kind_of(key: int, plan: Plan) -> str:
    """A tenth of the keys make bursts; a quarter of those have priority 3."""
    bursting = max(1, plan.keys // 10)
    return TRICKLE if key >= bursting else PRIORITY if key % 4 == 3 else BURST


def requests(plan: Plan) -> list[Request]:
    """Four fifths of the videos come in bursts during the first third of the time, the others
    evenly over most of it.
    """
    random = Random(plan.seed)
    bursts = [key for key in range(plan.keys) if kind_of(key, plan) != TRICKLE]
    trickles = [key for key in range(plan.keys) if kind_of(key, plan) == TRICKLE]
    time = plan.videos * 130.0 / plan.slots  # that rendering them all takes, about
    made: list[tuple[float, int]] = []
    in_bursts = plan.videos * 4 // 5 if trickles else plan.videos
    share = math.ceil(in_bursts / (2 * len(bursts)))
    while len(made) < in_bursts:
        key, start = bursts[len(made) // share % len(bursts)], random.uniform(0, time / 3)
        made += [(start + 0.1 * number, key) for number in range(min(share, in_bursts - len(made)))]
    made += [(random.uniform(0, time * 0.8), random.choice(trickles)) for _ in range(plan.videos - in_bursts)]
    return [_request(at, key, number, plan, random) for number, (at, key) in enumerate(sorted(made))]


def _request(at: float, key: int, number: int, plan: Plan, random: Random) -> Request:
    (seconds,) = random.choices(list(_LENGTHS), [often for often, _ in _LENGTHS.values()])
    render = min(max(_LENGTHS[seconds][1] * random.lognormvariate(0.0, _SPREAD), _SHORTEST), _LONGEST)
    if random.random() < _ODD:
        render = random.uniform(_SHORTEST, _LONGEST)
    return Request(at, key, f"Video {number}", seconds, render, kind_of(key, plan))


def ideal_waits(plan: Plan, asked: Sequence[Request]) -> dict[str, float]:
    """Seconds that each prompt waits where nobody sleeps: whenever a slot is free, the key whose
    turn it is starts a job.

    Keys take turns, one job each, and those of priority 3 three; the limits are the upstream's.
    """
    waiting: defaultdict[int, deque[Request]] = defaultdict(deque)
    served: defaultdict[int, float] = defaultdict(float)  # virtual time of a key's last start
    running: list[list[float]] = [[] for _ in range(plan.deployments)]
    starts: list[deque[float]] = [deque(maxlen=plan.creates_per_minute) for _ in range(plan.deployments)]
    moments = [(each.at, number) for number, each in enumerate(asked)]
    heapq.heapify(moments)
    waits: dict[str, float] = {}
    virtual = 0.0
    while moments:
        now, number = heapq.heappop(moments)
        if number >= 0:
            waiting[asked[number].key].append(asked[number])
        for ends, begun in zip(running, starts, strict=True):
            ends[:] = [each for each in ends if each > now]
            while any(waiting.values()) and len(ends) < plan.max_running:
                if len(begun) == plan.creates_per_minute and begun[0] + _WINDOW > now:
                    heapq.heappush(moments, (begun[0] + _WINDOW, -1))
                    break
                turns = {key: max(served[key], virtual) for key, queue in waiting.items() if queue}
                key = min(turns, key=lambda each: (turns[each], waiting[each][0].at))
                virtual = turns[key]
                request = waiting[key].popleft()
                served[key] = virtual + (1 / 3 if request.kind == PRIORITY else 1)
                waits[request.prompt] = now - request.at
                begun.append(now)
                ends.append(now + request.render)
                heapq.heappush(moments, (now + request.render, -1))
    return waits
