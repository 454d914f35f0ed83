"""Removes addresses, paths, traces and credentials from the upstream's texts.

These texts reach callers, in errors and in the reasons of failed jobs, and an upstream may quote
the request it was sent.
"""

import re
from urllib.parse import urlsplit

import msgspec

from shared.config.catalog import Deployment

_MASK = "..."
_SHORTEST = 4  # characters: a shorter secret would match ordinary words
_LONGEST = 16_000  # characters that are masked; what follows is cut off
_TRACE = "Traceback (most recent call last)"
# A text may quote any prompt. So each pattern with a repetition may match only where its run of
# characters begins, and looks at each character once: no text makes it slow.
_SHAPES = (
    # An address.
    r"(?<![a-z0-9+.-])[a-z0-9+.-]+:\\*/\\*/[^\s\"'<>]+",
    # A host with a port, or an IPv4 address.
    r"(?<![\w.-])(?=[\d.-]*[^\W\d])[\w.-]+:\d{4,5}\b|\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b",
    # A file of the server: an absolute path of two parts or more, or one of Windows.
    r"(?<![\w./:-])/[\w.@+~-]+(?:/[\w.@+~-]+)+/?|\b[a-z]:\\[^\s\"'<>]+",
    # A token.
    r"\bbearer\s+[^\s\"',;]{6,}|(?<![\w-])eyJ[\w-]+\.[\w-]+\.[\w-]*",
)


class Mask(msgspec.Struct, frozen=True):
    """Replaces addresses, paths, tokens and the given secrets in a text, and cuts traces. Only the
    first 16,000 characters of a text are kept.
    """

    secrets: tuple[str, ...] = ()

    def __call__(self, text: str) -> str:
        text = text[:_LONGEST]
        text = _masked(text, *(re.escape(secret) for secret in self.secrets))
        return _masked(_without_trace(text), *_SHAPES)


def _masked(text: str, *shapes: str) -> str:
    """The text without what has one of these shapes. The first text compiles them, not a cold
    start.
    """
    for shape in shapes:
        text = re.sub(shape, _MASK, text, flags=re.IGNORECASE)
    return text


def _without_trace(text: str) -> str:
    """The text with a Python trace replaced by its last line, which names the error."""
    before, trace, after = text.partition(_TRACE)
    return f"{before.strip()} {after.strip().rpartition(chr(10))[2].strip()}".strip() if trace else text


def mask_of(deployment: Deployment) -> Mask:
    """The mask for a deployment's answers: its key and its host."""
    address = urlsplit(deployment.base_url)
    told = (deployment.api_key, address.netloc, address.hostname)
    return Mask(tuple(each for each in told if each and len(each) >= _SHORTEST))
