"""`python -m local audit`: compares counters and videos in local storage, or in the storage account
that the environment names.
"""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from local.azurite import Azurite, connection_of
from shared import gateway as composition
from shared.config.settings import Storage, load_storage
from shared.gateway import Gateway
from shared.media.video import dollars
from shared.upkeep.audit import Audit


class AuditError(Exception):
    """A counter differs from the videos, or there is no data."""


async def audit(data: Path) -> None:
    """Print the differences as a table. Raises AuditError where there are any, ConfigurationError
    where only a part of the storage settings is there.
    """
    console = Console()
    async with opened(data) as gateway:
        checked = Audit(gateway)
        with console.status("Counting"):
            found = [difference async for difference in checked.differences()]
    console.print(f"{checked.keys} keys with {checked.videos} videos: {len(found)} differences")
    if not found:
        return
    table = Table("key", "alias", "counter", "stored", "counted from videos")
    for each in found:
        money = each.counter in ("reserved", "spend", "lines_spend")
        shown = [f"${dollars(value)}" if money else str(value) for value in (each.stored, each.counted)]
        table.add_row(each.key_id, each.alias or "", each.counter, *shown)
    console.print(table)
    raise AuditError("The counters above are not what the videos say.")


@asynccontextmanager
async def opened(data: Path) -> AsyncIterator[Gateway]:
    """A gateway that reads the storage account of the environment, else the local one."""
    async with AsyncExitStack() as running:
        gateway = composition.build_for_storage(await _storage(data, running))
        running.push_async_callback(gateway.close)
        yield gateway


async def _storage(data: Path, running: AsyncExitStack) -> Storage:
    """The storage account of the environment, else the local one: that of the running stack, or
    started for the command alone.
    """
    if any(name.startswith("AzureWebJobsStorage") for name in os.environ):
        return load_storage(os.environ)
    directory = data / "azurite"
    if not directory.is_dir():
        raise AuditError(f"{data} holds no data of a gateway: name the folder of `make run` with --data.")
    connection = connection_of(directory) or (await running.enter_async_context(Azurite(directory))).connection_string
    return Storage(connection_string=connection)
