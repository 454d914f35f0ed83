"""Exports the table `gateway`, so that keys, budgets and the record of videos outlive the region.

The table `pools` is not exported: it holds what is under way, and nothing of that outlives the
region. Rows are read one page after the other while the gateway works, so an export is no snapshot:
it holds each row as it was when it was read.
"""

import re
from datetime import datetime, timedelta

from shared.accounts.keys import KEYS
from shared.config.exports import Exports
from shared.config.settings import Storage
from shared.gateway import Gateway
from shared.storage.export_files import ExportFiles
from shared.storage.export_text import packed
from shared.videos.step_result import failed

_DAILY = timedelta(hours=23, minutes=30)  # the sweep asks once an hour, and seldom at the same second
_PREFIX = "gateway-"
_NAME = re.compile(r"gateway-\d{8}T\d{6}Z\.jsonl\.gz")

# How a video ends that was unfinished when it was exported: its job may have been made or not.
RESTORED = failed(
    "gateway_restored", "The video was unfinished when the gateway was restored from a copy. It costs nothing; make it again."
)["failed"]


async def keep_exported(gateway: Gateway, exports: Exports, now: datetime) -> None:
    """Export where the newest file is a day old, and drop all but the newest `exports.kept`. A
    gateway without keys exports nothing: it may be one that is about to be restored.

    Raises StorageUnavailable.
    """
    files = open_files(gateway, exports)
    try:
        names = await names_of(files)
        is_due = not names or names[-1] <= name_at(now - _DAILY)
        if is_due and await gateway.tables.gateway.first(KEYS, 1, select=[]):
            names.append(name_at(now))
            await files.save(names[-1], packed(gateway.tables.gateway.everything()))
        for old in names[: -exports.kept]:
            await files.drop(old)
    finally:
        await files.close()


def open_files(gateway: Gateway, exports: Exports) -> ExportFiles:
    """The files of the account that the configuration names; close them."""
    own = gateway.settings.storage
    storage = own if exports.account == "own" else Storage(blob_url=exports.account, client_id=own.client_id)
    return ExportFiles(storage, gateway.connections.credential, exports.container)


async def names_of(files: ExportFiles) -> list[str]:
    """The exports, oldest first. Raises StorageUnavailable."""
    return [name for name in await files.names(_PREFIX) if _NAME.fullmatch(name)]


def name_at(moment: datetime) -> str:
    """The name of an export of then. Names sort by time."""
    return f"{_PREFIX}{moment:%Y%m%dT%H%M%SZ}.jsonl.gz"
