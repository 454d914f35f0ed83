"""The queue trigger, with the delivery semantics of the Functions queue extension."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.functions.queue import QueueMessage
from azure.storage.queue import QueueMessage as StoredMessage
from azure.storage.queue.aio import QueueClient

from local.functions_host.durations import seconds
from local.functions_host.functions import Function, Functions
from local.functions_host.invocation import Invoker, message_data
from local.functions_host.messages import BASE64, decode, send_text
from shared.clock import Clock

log = logging.getLogger(__name__)

HOLD_SECONDS = 600  # how long a dequeued message stays hidden; renewed at half time while its function runs
_SHORTEST_POLL_SECONDS = 0.1
_LONGEST_POLL_SECONDS = 1.0  # Azure waits up to a minute to save transactions; nobody pays for them here


class QueueListener:
    """Calls one function for each message of its queue: at least once, in no order. A message that
    keeps failing goes to the poison queue.
    """

    def __init__(self, function: Function, functions: Functions, invoker: Invoker, clock: Clock) -> None:
        options = functions.extension("queues")
        self._function = function
        self._invoker = invoker
        self._clock = clock
        self._connection = functions.connection(function.trigger.properties["connection"])
        self._queue = function.trigger.properties["queueName"]
        self._batch = int(options.get("batchSize", 16))
        self._threshold = int(options.get("newBatchThreshold", self._batch // 2))
        self._attempts = int(options.get("maxDequeueCount", 5))
        self._encoding = options.get("messageEncoding", BASE64)
        self._pause = seconds(options.get("visibilityTimeout", "00:00:00"))
        self._longest_poll = min(seconds(options.get("maxPollingInterval", "00:01:00")), _LONGEST_POLL_SECONDS)

    async def run(self) -> None:
        """Listen until cancelled. A message whose function is cancelled is visible again at
        once.
        """
        poll = _SHORTEST_POLL_SECONDS
        running: set[asyncio.Task[None]] = set()
        async with (
            QueueClient.from_connection_string(self._connection, self._queue) as queue,
            asyncio.TaskGroup() as group,
        ):
            while True:
                if len(running) > self._threshold:
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    continue
                messages = await self._receive(queue)
                for message in messages:
                    task = group.create_task(self._process(queue, message))
                    running.add(task)
                    task.add_done_callback(running.discard)
                if messages:
                    poll = _SHORTEST_POLL_SECONDS
                else:
                    await self._clock.sleep(poll)
                    poll = min(2 * poll, self._longest_poll)

    async def _receive(self, queue: QueueClient) -> list[StoredMessage]:
        try:
            pages = queue.receive_messages(messages_per_page=self._batch, visibility_timeout=HOLD_SECONDS).by_page()
            async for page in pages:  # the first one is all we asked for
                return [message async for message in page]
        except ResourceNotFoundError:
            return []  # nobody has sent anything so far
        except AzureError as error:
            log.warning("queue %s cannot be read: %s", self._queue, error)
        return []

    async def _process(self, queue: QueueClient, message: StoredMessage) -> None:
        attempt = message.dequeue_count or 0
        held = _Held(queue, message, self._clock)
        if attempt > self._attempts:  # its earlier attempts ended without a result
            await held.settle(self._poison(held))
            return
        try:
            body = decode(message.content, self._encoding)  # one that cannot be bound counts as failed, and is tried as often
            data = message_data(body.decode(errors="replace"))
            async with held:
                await self._invoker.call(self._function, _argument(message, body), data)
        except asyncio.CancelledError:
            await held.settle(held.hide(0))
            raise
        except Exception:
            log.exception("function %s failed on message %s, attempt %d", self._function.name, message.id, attempt)
            last = attempt >= self._attempts
            await held.settle(self._poison(held) if last else held.hide(self._pause))
        else:
            await held.settle(held.delete())

    async def _poison(self, held: "_Held") -> None:
        await send_text(self._connection, f"{self._queue}-poison", held.message.content)
        await held.delete()


class _Held:
    """A dequeued message, hidden from other hosts. Within `async with` it stays hidden for as long
    as the block runs.
    """

    def __init__(self, queue: QueueClient, message: StoredMessage, clock: Clock) -> None:
        self.message = message
        self._queue = queue
        self._clock = clock
        self._updating = asyncio.Lock()

    async def __aenter__(self) -> None:
        self._renewal = asyncio.create_task(self._renew())

    async def __aexit__(self, *_: object) -> None:
        async with self._updating:  # after an interrupted renewal the receipt would be outdated
            self._renewal.cancel()
        await asyncio.wait([self._renewal])

    async def hide(self, seconds: float) -> None:
        """Make the message visible again in `seconds`, to any host."""
        updated = await self._queue.update_message(self.message, visibility_timeout=round(seconds))
        self.message.pop_receipt = updated.pop_receipt

    async def delete(self) -> None:
        await self._queue.delete_message(self.message)

    async def settle(self, action: Awaitable[None]) -> None:
        """Await an operation on the message. Where another host has taken it meanwhile, only log
        that.
        """
        try:
            await action
        except AzureError as error:
            log.warning("message %s could not be settled, it may run again: %s", self.message.id, error)

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep(HOLD_SECONDS / 2)
            async with self._updating:
                await self.settle(self.hide(HOLD_SECONDS))
            log.debug("message %s is held for another %d s", self.message.id, HOLD_SECONDS)


def _argument(message: StoredMessage, body: bytes) -> QueueMessage:
    build: Callable[..., QueueMessage] = QueueMessage  # the SDK leaves its constructor untyped
    return build(
        id=message.id,
        body=body,
        dequeue_count=message.dequeue_count,
        insertion_time=message.inserted_on,
        expiration_time=message.expires_on,
        time_next_visible=message.next_visible_on,
        pop_receipt=message.pop_receipt,
    )
