"""Azurite as a child process: it keeps its data, ends with its parent, and has its directory to
itself.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from azure.data.tables.aio import TableServiceClient

from local.azurite import Azurite, AzuriteError
from local.processes import Child, ChildError

pytestmark = pytest.mark.anyio

CHECKOUT = Path(__file__).parents[2]


async def insert(connection: str, row: str) -> None:
    async with TableServiceClient.from_connection_string(connection) as tables:
        table = await tables.create_table_if_not_exists("things")
        await table.create_entity({"PartitionKey": "p", "RowKey": row})


async def rows(connection: str) -> list[str]:
    async with TableServiceClient.from_connection_string(connection) as tables:
        return [str(entity["RowKey"]) async for entity in tables.get_table_client("things").list_entities()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_all_three_services_answer_once_it_is_running(azurite: str) -> None:
    """The connection string names an endpoint of each service, and all of them listen."""
    endpoints = dict(part.split("=", 1) for part in azurite.rstrip(";").split(";"))
    for service in ("Blob", "Queue", "Table"):
        _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(endpoints[f"{service}Endpoint"]).port)
        writer.close()
        await writer.wait_closed()


async def test_data_is_kept_from_one_run_to_the_next(tmp_path: Path) -> None:
    """A row written right before a stop is there after the next start."""
    async with Azurite(tmp_path) as storage:
        await insert(storage.connection_string, "kept")
    async with Azurite(tmp_path) as storage:
        assert (await rows(storage.connection_string)) == ["kept"]


async def test_a_write_is_on_disk_long_before_the_five_seconds_of_azurites_own_autosave(tmp_path: Path) -> None:
    """With kill -9 of node itself, what was written a moment earlier is there after the
    next start.
    """
    async with Azurite(tmp_path) as storage:
        await insert(storage.connection_string, "survivor")
        written = time.monotonic()
        while b"survivor" not in (tmp_path / "__azurite_db_table__.json").read_bytes():
            assert time.monotonic() - written < 2.5, "the change was not saved soon"
            await asyncio.sleep(0.02)
        os.kill(storage.pid, signal.SIGKILL)
    async with Azurite(tmp_path) as storage:
        assert (await rows(storage.connection_string)) == ["survivor"]


def killed_after_a_write(folder: Path) -> int:
    """The id of the Azurite whose parent died by SIGKILL with its group, right after a write."""
    parent = f"""
import asyncio, pathlib
from local.azurite import Azurite
from tests.standins.test_azurite import insert
async def main():
    async with Azurite(pathlib.Path({str(folder)!r})) as storage:
        await insert(storage.connection_string, "acknowledged")
        print(storage.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", parent], cwd=CHECKOUT, stdout=subprocess.PIPE, start_new_session=True, text=True
    ) as stack:
        assert stack.stdout is not None
        pid = int(stack.stdout.readline())
        os.killpg(stack.pid, signal.SIGKILL)
    return pid


async def test_a_kill_of_the_whole_process_group_ends_azurite_but_loses_nothing(tmp_path: Path) -> None:
    """The next start waits for the old one, and has what was acknowledged."""
    pid = killed_after_a_write(tmp_path)
    async with Azurite(tmp_path) as storage:
        assert not is_running(pid)
        assert await rows(storage.connection_string) == ["acknowledged"]


async def test_a_directory_in_use_is_refused_by_name(tmp_path: Path) -> None:
    """Two Azurites on one directory would overwrite each other, so the second says which directory
    it is about.
    """
    async with Azurite(tmp_path):
        with pytest.raises(AzuriteError, match=f"another Azurite still uses {tmp_path}"):
            await Azurite(tmp_path, patience=0).__aenter__()


async def test_a_missing_installation_says_what_to_run(tmp_path: Path) -> None:
    """Without Azurite the message names `make setup`."""
    with pytest.raises(AzuriteError, match="run `make setup`"):
        await Azurite(tmp_path, tmp_path / "nowhere").__aenter__()


async def test_a_child_that_ends_while_starting_is_quoted(tmp_path: Path) -> None:
    """Its exit status and last words are in the error, since nobody else will see them."""
    child = await Child.start("sora", [sys.executable, "-c", "exit('no fonts')"], log=tmp_path / "log")
    with pytest.raises(ChildError, match="sora ended with 1: no fonts"):
        await child.says("ready")


async def test_a_silent_child_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    """Readiness has a time limit, and the error says so."""
    child = await Child.start("sora", ["sleep", "60"], log=tmp_path / "log")
    with pytest.raises(ChildError, match="sora was not ready after 0 s"):
        await child.says("ready", patience=0)
    await child.stop()


async def test_the_ready_line_of_a_child_is_returned(tmp_path: Path) -> None:
    """The line is matched when it is complete, with what the pattern caught in it."""
    program = """print('warming up'); print('{"url": "http://127.0.0.1:1"}'); import time; time.sleep(60)"""
    child = await Child.start("sora", [sys.executable, "-c", program], log=tmp_path / "log")
    (line,) = await child.says(r"^\{.*\}$")
    await child.stop()
    assert line.group() == '{"url": "http://127.0.0.1:1"}'


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """After its grace a child that will not end is ended."""
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(60)"
    child = await Child.start("sora", [sys.executable, "-c", program], log=tmp_path / "log")
    await child.says("deaf")
    await child.stop(grace=0)
    assert (await child.wait()) == -signal.SIGKILL


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """The kernel tells the child, so no clean-up code of the parent has to run."""
    parent = f"""
import asyncio, pathlib
from local.processes import Child
async def main():
    child = await Child.start("sora", ["sleep", "60"], log=pathlib.Path({str(tmp_path / "log")!r}))
    print(child.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", parent], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as stack:
        assert stack.stdout is not None
        pid = int(stack.stdout.readline())
        stack.kill()
    deadline = time.monotonic() + 10
    with suppress(ProcessLookupError):
        while is_running(pid):
            assert time.monotonic() < deadline
            time.sleep(0.02)


async def test_a_directory_in_use_is_waited_for_aloud(tmp_path: Path) -> None:
    """At once: for whom, and how long at most."""
    told: list[str] = []
    async with Azurite(tmp_path):
        with pytest.raises(AzuriteError):
            async with Azurite(tmp_path, patience=0.1, say=told.append):
                pass
    assert told == [f"Waiting up to 0.1 s for process {os.getpid()}, which uses {tmp_path}"]
