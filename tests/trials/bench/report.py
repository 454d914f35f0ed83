"""What the benchmark prints: percentiles, ratios, and a table of them beside their goals."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

MIB = 1024 * 1024  # bytes

# A row of a printed table: what was measured, the gateway's figure, perhaps another, the unit.
_ROW = re.compile(r"^ *(\S.*?) {2,}(-?[\d.]+)(?: +-?[\d.]+)?(?: +(/s|s|ms|MiB|loops)\b.*)? *$", re.MULTILINE)

Figures = Mapping[tuple[str, str], float]
"""The gateway's figures, by what was measured and its unit."""


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


def printed(text: str) -> Figures:
    """The figures of a table that was printed before, by this version or an older one."""
    return {(what, unit): float(value) for what, value, unit in _ROW.findall(text)}


def table(lines: Iterable[Line], before: Figures | None = None, beside: str = "direct") -> Table:
    """Lines as a person reads them, `beside` what the gateway is compared with; and beside the
    figures of an earlier run, where there are any.
    """
    shown = Table(box=None, padding=(0, 1), header_style="bold")
    shown.add_column("", overflow="fold")
    for name in ("gateway", beside, "unit", "ratio", "goal", ""):
        shown.add_column(name, justify="left" if name == "unit" else "right", no_wrap=True)
    if before:
        shown.add_column("before", justify="right")
    for line in lines:
        verdict = {None: "", True: "[green]met[/]", False: "[bold red]missed[/]"}[line.met]
        goal = "" if line.goal is None else f"≤ {line.goal:g}"
        row = [line.what, figure(line.gateway), figure(line.direct), line.unit, figure(line.ratio), goal, verdict]
        shown.add_row(*row, *([figure(before.get((line.what, line.unit)))] if before else []))
    return shown


def figure(value: float | None) -> str:
    """Three digits that matter, and never fewer than the whole number."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(decimals, 3)}f}"
