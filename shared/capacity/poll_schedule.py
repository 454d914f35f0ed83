"""When to look at a job again. Pure: seconds in, seconds out.

A running job is looked at rarely while it cannot be done, and often once it may be. Its end is
predicted from the progress it reports, or else from the time that such jobs usually take, which is
learned per model and length. A waiting job is woken at its turn; its own timer fires long after.
"""

from random import Random

import msgspec

_ALMOST = 95.0  # percent of an estimate that has run out
_LEARNING = 0.1  # the weight of the newest job
_CONFIRMED = 5  # jobs: until then a single odd one may have made the estimate
_ODD = 3  # deviations from the mean: nearly all jobs take less
_TELLING = 5  # percent: less progress predicts nothing
_OF_THE_REST = 0.55  # the part of the predicted rest to sleep: predictions get better towards the end
_LOOKS_PER_DEVIATION = 5, 20  # without a prediction: once a quick job would be done, and once most would
_OVERDUE_SHARE = 20  # an overdue job is looked at again after a twentieth of the time it is overdue
_ABOUT_TO_END = 5.0  # seconds before the predicted end in which looking in a row is cheaper than a new step
_LOOKS_A_JOB = 4  # the fewest looks at a job, also at one that takes less than four times `poll_seconds`
_LONGEST = 300.0  # seconds between two looks at a running job
_BEHIND_THE_TURN = 6.0  # times the expected wait: when the timer of a waiting job fires
_SHORTEST_SLEEP, _LONGEST_SLEEP = 120.0, 48 * 3600.0  # seconds, of that timer


class Usual(msgspec.Struct, frozen=True):
    """How long jobs of one model and length take: mean and mean deviation in seconds, learned from
    `jobs` of them.
    """

    mean: float
    deviation: float
    jobs: int = 0

    @property
    def is_confirmed(self) -> bool:
        """Whether enough jobs are known to delay looks because of it."""
        return self.jobs >= _CONFIRMED

    @property
    def quickest(self) -> float:
        """Seconds that a quick job of its kind takes."""
        return max(self.mean - _ODD * self.deviation, self.mean / 8)

    @property
    def longest(self) -> float:
        """Seconds in which nearly all jobs of its kind are done."""
        return self.mean + _ODD * self.deviation


class Pace(msgspec.Struct, frozen=True):
    """Seconds between two looks: `poll_seconds`, and the shortest allowed, `close_poll_seconds`."""

    usual: float
    closest: float


def learn(usual: Usual, seconds: float) -> Usual:
    """The estimate after one more job. The first jobs weigh more; one job alone says nothing of the
    deviation. An odd time counts as one that is just not odd; otherwise a single job would spoil
    the times of looks for dozens of jobs after it.
    """
    if usual.is_confirmed:
        seconds = min(max(seconds, usual.mean - _ODD * usual.deviation), usual.longest)
    mean = usual.mean + max(_LEARNING, 1 / (usual.jobs + 1)) * (seconds - usual.mean)
    deviation = usual.deviation + max(_LEARNING, 1 / (usual.jobs + 2)) * (abs(seconds - mean) - usual.deviation)
    return Usual(mean, max(deviation, 1.0), usual.jobs + 1)


def look_after(elapsed: float, progress: int, usual: Usual, pace: Pace, random: Random, *, moving: bool = False) -> float:
    """Seconds until the next look at a job that has run for `elapsed` seconds and reports
    `progress` percent, which is more than at the last look if it is `moving`.

    A job that may end at any moment is looked at at twice its pace. A kind of job that usually
    takes less than four times as long is looked at four times in its usual time. Nothing is looked
    at more often than the closest pace.
    """
    shortest = min(pace.usual, usual.mean / _LOOKS_A_JOB) if usual.jobs else pace.usual
    closely = max(shortest / 2, pace.closest)
    if progress < _TELLING:
        wait = max(usual.quickest - elapsed, _between_looks(elapsed, usual), closely)
    else:
        # The progress may stop, so never wait longer than the job has run.
        left = _expected_end(elapsed, progress, usual) - elapsed
        wait = max(min(left * _OF_THE_REST, elapsed), closely)
    # An overdue job that does not move may never end, so it is looked at less and less often.
    overdue = 0.0 if moving else elapsed - usual.longest
    longest = _LONGEST if usual.is_confirmed else 3 * pace.usual
    return min(max(wait, overdue / _OVERDUE_SHARE), longest) * random.uniform(1.0, 1.1)


def first_look(elapsed: float, usual: Usual) -> float:
    """Seconds until the first look at a job: until a quick one of its kind would be done. 0.0 if
    too few jobs of its kind are known.
    """
    return min(max(usual.quickest - elapsed, 0.0), _LONGEST) if usual.is_confirmed else 0.0


def _between_looks(elapsed: float, usual: Usual) -> float:
    """Seconds between two looks without a prediction: the likelier the end, the fewer."""
    fewest, most = _LOOKS_PER_DEVIATION
    rise = max(usual.mean - usual.quickest, 1.0)
    likely = min(max((elapsed - usual.quickest) / rise, 0.0), 1.0)
    return usual.deviation / (fewest + (most - fewest) * likely)


def usual_progress(elapsed: float, usual: Usual) -> int:
    """The percent that a job of its kind has usually done by now, at most 95."""
    return int(min(_ALMOST * elapsed / max(usual.mean, 1.0), _ALMOST))


def is_about_to_end(elapsed: float, progress: int, usual: Usual) -> bool:
    """Whether a job's progress predicts its end within seconds."""
    return progress >= _TELLING and _expected_end(elapsed, progress, usual) - elapsed <= _ABOUT_TO_END


def sleep_unless_woken(seconds: float, random: Random) -> float:
    """Seconds until a waiting job looks by itself, if its turn is expected in `seconds`.

    The job is woken when it is offered a slot. This timer is only for wake-ups that are lost, so it
    fires well after the expected turn.
    """
    return min(max(seconds * _BEHIND_THE_TURN, _SHORTEST_SLEEP), _LONGEST_SLEEP) * random.uniform(1.0, 1.1)


def _expected_end(elapsed: float, progress: int, usual: Usual) -> float:
    """Seconds from the start at which the job should be done. The more progress it reports, the
    more its own pace counts against the usual time.
    """
    own, weight = elapsed * 100 / progress, (progress / 100) ** 0.5
    return own * weight + usual.mean * (1 - weight) if usual.jobs else own
