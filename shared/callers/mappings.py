"""Which account an identity of Entra has, by `general_settings.entra.accounts`: a list whose first
entry that fits decides.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec

from shared.callers.key_settings import complete_settings
from shared.callers.tokens import Identity
from shared.config.catalog import Catalog
from shared.config.entra import Entra
from shared.errors import ConfigurationError, InvalidRequest

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Names = _Name | Annotated[list[_Name], msgspec.Meta(min_length=1)] | None
_FROM_ELSEWHERE = {
    "user_id": "it comes from the token",
    "blocked": "the operator blocks an account by POST /key/block",
    "duration": "a token ends by itself",
}


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom an entry is for. Everything that it names has to fit; of several names, one."""

    app_id: _Names = None
    object_id: _Names = None
    group: _Names = None
    role: _Names = None

    def fits(self, identity: Identity) -> bool:
        pairs = (
            (_lower(self.app_id), {identity.app_id}),
            (_lower(self.object_id), {identity.object_id}),
            (_lower(self.group), identity.groups),
            (_listed(self.role), identity.roles),  # of ids alone, the case tells nothing
        )
        return all(not names.isdisjoint(has) for names, has in pairs if names)


class Grant(msgspec.Struct, frozen=True):
    """What those who match get: the rights of the operator (`admin`), or an account with these
    settings, in the fields of Account: one of his own for each, or one for all (`shared`).
    """

    match: Match
    admin: bool
    shared: bool
    settings: Mapping[str, Any]

    def account_name(self, identity: Identity) -> str:
        """What tells the account apart. An account of one's own stays when another entry, with
        other settings, fits from now on.
        """
        return f"shared:{self.settings['alias']}" if self.shared else f"own:{identity.object_id}"

    def settings_for(self, user: str) -> Mapping[str, Any]:
        """The settings, and what the account is called where it is one's own."""
        return self.settings if self.shared else {**self.settings, "name": f"entra:{user}", "user_id": user}


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    match: Match
    admin: bool = False
    shared: bool = False


def read_grants(entra: Entra, catalog: Catalog, now: datetime) -> tuple[Grant, ...]:
    """The entries of `entra.accounts`. Raises ConfigurationError."""
    grants = []
    for number, entry in enumerate(entra.accounts):
        try:
            grants.append(_read(entry, catalog, now))
        except (InvalidRequest, msgspec.ValidationError) as error:
            raise ConfigurationError(f"general_settings.entra.accounts[{number}]: {error}") from error
    _refuse_equal_names(grants)
    return tuple(grants)


def first_that_fits(grants: Sequence[Grant], identity: Identity) -> Grant | None:
    return next((each for each in grants if each.match.fits(identity)), None)


def _read(entry: Mapping[str, Any], catalog: Catalog, now: datetime) -> Grant:
    """Raises InvalidRequest or msgspec.ValidationError."""
    own = {name: value for name, value in entry.items() if name in _Entry.__struct_fields__}
    settings = {name: value for name, value in entry.items() if name not in own}
    read = msgspec.convert(own, _Entry)
    if read.match == Match():
        raise InvalidRequest("`match` must name an app_id, object_id, group or role.")
    if read.admin and (settings or read.shared):
        raise InvalidRequest("`admin` gives the operator's rights, which have no limits: leave the rest out.")
    for name, reason in _FROM_ELSEWHERE.items():
        if name in settings:
            raise InvalidRequest(f"`{name}` cannot be set here: {reason}.")
    if read.shared != bool(settings.get("key_alias")) and not read.admin:
        raise InvalidRequest("`key_alias` names the one account of a `shared` entry, and no other entry has it.")
    complete = complete_settings(settings, catalog, now)
    digest = hashlib.sha256(msgspec.json.encode(complete, order="sorted")).hexdigest()
    return Grant(read.match, read.admin, read.shared, {"name": "entra", **complete, "configured": digest})


def _refuse_equal_names(grants: Sequence[Grant]) -> None:
    aliases = [each.settings["alias"] for each in grants if each.shared]
    for alias in aliases:
        if aliases.count(alias) > 1:
            raise ConfigurationError(
                f"general_settings.entra.accounts: two entries share the account {alias!r}: make them one."
            )


def _listed(names: _Names) -> frozenset[str]:
    return frozenset([names] if isinstance(names, str) else names or [])


def _lower(names: _Names) -> frozenset[str]:
    return frozenset(each.lower() for each in _listed(names))
