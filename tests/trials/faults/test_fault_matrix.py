"""The fault matrix: every upstream fault in every operation that can meet it."""

from pathlib import Path

import pytest

from tests.trials.faults.cells import TALES, Cell, cells
from tests.trials.faults.matrix import EVERYTHING, lived
from tests.trials.faults.own_table import OWN_COLUMNS, OWN_EXPECTED, OWN_FAULTS, OWN_NOWHERE, RESTART
from tests.trials.faults.table import (
    AZURE,
    CODES,
    COLUMNS,
    CONTENT,
    CREATE,
    EXCEPTIONS,
    FAULTS,
    FINISHED,
    LIST,
    MOVE,
    NOWHERE,
    POLL,
    REMIX,
    RUNNING,
    TOKENS,
    USUALLY,
)

# What a sample of those that never stop has to hold: each of the ways in which a create or a job
# ends for good.
_FOR_EVER = (
    "400 moderation",
    "400 upload timed out",
    "401",
    "408",
    "410",
    "429 rate",
    "connection refused",
    "timeout before it acts",
)
_MOVED = ("401", "404 deployment", "410", "429 running", "500", "connection refused", "timeout before it acts")
_OWN = (RESTART, "404 video", "503")  # what Azure has not, or says otherwise
_ONLY_REMIXED = ("401", "404 video", "408", "cut short")  # all others go the way of a create


def sampled(cell: Cell) -> bool:
    """Every fault once in every operation; of those that never stop, and of remixes, what is
    particular.
    """
    if cell.dialect != AZURE:
        return not cell.always and (cell.fault in _OWN or cell.column in (CREATE, POLL))
    if cell.column == MOVE:
        return cell.fault in _MOVED
    if cell.column == REMIX and cell.fault not in _ONLY_REMIXED:
        return False
    return not cell.always or (cell.column in (CREATE, POLL) and cell.fault in _FOR_EVER)


@pytest.mark.parametrize("columns", [(CREATE, REMIX, MOVE), (LIST, POLL), (CONTENT, RUNNING, FINISHED)])
@pytest.mark.anyio
async def test_every_upstream_fault_ends_as_promised(azurite: str, tmp_path: Path, columns: tuple[str, ...]) -> None:
    """Status, code and number of calls are those of the table, at most one job is made, and nothing
    is kept or leaked.

    Every fault once in every operation; `make faults` also runs those that never stop.
    """
    chosen = [cell for cell in cells() if cell.column in columns and sampled(cell)]
    matrix = await lived(azurite, tmp_path, chosen)
    assert matrix.problems == []
    assert len(matrix.lives) == len(chosen)


@pytest.mark.anyio
async def test_two_faults_and_faults_elsewhere_end_as_promised(azurite: str, tmp_path: Path) -> None:
    """Jobs that fail, tokens that are not to be had, deletes in the middle of an unclear create,
    one fault after another.
    """
    assert (await lived(azurite, tmp_path, TALES)).problems == []


@pytest.mark.anyio
async def test_what_is_not_as_expected_is_red(azurite: str, tmp_path: Path) -> None:
    """A matrix that cannot fail says nothing: a call too many is a problem, and is seen in the
    table.
    """
    cell = next(cell for cell in cells() if cell.column == CREATE)
    matrix = await lived(azurite, tmp_path, [cell])
    lives = matrix.lives[str(cell)]
    assert matrix.problems == []
    lives.asked["create"] += 1
    lives.asked["get"] += 100
    lives.closed.add("upstream_busy")
    matrix.wrong[str(cell)] = cell.wrong(lives)
    assert matrix.problems == [f"{cell}: {what}" for what in ("2 × create, not 1 to 1", "100 × get", "closed: upstream_busy")]
    (told, *_) = matrix.shown((CREATE,)).columns[1].cells
    assert str(told).startswith("[bold red]")


def test_the_tables_of_faults_name_each_other() -> None:
    """A slip in a name would silently test nothing."""
    known = {(cell.fault, cell.column) for cell in cells() if cell.dialect == AZURE}
    assert len({str(each) for each in EVERYTHING}) == len(EVERYTHING)
    assert {fault for fault, _ in known} == FAULTS.keys()
    assert {column for _, column in known} == EXCEPTIONS.keys() == USUALLY.keys() == set(COLUMNS)
    assert NOWHERE.keys() <= FAULTS.keys()
    assert {(fault, column) for column, faults in EXCEPTIONS.items() for fault in faults} <= known
    assert {*_FOR_EVER, *_MOVED, *_ONLY_REMIXED} <= FAULTS.keys()


def test_the_tables_of_own_servers_name_each_other() -> None:
    """Each has every column, and what is expected there is expected of a fault that it has."""
    assert OWN_FAULTS.keys() == OWN_EXPECTED.keys()
    for dialect, columns in OWN_EXPECTED.items():
        assert columns.keys() == set(OWN_COLUMNS[dialect])
        named = {fault for _, exceptions in columns.values() for fault in exceptions}
        assert named <= {fault for faults in OWN_FAULTS.values() for fault in faults}
    assert OWN_NOWHERE.keys() <= {fault for faults in OWN_FAULTS.values() for fault in faults}


def test_every_expected_end_is_a_known_code() -> None:
    """What callers program against is a finite set, and written down for them."""
    own = [{**exceptions, "usually": usually} for columns in OWN_EXPECTED.values() for usually, exceptions in columns.values()]
    tables = (*EXCEPTIONS.values(), USUALLY, TOKENS, *own)
    assert {expected.end for table in tables for both in table.values() for expected in both} - {"completed"} <= CODES
    page = (Path(__file__).parents[3] / "docs" / "errors.md").read_text()
    assert [code for code in sorted(CODES) if f"| `{code}` |" not in page] == []


def test_every_cell_bounds_its_calls() -> None:
    """No expectation holds whatever happens, and what is refused for good is asked once and no
    more.
    """
    for cell in cells():
        end, least, most = cell.expected
        assert 1 <= least <= most <= max(least + 14, 2 * least), cell
        if cell.operation in ("create", "remix") and end in ("moderation_blocked", "upstream_rejected", "source_gone"):
            assert most == 1, cell
