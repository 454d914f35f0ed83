"""`python -m local export` and `restore`: the table of keys and videos into a file of a storage
account, and back into the tables of a gateway that has lost its own.

Restoring may be cut off anywhere and repeated: rows are only added, and what follows from them is
worked out again. Keys come last, so nobody makes a video before the spend of its key is there.
"""

from collections.abc import AsyncIterator, Sequence
from enum import Enum, auto
from pathlib import Path

import msgspec
from rich.console import Console

from local.auditing import opened
from shared.accounts.account import Account, add, recount
from shared.accounts.commits import ACCOUNT
from shared.accounts.keys import IDENTITY, KEYS, TOKENS
from shared.accounts.spend_lines import SPEND
from shared.config.exports import Exports
from shared.gateway import Gateway
from shared.media.video import GATEWAY_OWNER, MASTER_OWNER
from shared.storage.export_files import ExportFiles
from shared.storage.export_text import Exported, NotAnExport, packed, unpacked
from shared.storage.tables import Delete, Insert, Merge, Replace, Row, Table, WriteConflict, retry_conflicts, unread
from shared.storage.video_store import INDEXING, UPKEEP
from shared.upkeep.exporting import RESTORED, name_at, names_of, open_files

_MOST_ROWS = 100  # of a transaction
_MOST_CHARACTERS = 500_000  # of one; it may have 4 MiB, and a character is up to six bytes of it
_RESTORED = "restored"  # the row that says which file was restored, and whether that is done
_IN_USE = "The tables are in use. With --beside-others what they have stays, and the rows that they lack come to it."


class _Turn(Enum):
    """When a row comes back."""

    FIRST = auto()
    USUAL = auto()
    LAST = auto()


class RestoreError(Exception):
    """There is nothing to restore, or it would be mixed with something else."""


class Contents(msgspec.Struct):
    """What an export holds: how many rows, the ids of its keys, and of its unfinished videos, each
    with its model.
    """

    rows: int = 0
    keys: set[str] = msgspec.field(default_factory=set)
    unfinished: dict[str, str] = msgspec.field(default_factory=dict)

    @classmethod
    async def of(cls, rows: AsyncIterator[Exported]) -> "Contents":
        """Raises NotAnExport."""
        found = cls()
        async for row in rows:
            found.rows += 1
            if row.partition == KEYS:
                found.keys.add(row.key)
            if row.key.startswith(("video_", "gone_")) and row.values.get("status") in ("queued", "in_progress"):
                found.unfinished[row.key.removeprefix("gone_")] = row.values["model"]
        return found

    def brings_back(self, row: Exported) -> bool:
        """Not what is only there for unfinished videos, all of which end; and not how far upkeep
        had come in the old tables.
        """
        if row.partition == SPEND:
            return not row.key.startswith("open_") and row.key.removeprefix("done_") not in self.unfinished
        return row.partition != UPKEEP and not (row.partition == GATEWAY_OWNER and row.key.startswith("hold_"))


