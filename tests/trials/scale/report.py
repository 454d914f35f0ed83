"""What the scale simulation found, as goals and tables."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

from tests.fakes.table import Kind
from tests.trials.bench.report import figure, percentile
from tests.trials.scale.engine import Engine
from tests.trials.scale.load import BURST, PRIORITY, TRICKLE, Plan
from tests.trials.scale.tables import Operations
from tests.trials.scale.upstream import SimulatedDeployment

# Goals, a video, in the mean: table operations, wakes while waiting; looks at the upstream and
# seconds from the upstream's completion to ours, with progress and without.
_OPERATIONS, _WAKES = 40.0, 3.0
_POLLS, _LAG = 12.0, 2.0
_SILENT_POLLS, _SILENT_LAG = 28.0, 4.0
_PARTS = ("create", "submit", "check", "save", "finish", "sweep", "other")
_KINDS: tuple[Kind, ...] = ("point read", "page of a range", "transaction", "lost race")


@dataclass(frozen=True)
class Life:
    """One video: seconds it waited, and would have in an ideal queue; looks at its job, and those
    that came too soon; seconds from its end to ours.
    """

    kind: str
    completed: bool
    wait: float
    ideal_wait: float
    polls: int
    hasty_polls: int
    lag: float


@dataclass(frozen=True)
class Findings:
    """Everything a run leaves behind. `rows_left` and `reserved` are leaks."""

    plan: Plan
    lives: Sequence[Life]
    places: Sequence[SimulatedDeployment]
    operations: Operations
    engine: Engine
    rows_left: int
    reserved: int
    seconds: float
    ideal_seconds: float

    def mean(self, values: Iterable[float]) -> float:
        return statistics.fmean(values)

    @property
    def polls(self) -> float:
        return self.mean(life.polls for life in self.lives)

    @property
    def lag(self) -> float:
        return self.mean(life.lag for life in self.lives)

    @property
    def wakes(self) -> float:
        """Submits of a video beyond the one that starts it."""
        return self.engine.runs["submit"] / len(self.lives) - 1

    def operations_per_video(self, part: str | None = None, kind: Kind | None = None) -> float:
        return self.operations.of(part, kind) / len(self.lives)


@dataclass(frozen=True)
class Line:
    """One figure; with a goal, the most that it may be."""

    what: str
    value: float
    unit: str = ""
    goal: float | None = None

    @property
    def missed(self) -> bool:
        return self.goal is not None and self.value > self.goal


def lines(found: Findings) -> list[Line]:
    """The figures that matter, with their goals."""
    lives, plan = found.lives, found.plan
    polls, lags = [float(life.polls) for life in lives], [life.lag for life in lives]
    histories = found.engine.histories
    return [
        Line("videos that did not complete", sum(not life.completed for life in lives), goal=0),
        Line("creates beyond a deployment's limits", sum(each.refused for each in found.places), goal=0),
        Line("most running on one deployment", max(each.most_running for each in found.places), goal=plan.max_running),
        Line("most creates in 60 s on one", max(each.most_in_a_minute for each in found.places), goal=plan.creates_per_minute),
        Line("slots, places and notes left over", found.rows_left, goal=0),
        Line("reservations left over", found.reserved, "µ$", goal=0),
        Line("orchestrations that died", len(found.engine.died), goal=0),
        Line("looks at the upstream, mean", found.polls, "a video", _POLLS if plan.progress else _SILENT_POLLS),
        Line("looks sooner than `close_poll_seconds`", sum(life.hasty_polls for life in lives), goal=0),
        Line("looks at the upstream, p99", percentile(polls, 0.99), "a video"),
        Line("upstream's end to `completed`, mean", found.lag, "s", _LAG if plan.progress else _SILENT_LAG),
        Line("upstream's end to `completed`, p99", percentile(lags, 0.99), "s"),
        Line("wakes while waiting, mean", found.wakes, "a video", _WAKES),
        Line("table operations, mean", found.operations_per_video(), "a video", _OPERATIONS),
        Line("history of an execution, mean", found.mean(histories), "events"),
        Line("history of an execution, longest", max(histories), "events", goal=100),
        Line("executions", len(histories) / len(lives), "a video"),
        Line("episodes", found.engine.episodes / len(lives), "a video"),
        Line("activities", sum(found.engine.runs.values()) / len(lives), "a video"),
        Line("timers", found.engine.timers / len(lives), "a video"),
        Line("activities run again after an error", found.engine.retries / len(lives), "a video"),
        Line("time to make them all", found.seconds / 3600, "h"),
        Line("time, against an ideal queue", found.seconds / found.ideal_seconds, "times", goal=1.15),
    ]


def table(shown: Iterable[Line]) -> Table:
    made = _table("", "", "", "goal", "")
    for line in shown:
        verdict = "" if line.goal is None else "[bold red]missed[/]" if line.missed else "[green]met[/]"
        made.add_row(line.what, figure(line.value), line.unit, "" if line.goal is None else f"≤ {line.goal:g}", verdict)
    return made


def waits_table(found: Findings) -> Table:
    """Minutes from the create to the upstream's acceptance, beside what an ideal queue
    would take.
    """
    made = _table("minutes of waiting, by key", "videos", "p50", "p99", "ideal p50", "ideal p99")
    for kind in (BURST, PRIORITY, TRICKLE):
        lives = [life for life in found.lives if life.kind == kind]
        if lives:
            waits, ideal = [life.wait / 60 for life in lives], [life.ideal_wait / 60 for life in lives]
            shown = [percentile(waits, 0.5), percentile(waits, 0.99), percentile(ideal, 0.5), percentile(ideal, 0.99)]
            made.add_row(kind, str(len(lives)), *map(figure, shown))
    return made


def operations_table(found: Findings) -> Table:
    """Table operations per video, by part of the work."""
    made = _table("table operations a video", *_KINDS, "all")
    for part in (*_PARTS, None):
        row = [found.operations_per_video(part, kind) for kind in (*_KINDS, None)]
        if row[-1]:
            made.add_row(part or "all", *(figure(each) for each in row))
    return made


def _table(first: str, *others: str) -> Table:
    made = Table(box=None, padding=(0, 1), header_style="bold")
    made.add_column(first)
    for name in others:
        made.add_column(name, justify="right", no_wrap=True)
    return made
