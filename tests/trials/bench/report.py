"""What the benchmark prints: percentiles, ratios, and a table of them beside their goals."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

MIB = 1024 * 1024  # bytes


@dataclass(frozen=True)
class Line:
    """One measurement in `unit`, of the gateway and, where it makes sense, of what it is compared
    with.

    `goal` is the most that the ratio of the two may be; where there is nothing to compare with, the
    most that the gateway's own figure may be.
    """

    what: str
    unit: str
    gateway: float
    direct: float | None = None
    goal: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.gateway / self.direct if self.direct else None

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None without one."""
        if self.goal is None:
            return None
        return (self.gateway if self.ratio is None else self.ratio) <= self.goal


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of them do not exceed: the nearest-rank
    method.
    """
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def table(lines: Iterable[Line]) -> Table:
    """Lines as a person reads them."""
    shown = Table(box=None, padding=(0, 1), header_style="bold")
    shown.add_column("", overflow="fold")
    for name in ("gateway", "direct", "unit", "ratio", "goal", ""):
        shown.add_column(name, justify="left" if name == "unit" else "right", no_wrap=True)
    for line in lines:
        verdict = {None: "", True: "[green]met[/]", False: "[bold red]missed[/]"}[line.met]
        goal = "" if line.goal is None else f"≤ {line.goal:g}"
        shown.add_row(line.what, figure(line.gateway), figure(line.direct), line.unit, figure(line.ratio), goal, verdict)
    return shown


def figure(value: float | None) -> str:
    """Three digits that matter, and never fewer than the whole number."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(decimals, 3)}f}"
