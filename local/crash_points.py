"""The points of an app's life at which it can be told to die: before and after every durable write and every upstream call.

Nothing in the app knows of them. In the process that is to die, the classes through which everything leaves it are wrapped: the
tables, the blobs, the upstream's client, the durable client, and the task hub's own store. A point is named
`<step>: <operation>: before` or `after`; its step is the function that is running, or `engine` between two of them.
"""

import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import msgspec
from azure.storage.blob.aio import BlobClient

from local.durable.store import Store
from local.functions import Function
from local.invocation import Invoker
from shared.tables import Delete, Insert, Replace, Row, Table, Write
from shared.upstream import Content, Upstream

_step: ContextVar[str] = ContextVar("step", default="engine")

_BLOB_WRITES = ("stage_block", "commit_block_list", "upload_blob", "delete_blob")
_UPSTREAM_CALLS = ("create", "remix", "get", "recent", "delete")
_ENGINE_WRITES = frozenset({"finish_activity", "finish_episode"})
_ROWS = {
    "video_": "video",
    "wait_": "place",
    "once_": "once",
    "hold_": "hold",
    "state": "state",
    "usual": "usual",
    "key": "key",
}


class Death(msgspec.Struct, frozen=True):
    """When to die: at the `passage`-th time of a point (from 1), or of any point where none is named."""

    point: str | None = None
    passage: int = 1


class Passages:
    """Notes every point that is passed in `file`, one a line, so that it outlives the process; and dies where it is told to."""

    def __init__(self, file: Path, death: Death | None) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._death = death
        self._passed: Counter[str | None] = Counter()

    def at(self, point: str) -> None:
        os.write(self._file, f"{point}\n".encode())
        self._passed[point] += 1
        self._passed[None] += 1
        if self._death is not None and self._passed[self._death.point] == self._death.passage:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Wrap every way out of this process. For a process that does nothing else: there is no way back."""
        self._note_steps()
        self._around(Table, "commit", lambda table, _, *writes: f"{_table(table)}[{_rows(table, writes)}]")
        for write in _BLOB_WRITES:
            self._around(BlobClient, write, lambda *_, write=write, **__: f"blob.{write}")
        for call in _UPSTREAM_CALLS:
            self._around(Upstream, call, lambda *_, call=call, **__: f"upstream.{call}")
        self._around_content()
        self._around(df.DurableOrchestrationClient, "start_new", lambda *_, **__: "durable.start_new")
        self._around(Store, "run", lambda _, work: _engine_write(work))

    def _around(self, owner: type, method: str, name: Callable[..., str | None]) -> None:
        """Points before and after an async method; `name` is given its arguments, and gives None for what is no write."""
        inner = getattr(owner, method)

        @wraps(inner)
        async def watched(*args: Any, **kwargs: Any) -> Any:
            operation = name(*args, **kwargs)
            if operation is None:
                return await inner(*args, **kwargs)
            point = f"{_step.get()}: {operation}"
            self.at(f"{point}: before")
            try:
                return await inner(*args, **kwargs)
            finally:
                self.at(f"{point}: after")

        setattr(owner, method, watched)

    def _around_content(self) -> None:
        inner = Upstream.content

        @asynccontextmanager
        async def watched(upstream: Upstream, upstream_id: str, variant: str = "video") -> AsyncIterator[Content]:
            point = f"{_step.get()}: upstream.content"
            self.at(f"{point}: before")
            async with inner(upstream, upstream_id, variant) as content:
                self.at(f"{point}: after")  # the bytes are still to come: they pass the points of the blob
                yield content

        setattr(Upstream, "content", watched)  # noqa: B010 - assigned like the others; mypy wants no method assigned

    def _note_steps(self) -> None:
        inner = Invoker.call

        @wraps(inner)
        async def noted(invoker: Invoker, function: Function, *args: Any, **kwargs: Any) -> Any:
            earlier = _step.set(function.name)
            try:
                return await inner(invoker, function, *args, **kwargs)
            finally:
                _step.reset(earlier)

        setattr(Invoker, "call", noted)  # noqa: B010 - as above


@asynccontextmanager
async def step(name: str) -> AsyncIterator[None]:
    """What is done meanwhile belongs to this step."""
    earlier = _step.set(name)
    try:
        yield
    finally:
        _step.reset(earlier)


def _table(table: Table) -> str:
    return "keys" if table._name == "gateway" else "pool"


def _rows(table: Table, writes: tuple[Write, ...]) -> str:
    return " ".join(sorted(_row(table, write) for write in writes))


def _row(table: Table, write: Write) -> str:
    match write:
        case Insert(key, _):
            sign = "+"
        case Replace(Row(key), _):
            sign = "~"
        case Delete(Row(key)):
            sign = "-"
    kind = next((kind for start, kind in _ROWS.items() if key.startswith(start)), "claim")
    return sign + ("note" if kind == "video" and _table(table) == "pool" else kind)


def _engine_write(work: Callable[..., Any]) -> str | None:
    """The store is given closures over one statement each; those that record what was done are the engine's writes."""
    names = _ENGINE_WRITES.intersection(work.__code__.co_names)
    return next(iter(names), None)
