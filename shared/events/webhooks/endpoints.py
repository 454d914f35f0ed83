"""The webhook endpoints of a key: one row of the key's partition, since they are few.

Secrets are stored in clear, not hashed, because they have to sign. Storage encrypts them at rest,
and only the app's identity reads the table. A caller sees a secret only when it is made.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

import msgspec

from shared.accounts.account import Account
from shared.accounts.commits import Commits, Decision
from shared.errors import InvalidRequest, NotFound
from shared.events.webhooks.signing import hint
from shared.media.video import unix
from shared.storage.tables import Delete, Insert, Replace, Row, Table

MOST = 20  # endpoints of a key
LOG = "webhook_log_"  # begins the key of an endpoint's row of last deliveries (`history`)
_ROW = "webhooks"
_OVERLAP = timedelta(hours=24)  # how long a replaced secret signs beside the new one

T = TypeVar("T")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint. `disabled` says why nothing is sent to it any more; None if it is enabled."""

    id: str
    name: str
    url: str
    event_types: list[str]
    secret: str
    created_at: datetime
    updated_at: datetime
    former_secret: str | None = None
    former_until: datetime | None = None
    disabled: str | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.id})"  # without its secrets

    def wants(self, event_type: str) -> bool:
        return event_type in self.event_types and self.disabled is None

    def secrets(self, now: datetime) -> Sequence[str]:
        """The secrets that sign now, the newest first."""
        former = self.former_secret if self.former_until and now < self.former_until else None
        return (self.secret, former) if former else (self.secret,)

    def rotated(self, secret: str, now: datetime, *, overlap: bool) -> "Endpoint":
        """A copy with a new secret. With `overlap` the old one also signs, for a day."""
        if secret == self.secret:  # an earlier try has rotated it
            return self
        former, until = (self.secret, now + _OVERLAP) if overlap else (None, None)
        return msgspec.structs.replace(self, secret=secret, former_secret=former, former_until=until, updated_at=now)

    def wire(self) -> dict[str, Any]:
        """OpenAI's object `webhook_endpoint`, and our field `disabled`."""
        return {
            "id": self.id,
            "object": "webhook_endpoint",
            "name": self.name,
            "url": self.url,
            "event_types": self.event_types,
            "created_at": unix(self.created_at),
            "updated_at": unix(self.updated_at),
            "signing_secret_hint": hint(self.secret),
            "disabled": self.disabled,
        }


class Endpoints(msgspec.Struct, frozen=True):
    """The endpoints of all keys."""

    commits: Commits

    async def of(self, owner: str) -> list[Endpoint]:
        """A key's endpoints, oldest first. One point read. Raises StorageUnavailable."""
        return _read(await self.commits.table.get(owner, _ROW))

    async def find(self, owner: str, endpoint_id: str) -> Endpoint:
        """One endpoint of a key. Raises NotFound or StorageUnavailable."""
        return _found(await self.of(owner), endpoint_id)

    async def add(self, owner: str, made: Endpoint) -> None:
        """Add an endpoint; may be repeated. Raises InvalidRequest if the key has `MOST` already, or
        StorageUnavailable.
        """

        def edit(before: list[Endpoint]) -> tuple[list[Endpoint], None]:
            others = [each for each in before if each.id != made.id]
            if len(others) >= MOST:
                raise InvalidRequest(f"A key may have {MOST} webhook endpoints: delete one.", code="too_many_endpoints")
            return [*others, made], None

        await self.commits.change_account(owner, _Edit(owner, edit))

    async def change(self, owner: str, endpoint_id: str, change: Callable[[Endpoint], Endpoint]) -> Endpoint:
        """Change one endpoint and return it. `change` may be called more than once. Raises NotFound
        or StorageUnavailable.
        """

        def edit(before: list[Endpoint]) -> tuple[list[Endpoint], Endpoint]:
            changed = change(_found(before, endpoint_id))
            return [changed if each.id == endpoint_id else each for each in before], changed

        return await self.commits.change_account(owner, _Edit(owner, edit))

    async def remove(self, owner: str, endpoint_id: str) -> None:
        """Delete an endpoint and its last deliveries; nothing happens if it is gone already. Raises
        StorageUnavailable.
        """

        def edit(before: list[Endpoint]) -> tuple[list[Endpoint], None]:
            return [each for each in before if each.id != endpoint_id], None

        await self.commits.change_account(owner, _Edit(owner, edit, drops=f"{LOG}{endpoint_id}"))


class _Edit(msgspec.Struct, Generic[T]):
    """An account change that edits a key's endpoints, and notes on the account whether any is
    enabled (`hooked`). The row `drops` is deleted in the same transaction.
    """

    owner: str
    edit: Callable[[list[Endpoint]], tuple[list[Endpoint], T]]
    drops: str | None = None
    weight: int = 60_000
    _row: Row | None = None
    _dropped: Row | None = None

    async def read(self, table: Table, *, again: bool) -> None:
        del again
        self._row = await table.get(self.owner, _ROW)
        self._dropped = await table.get(self.owner, self.drops) if self.drops else None

    def decide(self, account: Account, taken: set[str]) -> Decision[T] | None:
        if _ROW in taken:
            return None
        after, result = self.edit(_read(self._row))
        values = {"endpoints": msgspec.json.encode(after).decode()}
        write = Insert(_ROW, values) if self._row is None else Replace(self._row, values)
        hooked = any(each.disabled is None for each in after)
        dropped = (Delete(self._dropped),) if self._dropped else ()
        return Decision(msgspec.structs.replace(account, hooked=hooked), result, (write, *dropped))


def _read(row: Row | None) -> list[Endpoint]:
    return msgspec.json.decode(row.values["endpoints"], type=list[Endpoint]) if row else []


def _found(endpoints: Sequence[Endpoint], endpoint_id: str) -> Endpoint:
    found = next((each for each in endpoints if each.id == endpoint_id), None)
    if found is None:
        raise NotFound("No such webhook endpoint.", code="webhook_endpoint_not_found", param="webhook_endpoint_id")
    return found
