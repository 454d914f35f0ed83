"""Secrets and signatures of webhooks, by Standard Webhooks
(https://github.com/standard-webhooks/standard-webhooks).
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

_PREFIX = "whsec_"
_BYTES = 32  # 24 to 64 are allowed


def new_secret() -> str:
    """A new signing secret: `whsec_` and the padded base64 of its bytes."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def secret_of(token: str) -> str:
    """The secret that signs what goes to a key's own addresses: HMAC-SHA256 of the word `webhooks`
    with the key's SHA-256. Whoever holds the key can compute it, so it is neither stored nor shown.
    """
    return _PREFIX + base64.b64encode(hmac.new(token.encode(), b"webhooks", hashlib.sha256).digest()).decode()


def hint(secret: str) -> str:
    """What may be shown of a secret."""
    return f"{_PREFIX}...{secret[-4:]}"


def signed(event_id: str, timestamp: int, body: bytes, keys: Iterable[str]) -> dict[str, str]:
    """The headers of a delivery: its id, its time in unix seconds, and a signature by each of the
    secrets.
    """
    told = f"{event_id}.{timestamp}.".encode() + body
    signatures = " ".join(f"v1,{_signature(told, key)}" for key in keys)
    return {"webhook-id": event_id, "webhook-timestamp": str(timestamp), "webhook-signature": signatures}


def _signature(told: bytes, secret: str) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return base64.b64encode(hmac.new(key, told, hashlib.sha256).digest()).decode()
