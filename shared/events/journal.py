"""The journal: a line in the log for each start and each end of a video, and the same record for
every destination that wants it.

If any destination wants a video's events, the transaction that starts or ends the video also writes
a mark (`storage.event_marks`). `tell` turns marks into deliveries and then deletes them, so it may
be cut off anywhere and repeated. A video's row is deleted only after its marks.
"""

import logging
from contextlib import suppress
from datetime import datetime

import msgspec

from shared.errors import NotPassed
from shared.events.couriers import Couriers
from shared.events.record import Record, blocked, record_of
from shared.media.video import Video
from shared.storage.event_marks import UNTOLD, Happening, marks_of
from shared.storage.tables import Delete, Insert, Row, Table, WriteConflict, unread
from shared.telemetry.telemetry import SILENT, Telemetry

logger = logging.getLogger("gateway")


class Journal(msgspec.Struct, frozen=True):
    """Writes events to the log, and makes deliveries for the destinations of `couriers`. With
    `log_prompts` off, neither has prompts, parameters or error messages.
    """

    table: Table
    couriers: Couriers
    log_prompts: bool
    telemetry: Telemetry = SILENT

    @property
    def listened(self) -> bool:
        """Whether any destination wants events of every video. If not, marks are written and read
        only for videos that are `hooked`, and alerts are not told.
        """
        return any(each.everyone for each in self.couriers.destinations.values())

    def note(self, happening: Happening, video: Video) -> None:
        """Write an event of a video to the log, and export its spans if it has ended. A repeated
        line and repeated spans have the same ids.
        """
        self._note(record_of(happening, video, prompts=self.log_prompts))

    async def tell(self, video: Video) -> None:
        """Make deliveries of a video's marks. May be repeated. Raises StorageUnavailable."""
        if not (self.listened or video.hooked):
            return
        for happening, row in await marks_of(self.table, video.id):
            await self.publish(record_of(happening, video, prompts=self.log_prompts), video)
            try:
                await self.table.commit(video.owner, Delete(row))
            except WriteConflict:
                continue  # another run has told it

    async def tell_blocked(self, video: Video, refusal: NotPassed) -> None:
        """Tell of a request that guardrails blocked. Its mark is written first, so that a crash
        leaves either nothing told or a mark that the sweep tells. Raises StorageUnavailable.
        """
        record = blocked(video, refusal, prompts=self.log_prompts)
        self._note(record)
        if self.listened:
            mark = {"record": msgspec.json.encode(record).decode()}
            await self.table.commit(UNTOLD, Insert(record.id, mark))
            await self._publish_untold(record, unread(record.id))

    async def tell_untold(self, before: datetime) -> None:
        """Tell of blocked requests from before then whose telling was cut off. Raises
        StorageUnavailable.
        """
        if not self.listened:
            return
        async for row in self.table.scan(UNTOLD):
            record = msgspec.json.decode(row.values["record"], type=Record)
            if record.time < before:
                await self._publish_untold(record, row)

    async def tell_rejected(self, record: Record) -> None:
        """Tell of a queue message that starts no video. Raises StorageUnavailable."""
        told = record if self.log_prompts else msgspec.structs.replace(record, error_message=None)
        self._note(told)
        await self.publish(told)

    async def publish(self, record: Record, video: Video | None = None) -> None:
        """Add deliveries for each destination that wants an event, and summon its courier. May be
        repeated. Raises StorageUnavailable.
        """
        summoned = []
        for name, destination in self.couriers.destinations.items():
            for to in await destination.addressees(record, video):
                await self.couriers.deliveries.add(name, record, to)
                summoned.append(name)
        await self.couriers.summon(dict.fromkeys(summoned))

    async def _publish_untold(self, record: Record, mark: Row) -> None:
        await self.publish(record)
        with suppress(WriteConflict):  # another run has told it
            await self.table.commit(UNTOLD, Delete(mark))

    def _note(self, record: Record) -> None:
        logger.info("journal %s", msgspec.json.encode(record).decode())
        if self.telemetry.on and record.ends:
            from shared.events.video_spans import spans_of

            self.telemetry.tell(spans_of(record))
