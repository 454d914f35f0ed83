"""Removes addresses and credentials from the upstream's texts.

These texts reach callers, in errors and in the reasons of failed jobs, and an upstream may quote
the request it was sent.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from shared.config.catalog import Deployment

_MASK = "..."
_SHORTEST = 4  # characters: a shorter secret would match ordinary words
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*:\\*/\\*/[^\s\"'<>]+", re.IGNORECASE)
_TOKEN = re.compile(r"\bbearer\s+[^\s\"',;]{6,}|\beyJ[\w-]+\.[\w-]+\.[\w-]*", re.IGNORECASE)


@dataclass(frozen=True)
class Mask:
    """Replaces addresses, tokens and the given secrets in a text."""

    secrets: tuple[str, ...] = ()

    def __call__(self, text: str) -> str:
        for secret in self.secrets:
            text = re.sub(re.escape(secret), _MASK, text, flags=re.IGNORECASE)
        return _TOKEN.sub(_MASK, _ADDRESS.sub(_MASK, text))


def mask_of(deployment: Deployment) -> Mask:
    """The mask for a deployment's answers: its key and its host."""
    address = urlsplit(deployment.base_url)
    told = (deployment.api_key, address.netloc, address.hostname)
    return Mask(tuple(each for each in told if each and len(each) >= _SHORTEST))
