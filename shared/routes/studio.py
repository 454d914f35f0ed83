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

from shared.config.entra import Entra
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
# Code and style from this origin alone, none inline; no other origin is asked for anything, but for
# tokens where people sign in with Entra. Films and images are shown from memory (`blob:`), because
# an `<img>` sends no key.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'; "
    "connect-src 'self'"
)
_SAFETY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class _File(msgspec.Struct, frozen=True):
    """A file as it is, and compressed. Each has an entity tag of its own, as RFC 9110 requires."""

    plain: bytes
    packed: bytes
    digest: str
    media_type: str
    keep: str

    def etag(self, *, packed: bool) -> str:
        return f'"{self.digest}{"-gzip" if packed else ""}"'


def sign_in(entra: Entra | None) -> Answer:
    """Where and as what people sign in with Entra: facts that anybody may know. Null where they
    have keys alone.
    """
    if entra is None or entra.client_id is None:
        return Answer({"entra": None})
    scope = f"openid offline_access {entra.audiences[0]}/.default"
    return Answer({"entra": {"authority": f"{entra.host}/{entra.tenant_id}", "client_id": entra.client_id, "scope": scope}})


def file(name: str, headers: Mapping[str, str], entra: Entra | None = None) -> Answer:
    """A file of the page, which may fetch tokens of `entra`. Raises NotFound for a name that is
    none of the table's.
    """
    found = _files().get(name)
    if found is None:
        raise NotFound("The studio has no such file.", code="unknown_url")
    packed = _takes_gzip(headers.get("accept-encoding", ""))
    policy = f"{_POLICY} {entra.host}" if entra is not None and entra.client_id is not None else _POLICY
    told = {
        "content-security-policy": policy,
        **_SAFETY,
        "cache-control": found.keep,
        "etag": found.etag(packed=packed),
        "vary": "accept-encoding",
    }
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
