"""Virtual keys: authenticates callers, and issues, changes and ends keys for the operator.

A key's secret is shown once, and stored as its SHA-256, the token. The partition `tokens` maps
tokens and aliases to key ids; a key's account and videos lie under its id, so a key can get a new
secret and keep everything else.

A caller with an identity from outside has a key as well, made at its first use, whose secret nobody
knows: the partition maps the identity's name to it.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

import msgspec

from shared.accounts.account import Account, check_usable
from shared.accounts.commits import ACCOUNT, Commits, Decision
from shared.clock import Clock
from shared.errors import Conflict, NotFound, Unauthenticated
from shared.media.video import MASTER_OWNER
from shared.storage.tables import Delete, Insert, Row, Table, Write, WriteConflict, retry_conflicts

# The first is LiteLLM's, for callers whose `Authorization` is for somebody on the way, so it comes
# before that one. `api-key` is the official Azure client's.
_KEY_HEADERS = ("x-litellm-api-key", "api-key", "x-api-key")

TOKENS = "tokens"  # partition: token, alias or identity → key id
IDENTITY = "identity_"  # how the row of an identity begins there
KEYS = "keys"  # partition: every key id there ever was

_TOKEN = re.compile(r"[0-9a-f]{64}")
_KEY_ID = re.compile(r"key_[0-9a-f]{8}")
# How long an account in memory may be used to authenticate. A create reads the account again, in
# its transaction.
_FRESH = timedelta(seconds=5)
_REMEMBERED = 10_000  # keys; about 1 KB each


class Caller(msgspec.Struct, frozen=True):
    """An authenticated caller. `owner` is the id of its key; `master` sees all videos and has no
    limits, so no `account`.
    """

    owner: str
    master: bool = False
    account: Account | None = None


class Issued(msgspec.Struct, frozen=True):
    """A new key or a new secret: the only time that `secret` is known."""

    key_id: str
    secret: str
    account: Account


class Keys(msgspec.Struct):
    """The keys of the gateway. `master_key` is the operator's; without one there is no operator."""

    commits: Commits
    clock: Clock
    random: Random
    master_key: str | None
    _owners: dict[str, str] = msgspec.field(default_factory=dict)  # token or identity → key id, when last read
    _accounts: dict[str, tuple[datetime, Account]] = msgspec.field(default_factory=dict)
    _first_uses: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)

    async def authenticate(self, headers: Mapping[str, str]) -> Caller:
        """The caller behind `Authorization: Bearer …` or `api-key: …`. Raises Unauthenticated."""
        secret = presented_secret(headers)
        if self.is_master(secret):
            return Caller(MASTER_OWNER, master=True)
        caller = await self._holder(token_of(secret))
        if caller is None or caller.account is None:
            raise Unauthenticated("The API key is not valid.")
        check_usable(caller.account, self.clock.now())
        return caller

    async def named(self, key_id: str) -> Caller:
        """The caller with this key, which is named and not presented: for those whom the operator
        trusts with every key. Raises NotFound or Unauthenticated.
        """
        if not _KEY_ID.fullmatch(key_id):
            raise _unknown()
        account = await self.get(key_id)
        check_usable(account, self.clock.now())
        return Caller(key_id, account=account)

    async def account_of(self, identity: str, settings: Mapping[str, Any]) -> tuple[str, Account]:
        """The key id and the account of an identity from outside. It is made at the first use, and
        gets the settings again when their digest, `configured`, has changed.

        An account that was deleted stays so: it is not made anew. Raises Unauthenticated for one
        that has ended, or Conflict (409) where the alias is in use.
        """
        name = _identity_key(identity)
        # The row is never changed nor deleted, so that what is remembered of it is right.
        owner = self._owners.get(name) or await self._first_use(name, settings)
        account = await self._account(owner)
        if account is None:
            raise Unauthenticated("The API key is not valid.")
        check_usable(account, self.clock.now())
        if account.configured != settings["configured"]:
            account = await self._change(owner, account, settings)
        return owner, account

    async def _first_use(self, name: str, settings: Mapping[str, Any]) -> str:
        """Make the account of an identity, unless it has one. Who comes at the same moment gets the
        same one, also through another instance.
        """
        async with self._first_uses:
            if owner := await self._read_owner(name):
                return owner
            account = msgspec.structs.replace(Account(), token=secrets.token_hex(32), **settings)
            try:
                return (await self._make(account, name))[0]
            except Conflict:
                if owner := await self._read_owner(name):
                    return owner
                raise

    def is_master(self, secret: str) -> bool:
        master = self.master_key
        return master is not None and hmac.compare_digest(_encoded(secret), master.encode())

    async def issue(self, account: Account, secret: str | None = None) -> Issued:
        """Make a key with these settings. Raises Conflict (409) where the alias or the chosen
        secret is in use.
        """
        secret = secret or f"sk-{secrets.token_urlsafe(32)}"
        token = token_of(secret)
        key_id, made = await self._make(msgspec.structs.replace(account, token=token, name=_shown(secret)))
        return Issued(key_id, secret, made)

    async def _make(self, account: Account, *identities: str) -> tuple[str, Account]:
        """Make a key to which its token leads, and an identity if it is one's. Raises Conflict
        (409).
        """
        now = self.clock.now()
        made = msgspec.structs.replace(account, created_at=now, updated_at=now, window_anchor=now, window_start=now)
        key_id = f"key_{1 + secrets.randbelow(2**32 - 1):08x}"  # 0 is the operator's own
        try:
            (listed,) = await self.commits.table.commit(KEYS, Insert(key_id, {}))
        except WriteConflict:  # the id is taken, once in some billion
            return await self._make(account, *identities)
        written = await self._write_account(key_id, made)
        # Without a row in `tokens` the account cannot be used, so a crash here leaves nothing that
        # counts.
        try:
            await self._point(key_id, [made.token or "", *identities, *_alias_keys(made.alias)])
        except Conflict:
            await self.commits.table.commit(key_id, Delete(Row(ACCOUNT, {}, written)))
            await self.commits.table.commit(KEYS, Delete(Row(key_id, {}, listed)))
            raise
        return key_id, made

    async def update(self, key_id: str, changes: Mapping[str, Any]) -> Account:
        """Change a key's settings, never its counters. Raises NotFound, or Conflict (409) where the
        alias is in use.
        """
        return await self._change(key_id, await self.get(key_id), changes)

    async def regenerate(self, key_id: str, secret: str | None = None, changes: Mapping[str, Any] | None = None) -> Issued:
        """Give a key a new secret, and new settings if there are any. Raises NotFound, or Conflict
        (409).
        """
        before = await self.get(key_id)
        secret = secret or f"sk-{secrets.token_urlsafe(32)}"
        token = token_of(secret)
        if token == before.token:
            raise _taken()
        after = await self._change(key_id, before, {**(changes or {}), "token": token, "name": _shown(secret)}, token)
        await self._point(key_id, [], [before.token or ""])
        return Issued(key_id, secret, after)

    async def delete(self, key_id: str) -> None:
        """End a key for good. Its videos and its spend stay on record. Raises NotFound."""
        before = await self.get(key_id)
        await self._change(key_id, before, {"deleted": True, "alias": None})
        await self._point(key_id, [], [before.token or ""])

    async def get(self, key_id: str) -> Account:
        """The account of a key. Raises NotFound, also for a deleted key."""
        account = await self.commits.account(key_id) if key_id != MASTER_OWNER else None
        if account is None or account.deleted:
            raise _unknown()
        return account

    async def find(self, name: str) -> str:
        """The id of a key by its secret, its token or its id. Raises NotFound."""
        if _KEY_ID.fullmatch(name):
            return name
        row = await self.commits.table.get(TOKENS, name if _TOKEN.fullmatch(name) else token_of(name))
        return self._pointed(row)

    async def find_alias(self, alias: str) -> str:
        """The id of a key by its alias. Raises NotFound."""
        return self._pointed(await self.commits.table.get(TOKENS, _alias_key(alias)))

    async def all(self) -> AsyncIterator[tuple[str, Account]]:
        """Every key that was ever made, in no special order."""
        async for row in self.commits.table.scan(KEYS):
            account = await self.commits.account(row.key)
            if account is not None:
                yield row.key, account

    @staticmethod
    def _pointed(row: Row | None) -> str:
        if row is None:
            raise _unknown()
        return str(row.values["key"])

    async def _holder(self, token: str) -> Caller | None:
        """The caller whose token this is. The remembered key id may be outdated; then the row in
        `tokens` is read again.
        """
        remembered = self._owners.get(token)
        account = await self._held(remembered, token) if remembered else None
        if remembered and account:
            return Caller(remembered, account=account)
        owner = await self._read_owner(token)
        return Caller(owner, account=await self._held(owner, token)) if owner else None

    async def _held(self, owner: str, token: str) -> Account | None:
        """The key's account, if `token` is still its token."""
        account = await self._account(owner)
        return account if account is not None and hmac.compare_digest(account.token or "", token) else None

    async def _read_owner(self, name: str) -> str | None:
        """The id of the key that a row in `tokens` leads to; None where there is no such row."""
        row = await self.commits.table.get(TOKENS, name)
        if row is None:
            return None
        if len(self._owners) >= _REMEMBERED:
            self._owners.clear()
        owner = self._owners[name] = str(row.values["key"])
        return owner

    async def _account(self, owner: str) -> Account | None:
        """The key's account; None for a key that was deleted."""
        now = self.clock.now()
        read_at, account = self._accounts.get(owner, (now - 2 * _FRESH, None))
        if account is None or now - read_at > _FRESH:
            account = await self.commits.account(owner)
            if account is None:
                return None
            if len(self._accounts) >= _REMEMBERED:
                self._accounts.clear()
            self._accounts[owner] = (now, account)
        return None if account.deleted else account

    async def _change(self, key_id: str, before: Account, changes: Mapping[str, Any], *tokens: str) -> Account:
        """Write the rows in `tokens` first, then the account. After a crash in between, repeating
        the change completes it.
        """
        renamed = "alias" in changes and changes["alias"] != before.alias
        new, old = (_alias_keys(changes["alias"]), _alias_keys(before.alias)) if renamed else ([], [])
        await self._point(key_id, [*tokens, *new], old)
        after = await self.commits.change_account(key_id, _Edit(dict(changes), self.clock.now()))
        self._accounts.pop(key_id, None)
        return after

    async def _write_account(self, key_id: str, made: Account) -> str:
        """Write a new account and return its etag. The id is random, so an existing row is our own:
        only the answer of the first write was lost.
        """
        try:
            (etag,) = await self.commits.table.commit(key_id, Insert(ACCOUNT, made.to_row()))
        except WriteConflict:
            row = await self.commits.table.get(key_id, ACCOUNT)
            if row is None or row.values.get("token") != made.token:
                raise
            return row.etag
        return etag

    async def _point(self, key_id: str, new: Sequence[str], old: Sequence[str] = ()) -> None:
        """Write rows in `tokens` that lead to the key (`new`), and delete others (`old`), in one
        transaction. May be repeated.

        Raises Conflict (409) where a new one leads to another key already.
        """

        async def attempt() -> None:
            writes: list[Write] = []
            for name in new:
                row = await self.commits.table.get(TOKENS, name)
                if row is None:
                    writes.append(Insert(name, {"key": key_id}))
                elif row.values["key"] != key_id:
                    raise _taken()
            for name in old:
                row = await self.commits.table.get(TOKENS, name)
                if row is not None and row.values["key"] == key_id:
                    writes.append(Delete(row))
            if writes:
                await self.commits.table.commit(TOKENS, *writes)

        await retry_conflicts(attempt, self.clock, self.random)


