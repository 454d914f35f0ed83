"""An address of the operator's own, which is sent JSON, signed by Standard Webhooks:
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from time import time

import msgspec

from shared.config.telemetry import pairs
from shared.events.post import Letter
from shared.events.record import Record
from shared.events.sinks.sink import EVERY, Format


class Webhook(Format, frozen=True):
    """One request for each event, whose `webhook-id` is the event's. Without a secret nothing is
    signed.
    """

    takes = EVERY
    most = 1

    def letter(self, records: Sequence[Record]) -> Letter:
        (record,) = records
        body = msgspec.json.encode({"type": record.type, "timestamp": record.time, "data": record})
        headers = {**pairs(self.values["GENERIC_LOGGER_HEADERS"]), "content-type": "application/json"}
        return Letter(self.values["GENERIC_LOGGER_ENDPOINT"], {**headers, **self._signed(record.id, body)}, body)

    def _signed(self, event_id: str, body: bytes) -> dict[str, str]:
        # The time of this try, and the machine's: a receiver compares it with its own.
        headers = {"webhook-id": event_id, "webhook-timestamp": str(int(time()))}
        secret = self.values["GENERIC_LOGGER_SECRET"].removeprefix("whsec_")
        if not secret:
            return headers
        told = f"{event_id}.{headers['webhook-timestamp']}.".encode() + body
        signature = hmac.digest(b64decode(secret), told, "sha256")
        return {**headers, "webhook-signature": f"v1,{b64encode(signature).decode()}"}
