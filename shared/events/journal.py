"""The journal: a line in the log for each video that starts and each that ends, and the same record
for everyone who listens.

The transaction that starts or ends a video also writes a mark (`storage.event_marks`), where anyone
listens. `tell` makes deliveries of the marks, and takes them down: it may be cut off anywhere and
repeated, and a video is forgotten only after it.
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
    """Tells what happened, in the log and to the destinations that `couriers` go to."""

    table: Table
    couriers: Couriers
    log_prompts: bool
    telemetry: Telemetry = SILENT

    @property
    def listened(self) -> bool:
        """Whether anyone listens to every video. If not, nothing is written and read but for videos
        that are `hooked`.
        """
        return any(each.everyone for each in self.couriers.destinations.values())

    def note(self, happening: Happening, video: Video) -> None:
        """Write the line of the log, and at its end the video's spans. Repeated ones have the same
        ids.
        """
        self._note(record_of(happening, video, prompts=self.log_prompts))

    async def tell(self, video: Video) -> None:
        """Tell what is still to be told of a video. May be repeated. Raises StorageUnavailable."""
        if not (self.listened or video.hooked):
            return
        for happening, row in await marks_of(self.table, video.id):
            await self.publish(record_of(happening, video, prompts=self.log_prompts), video)
            try:
                await self.table.commit(video.owner, Delete(row))
            except WriteConflict:
                continue  # another run has told it

    async def tell_blocked(self, video: Video, refusal: NotPassed) -> None:
        """Tell of a request that guardrails did not let through: everyone, or after a crash by the
        sweep, or nobody. Raises StorageUnavailable.
        """
        record = blocked(video, refusal, prompts=self.log_prompts)
        self._note(record)
        if self.listened:
            mark = {"record": msgspec.json.encode(record).decode()}
            await self.table.commit(UNTOLD, Insert(record.id, mark))
            await self._publish_untold(record, unread(record.id))

    async def tell_untold(self, before: datetime) -> None:
        """Tell what was to be told before then, and was cut off. Raises StorageUnavailable."""
        if not self.listened:
            return
        async for row in self.table.scan(UNTOLD):
            record = msgspec.json.decode(row.values["record"], type=Record)
            if record.time < before:
                await self._publish_untold(record, row)

    async def tell_rejected(self, record: Record) -> None:
        """Tell of a message that starts no video. Raises StorageUnavailable."""
        told = record if self.log_prompts else msgspec.structs.replace(record, error_message=None)
        self._note(told)
        await self.publish(told)

    async def publish(self, record: Record, video: Video | None = None) -> None:
        """Hand an event to everyone who wants it. May be repeated."""
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
