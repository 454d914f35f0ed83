"""The queue trigger and the queue output, against a real queue service."""

import asyncio
import base64
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import azure.functions as func
import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.queue.aio import QueueClient

from local.functions_host.functions import LoadError, read
from local.functions_host.invocation import Invoker, expand
from local.functions_host.messages import send, send_text
from local.functions_host.queues import HOLD_SECONDS, QueueListener
from tests.fakes.clock import VirtualClock

pytestmark = pytest.mark.anyio

Work = Callable[[func.QueueMessage], Awaitable[None]]


class Bench:
    """A function that listens to a queue of its own, and what it was given."""

    def __init__(self, connection: str, folder: Path, options: dict[str, object] | None = None) -> None:
        self.connection = connection
        self.queue = f"q-{uuid4().hex}"
        self.clock = VirtualClock()
        self.seen: list[tuple[str, int]] = []
        self.work: Work = self._nothing
        self.puts = ["first", "second"]
        (folder / "host.json").write_text(json.dumps({"extensions": {"queues": options or {}}}))
        app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

        @app.queue_trigger(arg_name="message", queue_name="%QUEUE%", connection="Storage")
        @app.queue_output(arg_name="out", queue_name="%QUEUE%-{kind}", connection="Storage")
        async def listen(message: func.QueueMessage, out: func.Out[list[str]]) -> None:
            self.seen.append((message.get_body().decode(), message.dequeue_count or 0))
            out.set(self.puts)
            await self.work(message)

        functions = read(app, folder, {"QUEUE": self.queue, "Storage": connection})
        invoker = Invoker(functions, lambda: "{}")
        self._listener = QueueListener(functions.members[0], functions, invoker, self.clock)

    async def _nothing(self, message: func.QueueMessage) -> None: ...

    async def __aenter__(self) -> "Bench":
        self._task = asyncio.create_task(self._listener.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled() and (error := self._task.exception()):
            raise error

    async def send(self, text: str) -> None:
        await send(self.connection, self.queue, text)

    async def until(self, met: Callable[[], Awaitable[bool] | bool]) -> None:
        """Let virtual time and the real service go on until a condition is met."""
        async with asyncio.timeout(10):
            while not (outcome := met()) or (not isinstance(outcome, bool) and not await outcome):
                assert not self._task.done(), "the listener has ended"
                await self.clock.advance(0.1)
                await asyncio.sleep(0.01)

    async def count(self, suffix: str = "") -> int:
        """How many messages there are, hidden ones included."""
        async with QueueClient.from_connection_string(self.connection, self.queue + suffix) as queue:
            return (await queue.get_queue_properties()).approximate_message_count or 0

    async def is_empty(self) -> bool:
        return await self.count() == 0

    async def texts(self, suffix: str) -> list[str]:
        async with QueueClient.from_connection_string(self.connection, self.queue + suffix) as queue:
            return [base64.b64decode(message.content).decode() async for message in queue.receive_messages()]


async def test_a_message_is_given_to_the_function_and_deleted(azurite: str, tmp_path: Path) -> None:
    """The body arrives decoded; the queue is empty afterwards."""
    async with Bench(azurite, tmp_path) as bench:
        await bench.send('{"kind": "done"}')
        await bench.until(lambda: bool(bench.seen))
        await bench.until(bench.is_empty)
    assert bench.seen == [('{"kind": "done"}', 1)]


async def test_what_a_function_puts_out_is_sent_after_it_returned(azurite: str, tmp_path: Path) -> None:
    """A list is several messages; the queue's name is filled in from the message, and the queue is
    created.
    """
    async with Bench(azurite, tmp_path) as bench:
        await bench.send('{"kind": "done"}')
        await bench.until(lambda: bool(bench.seen))
        await bench.until(bench.is_empty)
    assert sorted(await bench.texts("-done")) == ["first", "second"]


async def test_a_message_that_keeps_failing_ends_in_the_poison_queue(azurite: str, tmp_path: Path) -> None:
    """After `maxDequeueCount` attempts it is moved, as it was; nothing is put out for it."""

    async def fail(message: func.QueueMessage) -> None:
        raise RuntimeError("always")

    async with Bench(azurite, tmp_path, {"maxDequeueCount": 3}) as bench:
        bench.work = fail
        await bench.send('{"kind": "bad"}')
        await bench.until(lambda: len(bench.seen) == 3)
        await bench.until(bench.is_empty)
    seen, poisoned = bench.seen, await bench.texts("-poison")
    assert [attempt for _, attempt in seen] == [1, 2, 3]
    assert poisoned == ['{"kind": "bad"}']


async def test_a_failed_message_stays_hidden_for_the_visibility_timeout(azurite: str, tmp_path: Path) -> None:
    """It is not tried again before that."""

    async def fail(message: func.QueueMessage) -> None:
        raise RuntimeError("once")

    async with Bench(azurite, tmp_path, {"visibilityTimeout": "01:00:00"}) as bench:
        bench.work = fail
        await bench.send('{"kind": "bad"}')
        await bench.until(lambda: bool(bench.seen))
        await bench.clock.advance(3)
        await asyncio.sleep(0.1)
        await bench.clock.advance(3)
    assert (len(bench.seen), await bench.count()) == (1, 1)


async def test_a_message_whose_earlier_attempts_died_is_moved_without_running(azurite: str, tmp_path: Path) -> None:
    """A dequeue count above the maximum means that nobody lived to move it."""
    bench = Bench(azurite, tmp_path, {"maxDequeueCount": 1})
    await bench.send("deadly")
    async with QueueClient.from_connection_string(azurite, bench.queue) as queue:
        message = await queue.receive_message(visibility_timeout=60)
        assert message is not None
        await queue.update_message(message, visibility_timeout=0)
    async with bench:
        await bench.until(bench.is_empty)
    assert (bench.seen, await bench.texts("-poison")) == ([], ["deadly"])


async def test_a_message_that_is_not_base64_is_tried_as_often_as_any_and_then_poison(
    azurite: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails where it is bound, five times at once, and the function never hears of it."""
    async with Bench(azurite, tmp_path) as bench:
        await send_text(azurite, bench.queue, "plain text!")
        await bench.until(bench.is_empty)
    assert (bench.seen, await bench.count("-poison")) == ([], 1)
    assert len([record for record in caplog.records if "failed on message" in record.message]) == 5


async def test_a_long_run_keeps_its_message(azurite: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The hold is renewed at half time, which outdates the first receipt; the renewed one deletes
    the message.
    """
    caplog.set_level(logging.DEBUG, "local.functions_host.queues")
    finish = asyncio.Event()
    given: list[func.QueueMessage] = []

    async def work(message: func.QueueMessage) -> None:
        given.append(message)
        await finish.wait()

    async with Bench(azurite, tmp_path) as bench:
        bench.work = work
        await bench.send('{"kind": "long"}')
        await bench.until(lambda: bool(given))
        await bench.clock.advance(HOLD_SECONDS / 2)
        await bench.until(lambda: "is held for another" in caplog.text)
        async with QueueClient.from_connection_string(azurite, bench.queue) as queue:
            with pytest.raises(HttpResponseError):
                await queue.delete_message(str(given[0].id), given[0].pop_receipt)
        finish.set()
        await bench.until(bench.is_empty)


async def test_a_host_that_stops_gives_its_messages_back_at_once(azurite: str, tmp_path: Path) -> None:
    """The next host does not wait ten minutes for them."""

    async def work(message: func.QueueMessage) -> None:
        await asyncio.Event().wait()

    async with Bench(azurite, tmp_path) as bench:
        bench.work = work
        await bench.send('{"kind": "long"}')
        await bench.until(lambda: bool(bench.seen))
    bench.work = bench._nothing
    async with bench:
        await bench.until(bench.is_empty)
    assert bench.seen == [('{"kind": "long"}', 1), ('{"kind": "long"}', 2)]


async def test_no_more_run_at_once_than_a_batch_and_the_threshold(azurite: str, tmp_path: Path) -> None:
    """The next batch is fetched when `newBatchThreshold` or fewer are in flight."""
    open_gate = asyncio.Event()

    async def work(message: func.QueueMessage) -> None:
        await open_gate.wait()

    async with Bench(azurite, tmp_path, {"batchSize": 2, "newBatchThreshold": 1}) as bench:
        bench.work = work
        for _ in range(5):
            await bench.send('{"kind": "one"}')
        await bench.until(lambda: len(bench.seen) >= 2)
        await bench.clock.advance(3)
        await asyncio.sleep(0.1)
        at_once = len(bench.seen)
        open_gate.set()
        await bench.until(bench.is_empty)
    assert (at_once, len(bench.seen)) == (2, 5)


def test_a_connection_that_is_not_set_is_named(tmp_path: Path) -> None:
    """The binding names an app setting; without it nothing can start."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    @app.queue_trigger(arg_name="message", queue_name="q", connection="Storage")
    def listen(message: func.QueueMessage) -> None: ...

    functions = read(app, tmp_path, {})
    with pytest.raises(LoadError, match="app setting Storage is missing"):
        QueueListener(functions.members[0], functions, Invoker(functions, str), VirtualClock())


def test_binding_expressions_are_filled_in() -> None:
    """A name that the message does not have is an error, not an empty string."""
    assert expand("a-{kind}-b", {"kind": "x"}) == "a-x-b"
    assert expand("{rand-guid}", {}) != expand("{rand-guid}", {})
    with pytest.raises(ValueError, match="nothing is called kind"):
        expand("a-{kind}", {})


async def test_a_json_text_is_written_anew(azurite: str, tmp_path: Path) -> None:
    """The host reads a text that is a JSON object and writes it with indentation; others stay."""
    async with Bench(azurite, tmp_path) as bench:
        bench.puts = ['{"a": [1]}', '"1"', "not json"]
        await bench.send('{"kind": "done"}')
        await bench.until(bench.is_empty)
        texts = await bench.texts("-done")
    assert sorted(texts) == ['"1"', "not json", '{\n  "a": [\n    1\n  ]\n}']


async def test_without_an_encoding_every_text_reaches_the_function(azurite: str, tmp_path: Path) -> None:
    """`messageEncoding: none` in host.json, for outputs too."""
    async with Bench(azurite, tmp_path, {"messageEncoding": "none"}) as bench:
        bench.puts = ["plain"]
        await send_text(azurite, bench.queue, '{"kind": "done"}')
        await bench.until(bench.is_empty)
        async with QueueClient.from_connection_string(azurite, f"{bench.queue}-done") as queue:
            assert [message.content async for message in queue.receive_messages()] == ["plain"]
    assert bench.seen == [('{"kind": "done"}', 1)]
