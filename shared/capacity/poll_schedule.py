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
_LOOKS_PER_DEVIATION_BEFORE, _LOOKS_PER_DEVIATION = 7, 11  # where nothing is promised: before most are done, and from then on
_OVERDUE_SHARE = 20  # of the time by which a job is overdue passes until it is looked at again
_CANNOT_BE_TOLD = 98  # percent of progress from which on a job may as well stand still
_ABOUT_TO_END = 3.5  # seconds that progress promises, within which a look more costs less than a step
_LOOKS_A_JOB = 4  # at the least, of jobs that take less time than so many looks
_SHORTEST_PACE = 1.0  # seconds
_LONGEST = 300.0  # seconds between two looks at a running job
_BEHIND_THE_TURN = 1.5
_SHORTEST_SLEEP = 60.0
_LONGEST_SLEEP = 6 * 3600.0


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

    `shortest` is the configured pace (`poll_seconds`). A job that may end at any moment is looked
    at twice as often. A kind of job that usually takes less than four times the pace is looked at
    four times in its usual time, but not more than once a second.
    """
    if usual.jobs:
        shortest = min(shortest, max(usual.mean / _LOOKS_A_JOB, _SHORTEST_PACE))
    if progress < _TELLING:
        quick = max(usual.mean - 3 * usual.deviation, usual.mean / 8)  # when a quick one of its kind is done
        likely = elapsed >= usual.mean - usual.deviation
        looks = _LOOKS_PER_DEVIATION if likely else _LOOKS_PER_DEVIATION_BEFORE
        wait = max(quick - elapsed, usual.deviation / looks, shortest / 2)
    else:
        # Its progress may stand still: never longer than half of what has passed.
        left = _expected_end(elapsed, progress, usual) - elapsed
        wait = max(min(left * _OF_THE_REST, elapsed / 2), shortest / 2)
    # It may never end, so less and less often.
    overdue = 0.0 if _TELLING <= progress < _CANNOT_BE_TOLD else _overdue(elapsed, usual)
    longest = _LONGEST if usual.jobs else 3 * shortest  # a guess is no reason to stay away
    return min(max(wait, overdue / _OVERDUE_SHARE), longest) * random.uniform(0.95, 1.05)


def is_about_to_end(elapsed: float, progress: int, usual: Usual) -> bool:
    """Whether a job's progress promises its end within seconds, and its kind does not speak against
    it.
    """
    if progress < _TELLING or _overdue(elapsed, usual) > 0:
        return False
    return _expected_end(elapsed, progress, usual) - elapsed <= _ABOUT_TO_END


def _overdue(elapsed: float, usual: Usual) -> float:
    """Seconds by which a job takes longer than all but very few of its kind."""
    return elapsed - usual.mean - 3 * usual.deviation


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
