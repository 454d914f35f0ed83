"""The jobs of a simulated server, on SQLite. How far one is follows from its stored times and the
clock.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

Failure = tuple[str, str]  # code, message


@dataclass(frozen=True)
class Job:
    """One accepted create. Times are unix seconds, `takes` seconds of rendering; None never ends.

    `starts_at` is infinite behind a job that never ends. `parameters` are what the create said
    beside these fields. A job that is `lost` was forgotten by a server that was started again.
    """

    id: str
    deployment: str
    model: str
    prompt: str
    seconds: int
    size: str
    created_at: float
    starts_at: float
    takes: float | None
    failure_code: str | None = None
    failure_message: str | None = None
    remixed_from: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    deleted_at: float | None = None
    lost: bool = False

    @property
    def ends_at(self) -> float:
        return float("inf") if self.takes is None else self.starts_at + self.takes

    def running(self, now: float) -> bool:
        return now < self.ends_at

    def status(self, now: float) -> str:
        if self.running(now):
            return "queued" if now < self.starts_at else "in_progress"
        return "failed" if self.failure_code else "completed"

    def done(self, now: float) -> float:
        """How much of it is rendered, from 0 to 1."""
        if self.takes is None or now < self.starts_at:
            return 0.0
        return min(1.0, (now - self.starts_at) / self.takes) if self.takes else 1.0


def render_seconds(job_id: str, seconds: int, speed: float) -> float:
    """How long rendering takes: about 60 s for a 4-second film, 100 s for 8, 140 s for 12, divided
    by speed.

    The id decides, within a tenth, so that a job's times are the same whenever they are asked for.
    """
    chance = int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:4], "big") / 2**32
    return (20 + 10 * seconds) * (0.9 + 0.2 * chance) / speed


_COLUMNS = ", ".join(each.name for each in fields(Job))
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, deployment TEXT NOT NULL, model TEXT NOT NULL, prompt TEXT NOT NULL,
    seconds INTEGER NOT NULL, size TEXT NOT NULL, created_at REAL NOT NULL, starts_at REAL NOT NULL, takes REAL,
    failure_code TEXT, failure_message TEXT, remixed_from TEXT, parameters TEXT NOT NULL, deleted_at REAL, lost INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS creates ON jobs (deployment, created_at);
CREATE TABLE IF NOT EXISTS reference_images (id TEXT PRIMARY KEY, image BLOB NOT NULL);
"""
_KNOWN = "deleted_at IS NULL AND NOT lost"


class Jobs:
    """Every create that was ever accepted: committed before it is answered, kept when the video is
    deleted or forgotten.

    Calls are short and synchronous; they belong on the event loop's thread, so that no two of them
    interleave.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path)
        self._database.execute("PRAGMA journal_mode = WAL")
        # A commit survives kill -9 of this process; only a crash of the machine could lose it.
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        self._database.close()

    def add(self, job: Job, reference: bytes | None = None) -> None:
        values = [_stored(getattr(job, each.name)) for each in fields(Job)]
        with self._database as transaction:
            transaction.execute(f"INSERT INTO jobs ({_COLUMNS}) VALUES ({', '.join('?' for _ in values)})", values)
            if reference is not None:
                transaction.execute("INSERT INTO reference_images VALUES (?, ?)", (job.id, reference))

    def find(self, job_id: str) -> Job | None:
        found = self._select(f"WHERE id = ? AND {_KNOWN}", job_id)
        return found[0] if found else None

    def reference(self, job_id: str) -> bytes | None:
        with closing(self._database.execute("SELECT image FROM reference_images WHERE id = ?", (job_id,))) as found:
            row = found.fetchone()
        return row[0] if row else None

    def known(self) -> list[Job]:
        """Every job that was neither deleted nor lost, in the order in which they were accepted."""
        return self._select(f"WHERE {_KNOWN} ORDER BY number")

    def accepted(self) -> list[Job]:
        """Every accepted create in order, deleted ones too."""
        return self._select("ORDER BY number")

    def accepted_since(self, deployment: str, moment: float) -> int:
        return len(self._select("WHERE deployment = ? AND created_at > ?", deployment, moment))

    def running(self, now: float) -> list[Job]:
        """The jobs that the machine has still to do, deleted ones too."""
        return self._select("WHERE takes IS NULL OR starts_at + takes > ? ORDER BY number", now)

    def delete(self, job_id: str, now: float) -> None:
        self._change("deleted_at = ? WHERE id = ?", now, job_id)

    def lose(self) -> None:
        """Forget every job; none is worked on any longer."""
        self._change(f"lost = 1 WHERE {_KNOWN}")

    def move(self, job_id: str, starts_at: float, takes: float | None) -> None:
        """Let it start and end at other times."""
        self._change("starts_at = ?, takes = ? WHERE id = ?", starts_at, takes, job_id)

    def clear(self) -> None:
        with self._database as transaction:
            transaction.execute("DELETE FROM jobs")
            transaction.execute("DELETE FROM reference_images")

    def _change(self, rest: str, *values: object) -> None:
        with self._database as transaction:
            transaction.execute(f"UPDATE jobs SET {rest}", values)

    def _select(self, rest: str, *values: object) -> list[Job]:
        with closing(self._database.execute(f"SELECT {_COLUMNS} FROM jobs {rest}", values)) as rows:
            return [_read(row) for row in rows]


def _stored(value: object) -> object:
    return json.dumps(value) if isinstance(value, Mapping) else value


def _read(row: Iterable[Any]) -> Job:
    values = dict(zip((each.name for each in fields(Job)), row, strict=True))
    return Job(**{**values, "parameters": json.loads(values["parameters"]), "lost": bool(values["lost"])})