class Restoration(msgspec.Struct, frozen=True):
    """Brings the file `name` back into the tables of `gateway`."""

    gateway: Gateway
    files: ExportFiles
    name: str

    async def run(self, *, beside_others: bool = False) -> Contents:
        """Raises RestoreError before anything is written: for a damaged file, and where the tables
        are in use, unless the file's rows may stand `beside_others`.
        """
        try:
            contents = await Contents.of(self._rows())
        except NotAnExport as error:
            raise RestoreError(f"{self.name}: {error}") from error
        await self._begin(beside_others)
        await self._index_anew()
        await self._add_rows(contents, _Turn.FIRST)
        await self._add_rows(contents, _Turn.USUAL)
        for owner in (*sorted(contents.keys), MASTER_OWNER, GATEWAY_OWNER):
            await self._recount(owner)
        await self._end_unfinished(contents)
        await self._add_rows(contents, _Turn.LAST)
        await self._table.commit(UPKEEP, Merge(unread(_RESTORED), {"done": True}))
        return contents

    def _rows(self) -> AsyncIterator[Exported]:
        return unpacked(self.files.read(self.name))

    async def _begin(self, beside_others: bool) -> None:
        """Note that this file is being restored, so that a run that is cut off can be gone on
        with.
        """
        noted, begun = await self._table.get(UPKEEP, _RESTORED), {"file": self.name, "done": False}
        if noted is not None and noted.values == begun:
            return
        if not beside_others:
            await self._require_unused(noted)
        await self._table.commit(UPKEEP, Replace(noted, begun) if noted else Insert(_RESTORED, begun))

    async def _require_unused(self, noted: Row | None) -> None:
        if noted is not None:
            raise RestoreError(f"{noted.values['file']} was restored into these tables before. {_IN_USE}")
        if keys := await self._table.first(KEYS, 1, select=[]):
            raise RestoreError(f"There is the key {keys[0].key}. {_IN_USE}")

    async def _index_anew(self) -> None:
        """Have the gateway look for videos of earlier versions again. Listings of all videos are
        right meanwhile, and slower.
        """
        row = await self._table.get(UPKEEP, INDEXING)
        if row is not None:
            await self._table.commit(UPKEEP, Delete(row))

    async def _end_unfinished(self, contents: Contents) -> None:
        """Fail what was under way. What a pool knows is being made by the gateway of these tables,
        which then were never lost.
        """
        for video_id, model in contents.unfinished.items():
            if not await self.gateway.pool.is_unfinished(model, video_id):
                await self.gateway.lifecycle.finish(video_id, RESTORED)

    async def _add_rows(self, contents: Contents, turn: _Turn) -> None:
        batch: list[Exported] = []
        async for row in self._rows():
            if _turn_of(row) is not turn or not contents.brings_back(row):
                continue
            if batch and not _fits(batch, row):
                await self._add(batch)
                batch = []
            batch.append(row)
        if batch:
            await self._add(batch)

    async def _add(self, batch: Sequence[Exported]) -> None:
        """All in one transaction; where some are there already, those that are not."""
        try:
            await self._table.commit(batch[0].partition, *(Insert(row.key, row.values) for row in batch))
        except WriteConflict:
            if len(batch) > 1:
                for row in batch:
                    await self._add([row])

    async def _recount(self, owner: str) -> None:
        """Work an account's counters out again from the videos that are there."""

        async def attempt() -> None:
            row = await self._table.get(owner, ACCOUNT)
            if row is None:
                return
            before = row.read(Account)
            after = await self._counted(owner, before)
            if after != before:
                await self._table.commit(owner, Replace(row, after.to_row()))

        await retry_conflicts(attempt, self.gateway.clock, self.gateway.videos.random)

    async def _counted(self, owner: str, account: Account) -> Account:
        if owner == GATEWAY_OWNER:
            return await self.gateway.budget.recount(account)
        counted = recount(account, [])
        async for video in self.gateway.videos.of(owner):
            counted = add(counted, recount(account, [video]))
        return counted

    @property
    def _table(self) -> Table:
        return self.gateway.tables.gateway


def _turn_of(row: Exported) -> _Turn:
    """An identity that was not known would begin anew, and get in before its account is there; a
    secret that is not known is refused.
    """
    if row.partition != TOKENS:
        return _Turn.USUAL
    return _Turn.FIRST if row.key.startswith(IDENTITY) else _Turn.LAST


def _fits(batch: Sequence[Exported], row: Exported) -> bool:
    """Whether one transaction can hold these rows and this one."""
    size = sum(len(value) for each in (*batch, row) for value in each.values.values() if isinstance(value, str))
    return batch[0].partition == row.partition and len(batch) < _MOST_ROWS and size <= _MOST_CHARACTERS


async def export(data: Path, exports: Exports) -> None:
    """Export the tables now, and print the file's name. Raises StorageUnavailable and
    ConfigurationError.
    """
    async with opened(data) as gateway:
        files = open_files(gateway, exports)
        try:
            name = name_at(gateway.clock.now())
            await files.save(name, packed(gateway.tables.gateway.everything()))
        finally:
            await files.close()
    Console().print(f"Exported to {name} in the container {exports.container}")


async def restore(data: Path, exports: Exports, name: str | None, *, beside_others: bool) -> None:
    """Restore a file, the newest by default, and print what came back. Raises RestoreError,
    StorageUnavailable and ConfigurationError.
    """
    console = Console()
    async with opened(data) as gateway:
        files = open_files(gateway, exports)
        try:
            names = [name] if name else await names_of(files)
            if not names:
                raise RestoreError(f"The container {exports.container} holds no export.")
            with console.status(f"Restoring {names[-1]}"):
                contents = await Restoration(gateway, files, names[-1]).run(beside_others=beside_others)
        finally:
            await files.close()
    console.print(f"Restored {names[-1]}: {len(contents.keys)} keys, {contents.rows} rows")
    console.print(f"{len(contents.unfinished)} unfinished videos have failed as gateway_restored, and cost nothing")
