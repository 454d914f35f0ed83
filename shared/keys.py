"""Who is calling."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from shared.errors import Unauthenticated
from shared.settings import Settings

MASTER_OWNER = "key_00000000"  # the partition of what the operator makes with the master key itself


@dataclass(frozen=True)
class Caller:
    """An authenticated caller: the key whose videos it sees. `master` sees all."""

    owner: str
    master: bool = False


def authenticate(headers: Mapping[str, str], settings: Settings) -> Caller:
    """The caller behind `Authorization: Bearer …` or `api-key: …`. Raises Unauthenticated."""
    secret = presented_secret(headers)
    master = settings.master_key
    if master is not None and hmac.compare_digest(secret.encode(), master.encode()):
        return Caller(MASTER_OWNER, master=True)
    raise Unauthenticated("The API key is not valid.")


def presented_secret(headers: Mapping[str, str]) -> str:
    """The secret of either header. Raises Unauthenticated where there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    secret = token.strip() if scheme.lower() == "bearer" else ""
    secret = secret or headers.get("api-key", "").strip()
    if not secret:
        raise Unauthenticated("No API key: send it as 'Authorization: Bearer <key>' or in the header 'api-key'.")
    return secret
