"""The points of an app's life at which it can be told to die: before and after every durable write
and every upstream call.

Nothing in the app knows of them. In the process that is to die, all that leads outside is wrapped:
the tables, the blobs, the upstream's client, the durable client, and every transaction of the task
hub that changes something. The name of a point is `<step>: <who>: <operation>: before` or `after`:
the function that runs (`engine` for the hub's own work), the one in `shared/` that wants it done,
and what is done. What none of the wrapped ones has sent is found where HTTP leaves the process, and
is a point `unnamed`: there should be none.
"""

import inspect
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import azure.durable_functions as df
import httpx
import msgspec
from azure.storage.blob.aio import BlobClient, BlobServiceClient

from local.durable.store import Store
from local.functions_host.functions import Function
from local.functions_host.invocation import Invoker
from shared.accounts.commits import Commits
from shared.callers.signing_keys import SigningKeys
from shared.capacity.wake_ups import WakeUps
from shared.events.couriers import Couriers
from shared.events.post import Post
from shared.media.content import Content
from shared.storage.queues import Queues
from shared.storage.table_connection import Connection
from shared.storage.table_service import TableService
from shared.storage.tables import Table
from shared.upstream.client import Upstream
from tests.trials.crash.names import commit_name, engine_name
from tests.trials.crash.sites import SHARED, Way, WayStep

_step: ContextVar[str] = ContextVar("step", default="engine")
_named: ContextVar[bool] = ContextVar("named", default=False)
_came_from: ContextVar[Way] = ContextVar("came_from", default=())

UNNAMED = "unnamed"
_READS = ("GET", "HEAD", "OPTIONS")
_ONCE = ("create_table", "create_container")  # of a process, under whatever comes first
# Where it is decided what is written and what is asked; the other modules know how.
_DECIDING = frozenset(
    f"{name}.py"
    for name in (
        "videos/submission",
        "videos/fallback",
        "videos/reconciliation",
        "videos/rendering",
        "videos/images",
        "videos/lifecycle",
        "events/couriers",
        "events/journal",
        "events/webhooks/webhooks",
        "upkeep/sweep",
        "upkeep/housekeeping",
        "upkeep/indexing",
        "upkeep/exporting",
        "routes/videos",
        "routes/admission",
        "routes/video_requests",
        "routes/operator",
        "routes/undelivered",
        "routes/webhooks",
    )
)
_BLOB_KINDS = {"mp4": "video", "webp": "thumbnail", "jpg": "spritesheet", "json": "manifest"}


class Death(msgspec.Struct, frozen=True):
    """When to die: at the `passage`-th time of a point (from 1), or of any point where none is
    named.
    """

    point: str | None = None
    passage: int = 1


class Passed(msgspec.Struct, frozen=True):
    """A point that was passed, and the way there through `shared/`, outermost function first."""

    point: str
    way: Way = ()


