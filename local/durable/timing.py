"""The engine's times: how early and late timers fire, and how long work of a dead hub waits."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """All in seconds; the values are the extension's own defaults.

    grain               a timer's delay is cut to a multiple of it, so that it fires that much early
                        at most; 0 fires at the exact time
    shortest_poll       how often a hub looks for due timers and for the work of other processes
                        after it has found some
    longest_poll        how often it does so when there is nothing to do: timers are late by as much
    hold_orchestration  how long the episode of a hub that was killed stays hidden from others
    hold_activity       likewise an activity
    """

    grain: float = 1.0
    shortest_poll: float = 0.05
    longest_poll: float = 30.0
    hold_orchestration: float = 300.0
    hold_activity: float = 300.0

    @property
    def shortest_hold(self) -> float:
        return min(self.hold_orchestration, self.hold_activity)

    def faster(self, speed: float) -> "Timing":
        """The same times divided by `speed`. A hub still looks for work at most as often as
        `shortest_poll` says.
        """
        return Timing(
            self.grain / speed,
            self.shortest_poll,
            max(self.longest_poll / speed, self.shortest_poll),
            self.hold_orchestration / speed,
            self.hold_activity / speed,
        )


PROMPT = Timing(grain=0.0, longest_poll=0.2, hold_orchestration=10.0, hold_activity=10.0)
"""Exact timers and short waits, for tests whose subject is something else."""
