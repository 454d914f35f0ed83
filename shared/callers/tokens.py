"""Checks access tokens of Microsoft Entra ID, and reads from them who calls.

https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference tells the claims,
https://learn.microsoft.com/entra/identity-platform/claims-validation what has to be checked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from shared.callers.signing_keys import SigningKeys
from shared.clock import Clock
from shared.config.entra import Entra

if TYPE_CHECKING:
    from jwt.types import Options

_ALGORITHM = "RS256"  # the one that Entra signs with; no other is let in by a token's own word
_LONGEST = 64 * 1024  # characters; what is in front of the app lets headers of 32 KiB through
_LONGEST_NAME = 256
_LATEST = 32_503_680_000.0  # the year 3000, in unix seconds


class BadToken(Exception):
    """A token that opens nothing. The reason is for the log, and quotes nothing of the token."""


class Identity(msgspec.Struct, frozen=True):
    """Who calls, as a token tells: the app, and the object that it acts as: a person, or the app's
    own service principal. With `more_groups` it is in more groups than a token holds, and none is
    told. The token is good until `expires`.
    """

    app_id: str
    object_id: str
    person: bool
    groups: frozenset[str]
    roles: frozenset[str]
    more_groups: bool
    expires: datetime

    @property
    def user(self) -> str:
        """What spend is reported under: a person's object id, or the app's id."""
        return self.object_id if self.person else self.app_id


@dataclass(frozen=True)
class Tokens:
    """Reads the tokens of one tenant that are meant for this gateway."""

    entra: Entra
    keys: SigningKeys
    clock: Clock

    async def read(self, token: str) -> Identity:
        """Who sends a token. Raises BadToken, or SignInUnavailable where its signature cannot be
        checked now.
        """
        key = await self.keys.find(_key_name(token))
        if key is None:
            raise BadToken("its tenant has published no key of that id")
        return self._identity(self._claims(token, key))

    def _claims(self, token: str, key: Any) -> Mapping[str, Any]:
        """The claims of a token with a right signature, issuer and audience."""
        import jwt

        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=self.entra.audiences,
                issuer=self.entra.issuers,
                options={"require": ["exp", "iss", "aud"], **_UNREAD},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise BadToken(_WHY.get(type(error).__name__, "it is not a token that can be read")) from error
        return claims

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        expires = self._expiry(claims)
        if str(claims.get("tid", "")).lower() != self.entra.tenant_id:
            raise BadToken("it is of another tenant")
        return Identity(
            # An id token has neither: it says who has signed in, not what may be called.
            app_id=_id(claims, "azp", "appid"),
            object_id=_id(claims, "oid"),
            person="scp" in claims,
            groups=frozenset(each.lower() for each in _texts(claims, "groups")),
            roles=frozenset(_texts(claims, "roles")),
            more_groups=_has_more_groups(claims),
            expires=expires,
        )

    def _expiry(self, claims: Mapping[str, Any]) -> datetime:
        now, leeway = self.clock.now().timestamp(), self.entra.leeway_seconds
        expires, begins = claims["exp"], claims.get("nbf", 0)
        if not _is_time(expires) or not _is_time(begins):
            raise BadToken("its times are not times")
        if expires + leeway <= now:
            raise BadToken("it has expired")
        if begins - leeway > now:
            raise BadToken("it is not valid yet")
        return datetime.fromtimestamp(expires, UTC) + timedelta(seconds=leeway)


# Times are checked here, by the gateway's own clock; the rest has no meaning for it.
_UNREAD: "Options" = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_sub": False,
    "verify_jti": False,
}
# Of the library's refusals, which are told apart by their names.
_WHY = {
    "InvalidSignatureError": "its signature is not its tenant's",
    "InvalidAlgorithmError": "it is not signed with RS256",
    "InvalidIssuerError": "its issuer is not the configured tenant",
    "InvalidAudienceError": "it is for another audience than `general_settings.entra.audience`",
    "MissingRequiredClaimError": "it lacks `exp`, `iss` or `aud`",
}


def _key_name(token: str) -> str:
    """The id of the key that a token names, once its header is one that Entra writes. Of the header
    nothing else is used.
    """
    import jwt

    if len(token) > _LONGEST or token.count(".") != 2:
        raise BadToken("it has another form than a signed token")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise BadToken("its header cannot be read") from error
    if header.get("alg") != _ALGORITHM:
        raise BadToken("it is not signed with RS256")
    name = header.get("kid")
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
        raise BadToken("it names no key")
    return name


def _id(claims: Mapping[str, Any], *names: str) -> str:
    """An id, in lower case: the first of these claims that is there."""
    value = next((claims[name] for name in names if name in claims), None)
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        raise BadToken(f"it lacks {' or '.join(f'`{name}`' for name in names)}")
    return value.lower()


def _texts(claims: Mapping[str, Any], name: str) -> list[str]:
    values = claims.get(name)
    return [each for each in values if isinstance(each, str)] if isinstance(values, list) else []


def _has_more_groups(claims: Mapping[str, Any]) -> bool:
    """Whether the groups were too many for the token (200), so that it says where to ask instead:
    https://learn.microsoft.com/security/zero-trust/develop/configure-tokens-group-claims-app-roles.
    """
    elsewhere = claims.get("_claim_names")
    return claims.get("hasgroups") in (True, "true") or (isinstance(elsewhere, dict) and "groups" in elsewhere)


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LATEST
