"""The storage account of a connection string: where its services are, and its key
(https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string).
"""

import hmac
from base64 import b64decode, b64encode
from typing import Self

import msgspec

from shared.errors import ConfigurationError

# The account that every storage emulator has; its key is public by design.
_EMULATOR = {
    "accountname": "devstoreaccount1",
    "accountkey": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoMGMw==",
    "queueendpoint": "http://127.0.0.1:10001/devstoreaccount1",
    "tableendpoint": "http://127.0.0.1:10002/devstoreaccount1",
}


class Account(msgspec.Struct, frozen=True):
    """An account and its key. `endpoints` are the addresses of "queue" and "table"."""

    name: str
    key: bytes
    endpoints: dict[str, str]

    @classmethod
    def of(cls, connection_string: str) -> Self:
        """Raises ConfigurationError for one that lacks the account's name or its key."""
        parts = _parts(connection_string)
        if parts.get("usedevelopmentstorage", "").lower() == "true":
            parts = _EMULATOR
        try:
            name, key = parts["accountname"], b64decode(parts["accountkey"], validate=True)
        except (KeyError, ValueError) as error:
            raise ConfigurationError("AzureWebJobsStorage needs AccountName and AccountKey, as Azure shows them.") from error
        return cls(name, key, {service: _endpoint(parts, name, service) for service in ("queue", "table")})

    def signature(self, told: str) -> str:
        """The HMAC-SHA256 of a text with the account's key, in base64."""
        return b64encode(hmac.digest(self.key, told.encode(), "sha256")).decode()

    def __repr__(self) -> str:
        return f"Account({self.name!r})"  # its key is a secret


def _parts(connection_string: str) -> dict[str, str]:
    """The names are the same in capital and small letters. A key may end with "="."""
    named = (part.strip().partition("=") for part in connection_string.split(";"))
    return {name.lower(): value for name, _, value in named if name}


def _endpoint(parts: dict[str, str], name: str, service: str) -> str:
    """Where a service is: where the string says, else where Azure has it."""
    scheme, suffix = parts.get("defaultendpointsprotocol", "https"), parts.get("endpointsuffix", "core.windows.net")
    return (parts.get(f"{service}endpoint") or f"{scheme}://{name}.{service}.{suffix}").rstrip("/")
