"""The page at `/studio`: the files of `shared/static`, which `studio/` builds, and nothing else.

A request picks one of a fixed table of files by its name; no path of a file is made of what a
caller sends. What is built has a digest of its content in its name and is kept by browsers for
good; the page itself is asked for each time, and answered with 304 while it is the same.
"""

import gzip
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import msgspec

from shared.errors import NotFound
from shared.routes.calls import Answer

_FOLDER = Path(__file__).parents[1] / "static"
_BUILT = "assets"  # names with a digest
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Code and style from this origin alone, none inline; no other origin is asked for anything. Films
# and images are shown from memory (`blob:`), because an `<img>` sends no key.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_SAFETY = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class _File(msgspec.Struct, frozen=True):
    """A file as it is, and packed. Both have a tag of their own, as RFC 9110 asks."""

    plain: bytes
    packed: bytes
    digest: str
    media_type: str
    keep: str

    def etag(self, *, packed: bool) -> str:
        return f'"{self.digest}{"-gzip" if packed else ""}"'


def file(name: str, headers: Mapping[str, str]) -> Answer:
    """A file of the page. Raises NotFound for a name that is none of the table's."""
    found = _files().get(name)
    if found is None:
        raise NotFound("The studio has no such file.", code="unknown_url")
    packed = _takes_gzip(headers.get("accept-encoding", ""))
    told = {**_SAFETY, "cache-control": found.keep, "etag": found.etag(packed=packed), "vary": "accept-encoding"}
    if _is_known(headers.get("if-none-match", ""), told["etag"]):
        return Answer(None, 304, told, found.media_type)
    if packed:
        told["content-encoding"] = "gzip"
    return Answer(found.packed if packed else found.plain, headers=told, media_type=found.media_type)


def _takes_gzip(encodings: str) -> bool:
    """Whether `Accept-Encoding` names gzip, and does not refuse it with a weight of zero."""
    named = re.search(r"(?:^|,)\s*gzip\s*(?:;\s*q=([\d.]+)\s*)?(?:,|$)", encodings, re.IGNORECASE)
    return named is not None and (named[1] is None or named[1].strip("0.") != "")


def _is_known(tags: str, etag: str) -> bool:
    """Whether a caller has this version, by the weak comparison of RFC 9110, section 13.1.2."""
    return any(each.strip().removeprefix("W/") in (etag, "*") for each in tags.split(","))


@cache
def _files() -> Mapping[str, _File]:
    """All files, by the name that a request has behind `/studio/`; read at the first request."""
    paths = [path for path in _FOLDER.rglob("*") if path.suffix in _TYPES]
    return {path.relative_to(_FOLDER).as_posix(): _read(path) for path in paths}


def _read(path: Path) -> _File:
    plain = path.read_bytes()
    keep = "public, max-age=31536000, immutable" if path.parent.name == _BUILT else "no-cache"
    return _File(plain, gzip.compress(plain, mtime=0), hashlib.sha256(plain).hexdigest()[:32], _TYPES[path.suffix], keep)
