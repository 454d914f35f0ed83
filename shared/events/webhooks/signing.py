"""Secrets and signatures of webhooks, as Standard Webhooks defines them:
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

_PREFIX = "whsec_"
_BYTES = 32  # the standard allows 24 to 64


def new_secret() -> str:
    """A new signing secret: `whsec_` and the padded base64 of its bytes."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def secret_of(token: str) -> str:
    """The secret that signs events to a key's callback URL: the HMAC-SHA256 of the word `webhooks`,
    keyed with `token`, the key's SHA-256 in hex. Whoever has the key can compute it, so it is
    neither stored nor shown.
    """
    return _PREFIX + base64.b64encode(hmac.new(token.encode(), b"webhooks", hashlib.sha256).digest()).decode()


def hint(secret: str) -> str:
    """A secret's last four characters, which may be shown."""
    return f"{_PREFIX}...{secret[-4:]}"


def signed(event_id: str, timestamp: int, body: bytes, keys: Sequence[str]) -> dict[str, str]:
    """The headers of a delivery: its id, its time in unix seconds, and a signature by each of the
    secrets `keys`; without any, it is not signed.
    """
    headers = {"webhook-id": event_id, "webhook-timestamp": str(timestamp)}
    text = f"{event_id}.{timestamp}.".encode() + body
    signatures = " ".join(f"v1,{_signature(text, key)}" for key in keys)
    return {**headers, "webhook-signature": signatures} if keys else headers


def _signature(text: bytes, secret: str) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
