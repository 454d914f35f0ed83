"""A webhook of the operator's own: every event as JSON, signed as Standard Webhooks defines."""

from collections.abc import Sequence
from time import time

import msgspec

from shared.config.telemetry import pairs
from shared.events.post import Letter
from shared.events.record import Record
from shared.events.sinks.sink import EVERY, Format
from shared.events.webhooks.signing import signed


class Webhook(Format, frozen=True):
    """One request for each event, whose `webhook-id` is the event's. Without a secret it is not
    signed.
    """

    takes = EVERY
    most = 1

    def letter(self, records: Sequence[Record]) -> Letter:
        (record,) = records
        body = msgspec.json.encode({"type": record.type, "timestamp": record.time, "data": record})
        headers = {**pairs(self.values["GENERIC_LOGGER_HEADERS"]), "content-type": "application/json"}
        secrets = [secret] if (secret := self.values["GENERIC_LOGGER_SECRET"]) else []
        # The machine's time at this try: a receiver compares it with its own.
        signature = signed(record.id, int(time()), body, secrets)
        return Letter(self.values["GENERIC_LOGGER_ENDPOINT"], {**headers, **signature}, body)