class _Edit(msgspec.Struct):
    """Change an account's settings, not its counters."""

    changes: dict[str, Any]
    now: datetime
    weight: int = 0

    async def read(self, table: Table, *, again: bool) -> None:
        """Reads nothing: only the account itself is needed."""

    def decide(self, account: Account, taken: set[str]) -> Decision[Account] | None:
        del taken
        if account.deleted and "deleted" not in self.changes:  # it was deleted since it was looked up
            raise _unknown()
        after = msgspec.structs.replace(account, **self.changes, updated_at=self.now)
        # The settings of an identity change with the entry that fits its caller, who would begin a
        # new window, and be rid of what is spent, by changing between two apps.
        if after.budget_duration != account.budget_duration and account.configured is None:
            after = msgspec.structs.replace(after, window_anchor=self.now)
        return Decision(after, after)


def _unknown() -> NotFound:
    return NotFound("Key not found.", code="key_not_found", param="key")


def _taken() -> Conflict:
    return Conflict("A key with this alias or secret exists already.", code="key_exists", param="key_alias")


def presented_secret(headers: Mapping[str, str]) -> str:
    """The secret that a request carries. Raises Unauthenticated where there is none."""
    meant, *others = (_plain(headers.get(name, "")) for name in _KEY_HEADERS)
    secret = meant or _bearer(headers.get("authorization", "")) or next(filter(None, others), "")
    if not secret:
        raise Unauthenticated("No API key: send it as 'Authorization: Bearer <key>' or in the header 'api-key'.")
    return secret


def _bearer(header: str) -> str:
    scheme, _, secret = header.strip().partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _plain(header: str) -> str:
    """A header that is a key, where LiteLLM's callers may put `Bearer` before it."""
    return _bearer(header) or ("" if header.strip().lower() == "bearer" else header.strip())


def token_of(secret: str) -> str:
    """The SHA-256 of a secret, in hex. Secrets are long and random, so no slow hash is needed."""
    return hashlib.sha256(_encoded(secret)).hexdigest()


def _encoded(secret: str) -> bytes:
    """Encode a secret. A server passes header bytes that are not UTF-8 as lone surrogates."""
    return secret.encode(errors="surrogatepass")


def _shown(secret: str) -> str:
    return f"sk-...{secret[-4:]}"


def _alias_keys(alias: str | None) -> list[str]:
    return [] if alias is None else [_alias_key(alias)]


def _identity_key(identity: str) -> str:
    """The row key of an identity, which no secret has: those are hashes alone."""
    return f"{IDENTITY}{hashlib.sha256(identity.encode()).hexdigest()}"


def _alias_key(alias: str) -> str:
    """The row key of an alias: a hash, because a row key may not contain every character of an
    alias.
    """
    return f"alias_{hashlib.sha256(alias.encode()).hexdigest()}"
