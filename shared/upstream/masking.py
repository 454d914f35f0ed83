"""What the upstream says, without what only the gateway may know: addresses and credentials.

Its words reach callers, in errors and in the reasons of failed jobs, and upstreams quote what they
were asked with.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from shared.config.catalog import Deployment

_MASK = "..."
_SHORTEST = 4  # characters: a shorter "secret" is part of too many words
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*:\\*/\\*/[^\s\"'<>]+", re.IGNORECASE)
_TOKEN = re.compile(r"\bbearer\s+[^\s\"',;]{6,}|\beyJ[\w-]+\.[\w-]+\.[\w-]*", re.IGNORECASE)


@dataclass(frozen=True)
class Mask:
    """Takes every address, the tokens and these secrets out of a text."""

    secrets: tuple[str, ...] = ()

    def __call__(self, text: str) -> str:
        for secret in self.secrets:
            text = re.sub(re.escape(secret), _MASK, text, flags=re.IGNORECASE)
        return _TOKEN.sub(_MASK, _ADDRESS.sub(_MASK, text))


def mask_of(deployment: Deployment) -> Mask:
    """What an answer of this deployment must not tell."""
    address = urlsplit(deployment.base_url)
    told = (deployment.api_key, address.netloc, address.hostname)
    return Mask(tuple(each for each in told if each and len(each) >= _SHORTEST))
