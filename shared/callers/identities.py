"""Callers that send a token of Microsoft Entra ID instead of a key: a person, another app's managed
identity, a pipeline.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from shared.accounts.keys import Caller, Keys
from shared.callers.mappings import Grant, first_that_fits
from shared.callers.tokens import BadToken, Tokens
from shared.clock import Clock
from shared.errors import ConfigurationError, Conflict, PermissionDenied, Unauthenticated
from shared.media.video import MASTER_OWNER

logger = logging.getLogger("gateway")

_REMEMBERED = 10_000  # tokens; less than 1 KB each
_REMEMBERED_FOR = timedelta(minutes=5)  # then it is checked by the keys that are published by now
_MOST_TOLD = 60  # lines a minute about tokens: anybody can send bad ones


class Known(msgspec.Struct, frozen=True):
    """What a token that was checked gives its sender, until it is checked again."""

    user: str
    account_name: str
    grant: Grant
    until: datetime


@dataclass
class Identities:
    """The callers whose tokens are taken, and what they get. `grants` are the configuration's."""

    tokens: Tokens
    grants: Sequence[Grant]
    keys: Keys
    clock: Clock
    _known: dict[str, Known] = field(default_factory=dict)  # by the token's SHA-256
    _told: set[tuple[str, str]] = field(default_factory=set)
    _told_in: datetime | None = None

    def takes(self, secret: str) -> bool:
        """Whether a secret has the look of a token: base64url of `{"`, and parts with dots."""
        return secret.startswith("eyJ") and secret.count(".") >= 2

    async def authenticate(self, token: str) -> Caller:
        """The caller who sends a token. Raises Unauthenticated, PermissionDenied where nothing is
        configured for it, or SignInUnavailable where its issuer does not answer.
        """
        known = await self._recognized(token)
        if known.grant.admin:
            return Caller(MASTER_OWNER, master=True)
        try:
            owner, account = await self.keys.account_of(known.account_name, known.grant.settings_for(known.user))
        except Conflict as error:
            alias = known.grant.settings["alias"]
            raise ConfigurationError(f"general_settings.entra.accounts: another key has the alias {alias!r}.") from error
        # What is spent of an account that several share is reported under the id of each.
        return Caller(owner, account=msgspec.structs.replace(account, user_id=known.user))

    async def _recognized(self, token: str) -> Known:
        """What the token gives, which is remembered for a while."""
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
        known = self._known.get(digest)
        if known is None or known.until <= self.clock.now():
            known = await self._read(token, digest)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[digest] = known
        return known

    async def _read(self, token: str, digest: str) -> Known:
        try:
            identity = await self.tokens.read(token)
        except BadToken as error:
            self._tell(digest, f"a token was refused: {error}")
            raise Unauthenticated("The API key is not valid.") from error
        if identity.more_groups and any(each.match.group for each in self.grants):
            self._tell(digest, f"{identity.user} is in more groups than a token holds: none was matched. Use roles.")
        grant = first_that_fits(self.grants, identity)
        if grant is None:
            self._tell(digest, f"no entry of entra.accounts fits app {identity.app_id}, object {identity.object_id}")
            raise PermissionDenied(
                "Your identity has no account here: ask the operator to configure one for it, its group or its role.",
                code="identity_not_mapped",
            )
        until = min(identity.expires, self.clock.now() + _REMEMBERED_FOR)
        return Known(identity.user, grant.account_name(identity), grant, until)

    def _tell(self, digest: str, what: str) -> None:
        """Log what there is to say of a token: once a minute, and of so many tokens at most."""
        minute = self.clock.now().replace(second=0, microsecond=0)
        if minute != self._told_in:
            self._told_in, self._told = minute, set()
        if (digest, what) not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add((digest, what))
            logger.warning("%s", what)
