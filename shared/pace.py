"""When to look again. Pure: seconds in, seconds out.

A running job is looked at seldom while it cannot be done, and closely around the time when such a job usually is: what is usual
is learned for every model and length. A waiting job sleeps through half of the time until its turn, again and again.
"""

from random import Random

import msgspec

_LEARNING = 0.1  # the weight of the newest job
_EARLIEST = 0.5  # of the usual time: before it, a look is only for the progress
_LONGEST = 300.0  # seconds between two looks, at anything
_SHORTEST_SLEEP = 2.0


class Usual(msgspec.Struct, frozen=True):
    """How long jobs of a kind take: the mean and the mean deviation, in seconds, and from how many jobs that is known."""

    mean: float
    deviation: float
    jobs: int = 0


def learn(usual: Usual, seconds: float) -> Usual:
    """What is usual after one more job; the first ones count for more."""
    weight = max(_LEARNING, 1 / (usual.jobs + 1))
    mean = usual.mean + weight * (seconds - usual.mean)
    deviation = usual.deviation + weight * (abs(seconds - mean) - usual.deviation)
    return Usual(mean, max(deviation, 1.0), usual.jobs + 1)


def look_after(elapsed: float, progress: int, usual: Usual, shortest: float, random: Random) -> float:
    """Seconds until the next look at a job that has been running for `elapsed` and says it is at `progress` percent.

    `shortest` is the configured pace (`poll_seconds`), which is kept while the job may end any moment.
    """
    end = _expected_end(elapsed, progress, usual)
    left = end - elapsed
    if elapsed > usual.mean + 4 * usual.deviation and left <= 0:
        wait = min((elapsed - usual.mean) / 4, 12 * shortest)  # long overdue: it may never end, so less and less often
    elif left > 2 * shortest:
        # To the time when a quick one of its kind would be done; from there on at the shortest pace.
        wait = left - min(usual.deviation / 2, left / 4) if progress else max(left * _EARLIEST, shortest)
    else:
        wait = shortest
    longest = _LONGEST if usual.jobs else 3 * shortest  # a guess is no reason to stay away
    return min(max(wait, shortest), longest) * random.uniform(0.95, 1.05)


def sleep_until_turn(seconds: float, random: Random) -> float:
    """Seconds to sleep when the turn is expected in `seconds`: half of it, so that a queue that moves faster is noticed."""
    return min(max(seconds / 2, _SHORTEST_SLEEP), _LONGEST * 2) * random.uniform(0.9, 1.1)


def _expected_end(elapsed: float, progress: int, usual: Usual) -> float:
    """Seconds from the start at which the job should be done: the usual, and the more progress it shows, its own pace."""
    if progress < 5 or elapsed <= 0:
        return usual.mean
    own = elapsed * 100 / progress
    weight = progress / 100
    return own * weight + usual.mean * (1 - weight) if usual.jobs else own
