"""The benchmark's arithmetic: percentiles, ratios and goals, and how a table shows them. Nothing
here is timed.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.trials.bench.report import Line, figure, percentile, printed, table
from tests.trials.bench.setup import Memory, parse_memory, parse_processor


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.75, 3), (0.99, 4), (1, 4)])
def test_percentiles_are_values_that_were_measured(share: float, value: float) -> None:
    """The nearest rank, never a value in between."""
    assert percentile([3, 1, 4, 2], share) == value


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_is_not_exceeded_by_its_share(values: list[float], share: float) -> None:
    """At least that share of the values is no larger, and fewer would be for any smaller value."""
    found = percentile(values, share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert found == min(values) or sum(value < found for value in values) < share * len(values)


def test_a_goal_is_about_the_ratio() -> None:
    """A gateway that takes 80 of 800 ms just meets a tenth; 81 do not."""
    assert Line("create", "ms", 80, 800, goal=0.1).met is True
    assert Line("create", "ms", 81, 800, goal=0.1).met is False


def test_a_goal_is_about_the_figure_where_nothing_is_compared() -> None:
    """Memory has no upstream to be compared with."""
    assert Line("memory", "MiB", 64, goal=64).met is True
    assert Line("memory", "MiB", 65, goal=64).met is False


def test_without_a_goal_nothing_is_met_or_missed() -> None:
    """What is only told is not judged."""
    assert Line("status", "ms", 3, 2).met is None


def test_memory_that_did_not_grow_is_within_its_goal() -> None:
    """Nothing at all, or less than before, is a figure like any other."""
    assert Line("memory", "MiB", 0, goal=64).met is True
    assert Line("memory", "MiB", -1.5, goal=64).met is True


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0, "0"),
        (0.0853, "0.085"),
        (0.746, "0.746"),
        (1.456, "1.46"),
        (29.31, "29.3"),
        (-2.5, "-2.50"),
        (1557.2, "1557"),
    ],
)
def test_figures_have_three_digits_that_matter(value: float | None, text: str) -> None:
    """Large ones keep all their digits before the point, and small ones no more than three after
    it.
    """
    assert figure(value) == text


def test_the_table_shows_each_line_with_ratio_goal_and_verdict() -> None:
    """What a person compares stands in one row."""
    console = Console(width=100, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(
            table([Line("create", "ms", 80, 800, goal=0.1), Line("save", "MiB", 70, goal=64), Line("status", "/s", 5, 4)])
        )
    rows = [line.split() for line in captured.get().splitlines()]
    assert rows == [
        ["gateway", "direct", "unit", "ratio", "goal"],
        ["create", "80.0", "800", "ms", "0.100", "≤", "0.1", "met"],
        ["save", "70.0", "MiB", "≤", "64", "missed"],
        ["status", "5.00", "4.00", "/s", "1.25"],
    ]


def test_the_figures_of_an_earlier_run_stand_beside(capsys: pytest.CaptureFixture[str]) -> None:
    """They are read from what it has printed; a line that it did not have stays empty."""
    lines = [Line("status: p50", "ms", 8, 4), Line("status: p50", "loops", 2), Line("at rest", "MiB", 1234.5, goal=64)]
    Console(width=120).print(table([*lines, Line("operations", "", 3)]))
    before = printed(capsys.readouterr().out)
    assert before == {
        ("status: p50", "ms"): 8,
        ("status: p50", "loops"): 2,
        ("at rest", "MiB"): 1234,
        ("operations", ""): 3,
    }
    Console(width=120).print(table([Line("status: p50", "loops", 3), Line("another", "s", 1)], before))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["gateway", "direct", "unit", "ratio", "goal", "before"],
        ["status:", "p50", "3.00", "loops", "2.00"],
        ["another", "1.00", "s"],
    ]


def test_memory_is_read_as_the_kernel_tells_it() -> None:
    """proc(5) counts in units of 1024 bytes, whatever it calls them."""
    status = "Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t  300 kB\nVmRSS:\t  200 kB\nRssAnon:\t 100 kB\n"
    assert parse_memory(status) == Memory(resident=200 * 1024, peak=300 * 1024)


def test_processor_time_is_read_whatever_the_process_is_called() -> None:
    """proc(5): the name is in brackets, and may have brackets and spaces itself."""
    assert parse_processor("42 (a b) c) S 1 42 42 0 -1 4194304 900 0 3 0 250 17 5 5 20 0 4 0 1234 0 0") == 267
