"""The public keys that an Entra tenant signs its tokens with, as it publishes them.

They change every few weeks, and at once in an emergency; a new one is published before it signs.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

from shared.clock import Clock
from shared.config.entra import Entra
from shared.errors import SignInUnavailable
from shared.upstream.bodies import ACCEPTED, read_answer

if TYPE_CHECKING:
    import httpx
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

logger = logging.getLogger("gateway")

_FRESH = timedelta(hours=1)  # after that, keys are asked for again while the old ones go on working
_KEPT = timedelta(hours=24)  # and so long they do where nobody answers
_AGAIN = timedelta(minutes=1)  # the least time between two fetches: anybody can name an unknown key
_SOON = timedelta(seconds=5)  # the same as long as no key is known, when every caller is refused
_PATIENCE = 5.0  # seconds that a fetch may take: a caller may be waiting
_LARGEST = 256 * 1024  # bytes of a document; Microsoft's have about 15,000
_SHORTEST_KEY = 2048  # bits

_Text = Annotated[str, msgspec.Meta(max_length=2048)]  # a modulus of 8,192 bits has 1,366 characters
_Exponent = Annotated[str, msgspec.Meta(max_length=8)]
T = TypeVar("T")


class _Published(msgspec.Struct, frozen=True):
    """One key (RFC 7517), and whose tokens it signs. Certificates and addresses that stand beside
    it are not read.
    """

    kty: _Text
    kid: _Text = ""
    use: _Text = "sig"
    n: _Text = ""
    e: _Exponent = ""
    issuer: _Text = ""


class _KeySet(msgspec.Struct, frozen=True):
    keys: Annotated[list[_Published], msgspec.Meta(max_length=100)]


class _Discovery(msgspec.Struct, frozen=True):
    """The part that is used of what a tenant publishes (OpenID Connect Discovery 1.0)."""

    issuer: str
    jwks_uri: str


class _Lie(Exception):
    """The host has answered with something else than a tenant's keys."""


@dataclass
class SigningKeys:
    """The keys of one tenant. Who asks for one while they are fetched waits for the same fetch."""

    entra: Entra
    http: Callable[[], "httpx.AsyncClient"]
    clock: Clock
    _keys: Mapping[str, "RSAPublicKey"] = field(default_factory=dict)
    _read_at: datetime | None = None
    _asked_at: datetime | None = None
    _fetching: "asyncio.Task[None] | None" = None

    async def find(self, name: str) -> "RSAPublicKey | None":
        """The key with this id; None where the tenant has none. Raises SignInUnavailable where that
        cannot be known now.
        """
        self._fetch_if_due(name)
        if name not in self._known and self._fetching is not None:
            await asyncio.shield(self._fetching)
        key = self._known.get(name)
        if key is None and self._read_at != self._asked_at:
            raise SignInUnavailable(
                "The token cannot be checked just now: the keys of its issuer were not to be had.", retry_after=5
            )
        return key

    @property
    def _known(self) -> Mapping[str, "RSAPublicKey"]:
        return self._keys if self._is_younger(self._read_at, _KEPT) else {}

    def _fetch_if_due(self, name: str) -> None:
        wanted = name not in self._known or not self._is_younger(self._read_at, _FRESH)
        pause = _AGAIN if self._known else _SOON
        if wanted and self._fetching is None and not self._is_younger(self._asked_at, pause):
            self._asked_at = self.clock.now()
            self._fetching = asyncio.create_task(self._fetch(self._asked_at))

    def _is_younger(self, moment: datetime | None, age: timedelta) -> bool:
        return moment is not None and self.clock.now() - moment < age

    async def _fetch(self, now: datetime) -> None:
        """Read the keys again. Where that fails the old ones stay."""
        import httpx

        try:
            async with asyncio.timeout(_PATIENCE):
                self._keys = await self._published()
            self._read_at = now
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, _Lie) as error:
            logger.warning("the keys of the Entra tenant were not to be had: %s %s", type(error).__name__, error)
        finally:
            self._fetching = None

    async def _published(self) -> Mapping[str, "RSAPublicKey"]:
        discovery = await self._document(f"{self.entra.issuer}/.well-known/openid-configuration", _Discovery)
        if discovery.issuer != self.entra.issuer or not discovery.jwks_uri.startswith(f"{self.entra.host}/"):
            raise _Lie("they are said to be another issuer's, or on another host")
        published = await self._document(discovery.jwks_uri, _KeySet)
        ours = [each for each in published.keys if self._signs_here(each)]
        keys = {each.kid: key for each in ours if (key := _usable(each)) is not None}
        if not keys:
            raise _Lie("there is none among them")
        return keys

    def _signs_here(self, published: _Published) -> bool:
        """Whether a key may sign this tenant's tokens. Microsoft publishes others beside them, such
        as those of personal accounts, each with the issuer that it is for
        (https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-the-signing-key-issuer).
        """
        return published.issuer.replace("{tenantid}", self.entra.tenant_id) in ("", self.entra.issuer)

    async def _document(self, url: str, kind: type[T]) -> T:
        """Raises httpx.HTTPError or _Lie. No redirect is followed: it would choose the host."""
        client = self.http()
        ask = client.build_request("GET", url, headers={"accept": "application/json", "accept-encoding": ACCEPTED})
        answer = await client.send(ask, stream=True, follow_redirects=False)
        try:
            read = await read_answer(answer, _LARGEST)
        finally:
            await answer.aclose()
        if read.status != 200 or not read.whole:
            raise _Lie(f"an answer of status {read.status}, or of more than {_LARGEST} bytes")
        try:
            return msgspec.json.decode(read.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _Lie("not the document that was asked for") from error


def _usable(published: _Published) -> "RSAPublicKey | None":
    """The key, if it is one for RS256."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from jwt import PyJWTError
    from jwt.algorithms import RSAAlgorithm

    if published.kty != "RSA" or published.use != "sig" or not published.kid:
        return None
    parts: dict[str, Any] = {"kty": "RSA", "n": published.n, "e": published.e}
    try:
        key = RSAAlgorithm.from_jwk(parts)
    except (PyJWTError, ValueError):
        return None
    return key if isinstance(key, RSAPublicKey) and key.key_size >= _SHORTEST_KEY else None
