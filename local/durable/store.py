"""SQLite on a thread of its own, so that the event loop never waits for the disk.

Work that is asked for at the same moment shares one transaction and so one disk flush (group
commit). Each piece of work is a savepoint in it, so one that fails does not affect the others.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

BUSY_SECONDS = 30.0
GROUP = 64  # pieces of work per transaction at most


class Store:
    """One connection and its thread. They live from the first use until `close`; a later use starts
    them again.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self._path = path
        self._schema = schema
        self._queue: queue.SimpleQueue[tuple[Work, Future[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in a transaction; its result is durable when this returns. Raises what `work`
        raises.
        """
        if self._thread is None:
            # A daemon thread: SQLite's log keeps what a process has committed, also when it ends
            # without `close`.
            self._thread = threading.Thread(target=self._serve, args=(self._queue,), name="durable-store", daemon=True)
            self._thread.start()
        done: Future[T] = Future()
        self._queue.put((work, done))
        return await asyncio.wrap_future(done)

    async def close(self) -> None:
        """Finish what was asked for, then end the thread and its connection."""
        if self._thread is not None:
            thread, self._thread = self._thread, None
            self._queue.put(None)
            self._queue = queue.SimpleQueue()
            await asyncio.to_thread(thread.join)

    def connect(self) -> sqlite3.Connection:
        """A new connection, ready for use; the caller closes it."""
        db = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.executescript(self._schema)
        return db

    def _serve(self, waiting: "queue.SimpleQueue[tuple[Work, Future[Any]] | None]") -> None:
        db: sqlite3.Connection | None = None
        more = True
        while more:
            group, more = _take(waiting)
            if not group:
                continue
            try:
                db = db or self.connect()
                results = _transact(db, group)
            except Exception as failure:  # handed to everybody who waits
                for _, done in group:
                    done.set_exception(failure)
                if db is not None and db.in_transaction:
                    db.execute("ROLLBACK")
                continue
            for (_, done), (result, error) in zip(group, results, strict=True):
                if error is None:
                    done.set_result(result)
                else:
                    done.set_exception(error)
        if db is not None:
            db.close()


def _take(waiting: "queue.SimpleQueue[tuple[Work, Future[Any]] | None]") -> tuple[list[tuple[Work, Future[Any]]], bool]:
    """Wait for the next piece of work and take what else is there. False: the store is closing."""
    group: list[tuple[Work, Future[Any]]] = []
    item = waiting.get()
    while item is not None:
        if item[1].set_running_or_notify_cancel():
            group.append(item)
        if len(group) == GROUP or waiting.empty():
            return group, True
        item = waiting.get()
    return group, False


def _transact(db: sqlite3.Connection, group: list[tuple[Work, Future[Any]]]) -> list[tuple[Any, Exception | None]]:
    results: list[tuple[Any, Exception | None]] = []
    db.execute("BEGIN IMMEDIATE")
    for work, _ in group:
        db.execute("SAVEPOINT one")
        try:
            results.append((work(db), None))
        except Exception as error:  # handed to the one who asked
            db.execute("ROLLBACK TO one")
            results.append((None, error))
        db.execute("RELEASE one")
    db.execute("COMMIT")
    return results
