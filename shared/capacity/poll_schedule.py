"""When to look again. Pure: seconds in, seconds out.

A running job is looked at seldom while it cannot be done, and closely when it may be: as its own
progress tells, or else around the time when such a job usually is done, which is learned for every
model and length. A waiting job is woken when its turn has come, and looks by itself long after.
"""

from random import Random

import msgspec

_LEARNING = 0.1  # the weight of the newest job
_TELLING = 5  # percent of progress from which on it tells something
_OF_THE_REST = 0.65  # of the time that progress promises is slept through; promises get better towards the end
_LOOKS_PER_DEVIATION = 4  # where nothing is promised
_LONGEST = 300.0  # seconds between two looks at a running job
_BEHIND_THE_TURN = 1.5
_SHORTEST_SLEEP = 60.0
_LONGEST_SLEEP = 3600.0


class Usual(msgspec.Struct, frozen=True):
    """How long jobs of a kind take: the mean and the mean deviation, in seconds, and from how many
    jobs that is known.
    """

    mean: float
    deviation: float
    jobs: int = 0


def learn(usual: Usual, seconds: float) -> Usual:
    """What is usual after one more job; the first ones count for more. One job alone says nothing
    of the deviation.
    """
    mean = usual.mean + max(_LEARNING, 1 / (usual.jobs + 1)) * (seconds - usual.mean)
    deviation = usual.deviation + max(_LEARNING, 1 / (usual.jobs + 2)) * (abs(seconds - mean) - usual.deviation)
    return Usual(mean, max(deviation, 1.0), usual.jobs + 1)


def look_after(elapsed: float, progress: int, usual: Usual, shortest: float, random: Random) -> float:
    """Seconds until the next look at a job that has been running for `elapsed` and says it is at
    `progress` percent.

    `shortest` is the configured pace (`poll_seconds`); only a job that is all but done is looked at
    twice as often.
    """
    if progress < _TELLING:
        quick = max(usual.mean - 2.5 * usual.deviation, usual.mean / 5)  # when a quick one of its kind is done
        wait = max(quick - elapsed, usual.deviation / _LOOKS_PER_DEVIATION, shortest)
    else:
        # Its progress may stand still: never longer than half of what has passed.
        left = _expected_end(elapsed, progress, usual) - elapsed
        wait = max(min(left * _OF_THE_REST, elapsed / 2), shortest / 2)
    overdue = elapsed - usual.mean - 3 * usual.deviation  # it may never end, so less and less often
    longest = _LONGEST if usual.jobs else 3 * shortest  # a guess is no reason to stay away
    return min(max(wait, overdue / 10), longest) * random.uniform(0.95, 1.05)


def sleep_unless_woken(seconds: float, random: Random) -> float:
    """Seconds until a waiting job looks by itself, where its turn is expected in `seconds`.

    Whoever frees a slot wakes it, so that this is the net for wake-ups that are lost: it lies well
    behind the turn.
    """
    return min(max(seconds * _BEHIND_THE_TURN, _SHORTEST_SLEEP), _LONGEST_SLEEP) * random.uniform(1.0, 1.1)


def _expected_end(elapsed: float, progress: int, usual: Usual) -> float:
    """Seconds from the start at which the job should be done: the more progress it shows, the more
    by its own pace.
    """
    own, weight = elapsed * 100 / progress, (progress / 100) ** 0.5
    return own * weight + usual.mean * (1 - weight) if usual.jobs else own