class Passages:
    """Notes every point that is passed in `file`, one a line, so that it outlives the process; and
    dies where it is told to.
    """

    def __init__(self, file: Path, death: Death | None) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._death = death
        self._passed: Counter[str | None] = Counter()

    def at(self, point: str, way: Way = ()) -> None:
        os.write(self._file, msgspec.json.encode(Passed(point, way)) + b"\n")
        self._passed[point] += 1
        self._passed[None] += 1
        if self._death is not None and self._passed[self._death.point] == self._death.passage:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Wrap every way out of this process. For a process that does nothing else: there is no way
        back.
        """
        self._note_steps()
        self._note_askers()
        self._around(Table, "commit", lambda table, partition, *writes: commit_name(table._name, partition, writes))
        self._around(TableService, "create_table", lambda _, table: f"{table}.create_table")
        self._around(BlobServiceClient, "create_container", lambda _, name, **__: f"blob.create_container {name}")
        for write in ("stage_block", "commit_block_list", "upload_blob", "delete_blob"):
            self._around(BlobClient, write, lambda blob, *_, write=write, **__: f"blob.{write} {_blob_kind(blob)}")
        for call, method in inspect.getmembers(Upstream, inspect.iscoroutinefunction):
            if not call.startswith("_"):
                self._around(Upstream, method.__name__, lambda *_, call=call, **__: f"upstream.{call}")
        self._around_content()
        self._around(Post, "post", lambda *_: "sink.post")
        self._around(SigningKeys, "_published", lambda _: "issuer.keys")
        self._around(Queues, "put", lambda _, queue, *__: "queue.put" + (" poison" if queue.endswith("-poison") else ""))
        for call in ("start_new", "raise_event", "terminate", "purge_instance_history"):
            self._around(df.DurableOrchestrationClient, call, lambda *_, call=call, **__: f"durable.{call}")
        self._around_transactions()
        self._around(Connection, "ask", lambda _, request, *__: _unnamed(request.method, request.path, _READS))
        self._around(aiohttp.ClientSession, "_request", lambda _, method, url, **__: _unnamed(method, url, _READS))
        self._around(httpx.AsyncClient, "send", lambda _, request, **__: _unnamed_request(request))

    def _around(self, owner: type, method: str, name: Callable[..., str | None]) -> None:
        """Points before and after an async method; `name` is given its arguments, and gives None
        for what needs no point.
        """
        inner = getattr(owner, method)

        @wraps(inner)
        async def watched(*args: Any, **kwargs: Any) -> Any:
            operation = name(*args, **kwargs)
            if operation is None:
                return await inner(*args, **kwargs)
            way = (*_way_here(), WayStep("", 0, f"{owner.__name__}.{method}"))
            point = f"{_who(way)}: {operation}" if method not in _ONCE else f"first use: {operation}"
            self.at(f"{point}: before", way)
            before = _named.set(True)
            try:
                return await inner(*args, **kwargs)
            finally:
                _named.reset(before)
                self.at(f"{point}: after")

        setattr(owner, method, watched)

    def _around_content(self) -> None:
        inner = Upstream.content

        @asynccontextmanager
        async def watched(upstream: Upstream, upstream_id: str, variant: str = "video") -> AsyncIterator[Content]:
            way = (*_way_here(), WayStep("", 0, "Upstream.content"))
            point = f"{_who(way)}: upstream.content {variant}"
            self.at(f"{point}: before", way)
            async with AsyncExitStack() as open_streams:
                before = _named.set(True)
                try:
                    content = await open_streams.enter_async_context(inner(upstream, upstream_id, variant))
                finally:
                    _named.reset(before)
                    self.at(f"{point}: after")  # the bytes are still to come: they pass the points of the blob
                yield content

        setattr(Upstream, "content", watched)  # noqa: B010 - assigned like the others; mypy wants no method assigned

    def _around_transactions(self) -> None:
        """Points around the commit of every transaction of the hub that changes something, whatever
        it is for.
        """
        inner = Store.run

        @wraps(inner)
        async def watched(store: Store, work: Callable[..., Any]) -> Any:
            point = None

            def noted(db: Any) -> Any:
                nonlocal point
                changes = db.total_changes
                result = work(db)
                operation = engine_name(work, result) if db.total_changes > changes else None
                if operation is not None:
                    point = f"engine: {operation}"
                    self.at(f"{point}: before")  # nothing of it is stored yet
                return result

            result = await inner(store, noted)
            if point is not None:
                self.at(f"{point}: after")
            return result

        setattr(Store, "run", watched)  # noqa: B010 - as above

    def _note_steps(self) -> None:
        inner = Invoker.call

        @wraps(inner)
        async def noted(invoker: Invoker, function: Function, *args: Any, **kwargs: Any) -> Any:
            async with step(function.name):
                return await inner(invoker, function, *args, **kwargs)

        setattr(Invoker, "call", noted)  # noqa: B010 - as above

    def _note_askers(self) -> None:
        """Accounts are changed, videos are woken and couriers summoned in tasks of their own: the
        way of whoever asked goes on there.
        """
        self._note_asker(Commits, "change_account")
        self._note_asker(WakeUps, "send")
        self._note_asker(Couriers, "summon")

    def _note_asker(self, owner: type, method: str) -> None:
        inner = getattr(owner, method)

        @wraps(inner)
        async def noted(*args: Any, **kwargs: Any) -> Any:
            before = _came_from.set((*_way_here(), WayStep("", 0, f"{owner.__name__}.{method}")))
            try:
                return await inner(*args, **kwargs)
            finally:
                _came_from.reset(before)

        setattr(owner, method, noted)


@asynccontextmanager
async def step(name: str) -> AsyncIterator[None]:
    """What is done meanwhile belongs to this step."""
    earlier = _step.set(name)
    try:
        yield
    finally:
        _step.reset(earlier)


def _who(way: Way) -> str:
    """The function that runs and, where it is another, the one in `shared/` that has decided on
    what is about to happen.
    """
    decided = [each.function.rpartition(".")[2] for each in way if each.file in _DECIDING]
    return ": ".join(dict.fromkeys([_step.get(), *decided[-1:]]))


def _way_here() -> Way:
    """The functions of `shared/` that are waiting for what is about to happen, and the lines they
    are at.
    """

    here = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        _, ours, file = frame.f_code.co_filename.partition(f"{SHARED}/")
        if ours:
            here.append(WayStep(file, frame.f_lineno, frame.f_code.co_qualname))
        frame = frame.f_back
    return (*_came_from.get(), *reversed(here))


def _blob_kind(blob: BlobClient) -> str:
    """What a blob is, by its container and its ending."""
    ending = str(blob.blob_name).rpartition(".")[2]
    return _BLOB_KINDS.get(ending, str(blob.container_name).removesuffix("s"))


def _unnamed_request(request: httpx.Request) -> str | None:
    """A signed URL is one of storage, from which films are read: that changes nothing."""
    return None if "sig" in request.url.params else _unnamed(request.method, request.url)


def _unnamed(method: str, url: Any, reads: tuple[str, ...] = ()) -> str | None:
    path = urlsplit(str(url)).path
    of_the_host = "/messages/" in path  # takes the messages of a queue; the app only puts them, elsewhere
    return None if _named.get() or method in reads or of_the_host else f"{UNNAMED} {method} {path}"
