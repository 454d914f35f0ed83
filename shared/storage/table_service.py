"""The table service: asks it again where that helps, and reads why it refuses."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from shared.config.settings import Storage
from shared.errors import ConfigurationError, StorageUnavailable
from shared.http_dates import seconds_until
from shared.storage import table_requests
from shared.storage.account import Account
from shared.storage.http_connection import Unanswered
from shared.storage.table_batches import answers, batch
from shared.storage.table_connection import Connection
from shared.storage.table_requests import Answer, Request, Unreadable
from shared.storage.table_signing import BearerToken, SharedKey

logger = logging.getLogger("gateway")

_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_PAUSES = (0.2, 0.4, 0.8, 1.6)  # seconds between five tries
# Seconds for all tries together. The platform ends an HTTP call after 230, and a call asks storage
# several times.
_LONGEST = 60.0
_LONGEST_PAUSE = 3.0  # seconds that a caller waits where storage asks for it; for longer, it is told so
_LONGEST_TOLD = 3600.0  # seconds: what a caller is told at most
_SKEW = 300.0  # seconds by which a clock may be wrong before that is why storage takes no signature

Sleep = Callable[[float], Awaitable[None]]
_Found: TypeAlias = list[Answer] | Unanswered


class TableService:
    """The table service of one account."""

    def __init__(self, connection: Connection, sleep: Sleep = asyncio.sleep) -> None:
        self._connection = connection
        self._sleep = sleep

    async def send(self, *requests: Request) -> list[Answer]:
        """The answers to a request, or to several that are one transaction: one that fails is
        answered alone. Raises StorageUnavailable.

        Where storage gives no answer, or one that says that it failed itself, it is asked again,
        five times in all, within a minute. That is right for a write too, whose first try may have
        worked and only its answer be lost: every write has a condition (there is no such row yet,
        or it is as it was read), which does not hold after the first. Such an answer says that it
        took several tries. Only a merge of what was not read works twice, with the same values.
        """
        until = asyncio.get_running_loop().time() + _LONGEST
        found = await self._try(requests, until)
        if _is_to_be_tried_again(found):
            try:
                async with asyncio.timeout_at(until):  # not before: a timer would cost each call
                    found = await self._try_again(requests, until, found)
            except TimeoutError as error:
                raise _unreached() from error
        if isinstance(found, Unanswered):
            raise _unreached() from found
        return found

    async def _try_again(self, requests: tuple[Request, ...], until: float, found: _Found) -> _Found:
        """What the second try gives, or one of the next; `found` is what the first gave."""
        number = 1
        for pause in _PAUSES:
            await self._sleep(pause if isinstance(found, Unanswered) else max(pause, _pause_asked_for(found[0])))
            found, number = await self._try(requests, until), number + 1
            if not _is_to_be_tried_again(found):
                break
        return found if isinstance(found, Unanswered) else [msgspec.structs.replace(each, tries=number) for each in found]

    async def create_table(self, name: str) -> None:
        """In Azure the templates make the tables; on a new laptop, the first request to each does.
        Raises StorageUnavailable.
        """
        (answer,) = await self.send(table_requests.new_table(name))
        if not answer.is_success and answer.code != "TableAlreadyExists":
            raise refusal(answer)

    async def close(self) -> None:
        await self._connection.close()

    async def _try(self, requests: tuple[Request, ...], until: float) -> _Found:
        try:
            if len(requests) == 1:
                return [await self._connection.ask(requests[0], until)]
            answer = await self._connection.ask(batch(requests, self._connection.address), until)
            return answers(answer, len(requests)) if answer.is_success else [answer]
        except Unanswered as error:
            return error
        except Unreadable as error:
            raise unreadable() from error


def table_service(storage: Storage, credential: Callable[[], Any]) -> TableService:
    """The account's key is in a connection string; else the app's identity is asked for a token,
    which is sent to an https address only. Raises ConfigurationError.
    """
    if storage.connection_string:
        account = Account.of(storage.connection_string)
        return TableService(Connection(account.endpoints["table"], SharedKey(account)))
    address = storage.table_url or ""
    if not address.startswith("https://"):
        raise ConfigurationError("AzureWebJobsStorage__tableServiceUri must begin with https://: a token is sent there.")
    return TableService(Connection(address, BearerToken(credential)))


def refusal(answer: Answer) -> StorageUnavailable:
    """An answer that no caller can mend. The log has the service's code and what it may mean."""
    logger.warning("storage refused a table operation: HTTP %d %s%s", answer.status, answer.code, _meaning(answer))
    return StorageUnavailable("Storage refused a table operation; try again.")


def unreadable() -> StorageUnavailable:
    """An answer that is none of the table service's."""
    return StorageUnavailable("Storage gave an answer that cannot be read; try again.")


def _unreached() -> StorageUnavailable:
    return StorageUnavailable("Storage cannot be reached; try again.")


def _is_to_be_tried_again(found: _Found) -> bool:
    return isinstance(found, Unanswered) or found[0].status in _AGAIN


def _meaning(answer: Answer) -> str:
    if answer.status != 403:
        return ""
    skew = _skew(answer)
    if abs(skew) > _SKEW:
        return f": this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} storage's"
    return ": check the account's key, or the identity's role Storage Table Data Contributor"


def _skew(answer: Answer) -> float:
    """Seconds by which this machine's clock is ahead of storage's."""
    return -(seconds_until(answer.headers.get("date"), datetime.now(UTC)) or 0.0)


def _pause_asked_for(answer: Answer) -> float:
    """Raises StorageUnavailable where it is longer than a caller should wait."""
    told = answer.headers.get("retry-after", "")
    seconds = float(told) if told.isascii() and told.isdigit() else 0.0
    if seconds > _LONGEST_PAUSE:
        raise StorageUnavailable("Storage is busy; try again.", retry_after=min(seconds, _LONGEST_TOLD))
    return seconds
