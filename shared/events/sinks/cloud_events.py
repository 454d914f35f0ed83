"""Events for pipelines, as CloudEvents 1.0 in JSON
(https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md): for a queue of the storage
account, and for a custom topic of Event Grid.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from shared.events.post import Letter
from shared.events.record import Record
from shared.events.sinks.sink import EVERY, Format
from shared.storage.queues import LARGEST

SCOPE = "https://eventgrid.azure.net/.default"  # of the app's token for a topic
_BATCH = "application/cloudevents-batch+json; charset=utf-8"
_SOURCE = "/azure-video-gateway"


class AzureQueue(Format, frozen=True):
    """A message for each event. One that would be too large for a queue comes without prompt and
    parameters.
    """

    takes = EVERY
    most = 1

    def letter(self, records: Sequence[Record]) -> Letter:
        (record,) = records
        body = msgspec.json.encode(cloud_event(record))
        if len(body) > LARGEST:
            body = msgspec.json.encode(cloud_event(msgspec.structs.replace(record, prompt=None, parameters=None)))
        return Letter(self.values["VIDEO_EVENTS_QUEUE"], {}, body)


class EventGrid(Format, frozen=True):
    """Batches for a topic, which takes a megabyte at a time."""

    takes = EVERY
    most = 20

    def letter(self, records: Sequence[Record]) -> Letter:
        body = msgspec.json.encode([cloud_event(each) for each in records])
        return Letter(self.values["EVENT_GRID_TOPIC_ENDPOINT"], {"content-type": _BATCH}, body)


def cloud_event(record: Record) -> dict[str, Any]:
    """`id` is the same however often the event is sent, and `data` the journal's record."""
    return {
        "specversion": "1.0",
        "id": record.id,
        "source": _SOURCE,
        "type": record.type,
        "subject": record.video_id or record.request_id or record.id,
        "time": record.time,
        "datacontenttype": "application/json",
        "data": record,
    }
