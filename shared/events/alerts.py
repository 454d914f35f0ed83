"""Alerts: what an operator should act on, sent to the logging providers that receive failures."""

from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal

import msgspec

from shared.clock import Clock
from shared.events.journal import Journal
from shared.events.record import Record, utc
from shared.storage.tables import Delete, Insert, WriteConflict

TOLD = "alerts"  # the partition with a row for each alert that was told

Kind = Literal["soft_budget_crossed", "deployment_closed", "failure_rate_high", "video_stuck", "event_undeliverable"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert. `subject` is what it is about, and `since` tells it from an earlier alert of the
    same kind about the same subject. The three make its id.
    """

    kind: Kind
    subject: str
    since: str
    message: str
    key_id: str = ""
    key_alias: str | None = None
    model: str = ""
    deployment: str | None = None
    video_id: str = ""

    @property
    def id(self) -> str:
        """Also a row's key: hashed, since `subject` may hold characters that a key may not."""
        return f"{self.kind}.{sha256(f'{self.subject} {self.since}'.encode()).hexdigest()[:16]}"

    def record(self, now: datetime) -> Record:
        return Record(
            id=self.id,
            type="alert",
            time=utc(now),
            created_at=utc(now),
            video_id=self.video_id,
            model=self.model,
            deployment=self.deployment,
            key_id=self.key_id,
            key_alias=self.key_alias,
            error_code=self.kind,
            error_message=self.message,
        )


class Alerts(msgspec.Struct, frozen=True):
    """Tells alerts. Where no provider is configured, nothing is read or written for them."""

    journal: Journal
    clock: Clock

    async def tell(self, alert: Alert) -> None:
        """Tell an alert once. If this is cut off, the next call tells it again with the same id.
        Raises StorageUnavailable.
        """
        table = self.journal.table
        if not self.journal.listened or await table.get(TOLD, alert.id) is not None:
            return
        now = self.clock.now()
        await self.journal.publish(alert.record(now))
        with suppress(WriteConflict):  # another instance has told it too
            await table.commit(TOLD, Insert(alert.id, {"told_at": now}))

    async def forget(self, before: datetime) -> None:
        """Delete the rows of alerts told before then, so that they do not pile up. Raises
        StorageUnavailable.
        """
        if not self.journal.listened:
            return
        async for row in self.journal.table.scan(TOLD):
            if row.values["told_at"].astimezone(UTC) < before:
                with suppress(WriteConflict):
                    await self.journal.table.commit(TOLD, Delete(row))
