"""Events for pipelines, as CloudEvents 1.0 in JSON
(https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md): to a queue of the storage
account, or to a custom topic of Event Grid.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from shared.events.post import Letter
from shared.events.record import Record
from shared.events.sinks.sink import EVERY, Format
from shared.storage.queues import LARGEST

SCOPE = "https://eventgrid.azure.net/.default"  # the OAuth scope of a token for a topic
_BATCH = "application/cloudevents-batch+json; charset=utf-8"
_SOURCE = "/azure-video-gateway"


class AzureQueue(Format, frozen=True):
    """One message for each event. If it would be too large for a queue, it goes without `prompt`
    and `parameters`.
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
    """Batches for a topic, which accepts at most 1 MB a request."""

    takes = EVERY
    most = 20

    def letter(self, records: Sequence[Record]) -> Letter:
        body = msgspec.json.encode([cloud_event(each) for each in records])
        return Letter(self.values["EVENT_GRID_TOPIC_ENDPOINT"], {"content-type": _BATCH}, body)


def cloud_event(record: Record) -> dict[str, Any]:
    """The event: `data` is the journal's record, and `id` is the same each time it is sent."""
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
