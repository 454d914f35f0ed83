"""Webhooks as a destination of the journal. The addressees of an event are the key's endpoints that
want it, and the callback URL that the request or the key gave.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import msgspec

from shared.accounts.account import Account, callback_hosts
from shared.accounts.keys import token_of
from shared.clock import Clock
from shared.errors import NotFound, RateLimited, StorageUnavailable
from shared.events.destination import Delivery, Receipt
from shared.events.post import Answer, Letter, Post
from shared.events.record import Record
from shared.events.webhooks.addresses import Addresses, NotAllowed
from shared.events.webhooks.endpoints import Endpoint, Endpoints
from shared.events.webhooks.history import Attempt, History
from shared.events.webhooks.payload import ENDS, body_of, id_of, type_of
from shared.events.webhooks.signing import secret_of, signed
from shared.media.remote_image import host_of
from shared.media.video import Video
from shared.storage.video_store import VideoStore

logger = logging.getLogger("gateway")

# Seconds to wait after each failed try, as Standard Webhooks suggests: ten tries in about 3 days.
_HOUR = 3600.0
PAUSES: tuple[float, ...] = (5, 300, 1800, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR, 24 * _HOUR)
_AT_ONCE = 16  # requests of this process
_TEST_AGAIN = 5  # seconds: the `Retry-After` of a refused test
_GONE = 410
_CALLBACK = "callback"


class Webhooks(msgspec.Struct, frozen=True):
    """Sends events of videos to the URLs that their key or request named. It holds the operator's
    `master_key`, so its repr shows nothing.
    """

    endpoints: Endpoints
    history: History
    videos: VideoStore
    addresses: Addresses
    post: Post
    clock: Clock
    master_key: str
    name: str = "webhooks"
    pauses: Sequence[float] = PAUSES
    everyone: bool = False
    _turns: asyncio.Semaphore = msgspec.field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    _testing: set[str] = msgspec.field(default_factory=set)  # the keys that have a test under way

    def __repr__(self) -> str:
        return "Webhooks()"

    async def addressees(self, record: Record, video: Video | None) -> Sequence[str]:
        """The ids of the endpoints that want an event, and `callback` for the callback URL. One
        point read, or none if the video is not `hooked`.
        """
        if video is None or not video.hooked:
            return ()
        wanted = type_of(record)
        endpoints = [each.id for each in await self.endpoints.of(record.key_id) if each.wants(wanted)]
        return [*endpoints, _CALLBACK] if video.callback_url and wanted in ENDS else endpoints

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Receipt]:
        """Try each delivery, all at once, and note the tries for their owners."""
        sent = await asyncio.gather(*map(self._tried, deliveries))
        tried: dict[tuple[str, str], list[Attempt]] = {}
        for receipt, attempt in sent:
            if attempt is not None:
                tried.setdefault(receipt.delivery.addressee, []).append(attempt)
        for (owner, to), attempts in tried.items():
            await self.history.note(owner, to, attempts)
        return [receipt for receipt, _ in sent]

    async def _tried(self, delivery: Delivery) -> tuple[Receipt, Attempt | None]:
        """One try that does not fail the others of its batch: their receipts would be lost, and
        they would be sent again. Raises StorageUnavailable.
        """
        try:
            return await self._send(delivery)
        except StorageUnavailable:
            raise
        except Exception as error:
            logger.exception("the webhook for %s could not be sent", delivery.record.id)
            return Receipt(delivery, "later", type(error).__name__), None

    async def _send(self, delivery: Delivery) -> tuple[Receipt, Attempt | None]:
        """One try, and the attempt to show its owner; a callback URL has no history. Nothing is
        sent to an endpoint that is deleted or disabled.
        """
        record = delivery.record
        account = await self.endpoints.commits.account(record.key_id)
        endpoint = await self._endpoint(delivery, account)
        if endpoint is None or endpoint.disabled:
            return Receipt(delivery, "dropped"), None
        async with self._turns:
            answer = await self._send_once(account, endpoint, id_of(record), body_of(record))
        if answer.status == _GONE and delivery.to != _CALLBACK:
            with suppress(NotFound):  # its owner deleted it meanwhile
                await self.endpoints.change(record.key_id, endpoint.id, partial(_disabled, why="its server answered 410"))
        receipt = _receipt(delivery, answer)
        return receipt, None if delivery.to == _CALLBACK else self._attempt(receipt, answer)

    def _attempt(self, receipt: Receipt, answer: Answer) -> Attempt:
        record = receipt.delivery.record
        return Attempt(
            event_id=id_of(record),
            record_id=record.id,
            type=type_of(record),
            video_id=record.video_id,
            tried_at=self.clock.now(),
            tries=receipt.delivery.tries + 1,
            outcome=receipt.outcome,
            status=answer.status,
            reason=receipt.reason,
        )

    async def _endpoint(self, delivery: Delivery, account: Account | None) -> Endpoint | None:
        """The endpoint of a delivery, or None if it is gone."""
        record = delivery.record
        if delivery.to == _CALLBACK:
            return await self._callback(record, account)
        try:
            return await self.endpoints.find(record.key_id, delivery.to)
        except NotFound:
            return None

    async def _callback(self, record: Record, account: Account | None) -> Endpoint | None:
        """The video's callback URL as an endpoint, whose secret is computed from the key."""
        entry = await self.videos.find(record.video_id)
        if entry is None or entry.video.callback_url is None or account is None:
            return None
        token = account.token or token_of(self.master_key)
        made = entry.video.created_at
        return Endpoint(
            id=_CALLBACK,
            name=_CALLBACK,
            url=entry.video.callback_url,
            event_types=list(ENDS),
            secret=secret_of(token),
            created_at=made,
            updated_at=made,
        )

    async def test(self, owner: str, endpoint: Endpoint, event_id: str, body: bytes) -> Answer:
        """Send a sample at once and return the answer. A key may run one test at a time, and tests
        do not take the turns of events, so a server that hangs holds up nobody else. Raises
        RateLimited or StorageUnavailable.
        """
        if owner in self._testing:
            message = "A test of an endpoint of this key is under way; wait for its answer."
            raise RateLimited(message, code="webhook_test_running", retry_after=_TEST_AGAIN)
        self._testing.add(owner)
        try:
            return await self._send_once(await self.endpoints.commits.account(owner), endpoint, event_id, body)
        finally:
            self._testing.discard(owner)

    async def _send_once(self, account: Account | None, endpoint: Endpoint, event_id: str, body: bytes) -> Answer:
        """One signed request to an endpoint, not repeated."""
        now = self.clock.now()
        signature = signed(event_id, int(now.timestamp()), body, endpoint.secrets(now))
        try:
            named, pinned = await self.addresses.pinned(endpoint.url, _hosts(account, endpoint))
        except NotAllowed as error:
            return Answer(None, str(error))
        # TLS checks the certificate against the name, not the IP address. The connection is not
        # kept: the pool finds it by address, and another name may have the same address.
        headers = {**signature, "host": named.netloc.decode(), "content-type": "application/json", "connection": "close"}
        return await self.post.post(Letter(str(pinned), headers, body, server=host_of(named)))


def _hosts(account: Account | None, endpoint: Endpoint) -> Sequence[str]:
    """The only hosts that the key's webhooks may go to; none means any. The URL that the operator
    set for the key is exempt.
    """
    chosen = account is not None and account.webhook_url == endpoint.url
    return () if chosen else callback_hosts(account)


def _receipt(delivery: Delivery, answer: Answer) -> Receipt:
    if answer.status == _GONE:
        return Receipt(delivery, "dropped", answer.reason)
    if answer.arrived:
        return Receipt(delivery, "delivered")
    return Receipt(delivery, "later", answer.reason, answer.after)


def _disabled(endpoint: Endpoint, why: str) -> Endpoint:
    return msgspec.structs.replace(endpoint, disabled=why)
