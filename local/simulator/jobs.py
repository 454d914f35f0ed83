"""The jobs of the simulated Azure OpenAI, on SQLite. What a job looks like follows from its stored
times and the clock.
"""

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

LIFETIME = 24 * 60 * 60  # seconds of clock time, counted from creation

Failure = tuple[str, str]  # code, message

MODERATED: Failure = ("moderation_blocked", "Your request was blocked by our moderation system.")  # E11
# The texts of these two were never captured (E20 and the like).
UNSUPPORTED_SIZE: Failure = ("invalid_size", "The requested size is not supported by this model.")
BROKEN: Failure = ("internal_error", "The video could not be generated.")

SIZES = ("720x1280", "1280x720", "1024x1792", "1792x1024")
LARGE_SIZES = frozenset(SIZES[2:])


@dataclass(frozen=True)
class Job:
    """One accepted create. Times are unix seconds; `ends_at` None is a job that never ends."""

    id: str
    deployment: str
    model: str
    prompt: str
    seconds: int
    size: str
    created_at: float
    starts_at: float
    ends_at: float | None
    failure_code: str | None = None
    failure_message: str | None = None
    remixed_from: str | None = None
    deleted_at: float | None = None

    def running(self, now: float) -> bool:
        return self.deleted_at is None and (self.ends_at is None or now < self.ends_at)

    def expired(self, now: float) -> bool:
        return now >= int(self.created_at) + LIFETIME

    def status(self, now: float) -> str:
        if self.running(now):
            return "queued" if now < self.starts_at else "in_progress"
        return "failed" if self.failure_code else "completed"

    def video(self, now: float) -> dict[str, Any]:
        """The video object, with all the keys that the specification requires."""
        status = self.status(now)
        completed = status == "completed"
        failure = {"code": self.failure_code, "message": self.failure_message} if status == "failed" else None
        return {
            "id": self.id,
            "object": "video",
            "model": self.model,
            "status": status,
            "progress": 100 if completed else self._progress(now),
            "created_at": int(self.created_at),
            "completed_at": int(self.ends_at) if completed and self.ends_at is not None else None,
            "expires_at": int(self.created_at) + LIFETIME if completed else None,
            "prompt": self.prompt,
            "size": self.size,
            "seconds": str(self.seconds),
            "remixed_from_video_id": self.remixed_from,
            "error": failure,
        }

    def _progress(self, now: float) -> int:
        ends_at = self.ends_at if self.ends_at is not None else self.starts_at + LIFETIME
        return max(0, min(99, int(100 * (now - self.starts_at) / (ends_at - self.starts_at))))


def schedule(job_id: str, seconds: int, created_at: float, speed: float) -> tuple[float, float]:
    """When rendering starts and ends: after about 60 s for a 4-second film, 100 s for 8, 140 s for
    12, divided by speed.

    The id decides, within a tenth, so that a job's times are the same whenever they are asked for.
    """
    chance = int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:4], "big") / 2**32
    takes = (20 + 10 * seconds) * (0.9 + 0.2 * chance) / speed
    return created_at + takes / 20, created_at + takes


def fate(prompt: str, model: str, size: str) -> tuple[Failure | None, bool]:
    """How a job will fail, if it does, and whether it ever ends. Words in the prompt decide, and
    what the model can do.
    """
    words = prompt.lower()
    if "disturbing" in words:
        return MODERATED, True
    if "unlucky" in words:
        return BROKEN, True
    if model == "sora-2" and size in LARGE_SIZES:
        return UNSUPPORTED_SIZE, True
    return None, "endless" not in words


_COLUMNS = ", ".join(field.name for field in fields(Job))
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, deployment TEXT NOT NULL, model TEXT NOT NULL, prompt TEXT NOT NULL,
    seconds INTEGER NOT NULL, size TEXT NOT NULL, created_at REAL NOT NULL, starts_at REAL NOT NULL, ends_at REAL,
    failure_code TEXT, failure_message TEXT, remixed_from TEXT, deleted_at REAL
);
CREATE INDEX IF NOT EXISTS creates ON jobs (deployment, created_at);
CREATE TABLE IF NOT EXISTS reference_images (id TEXT PRIMARY KEY, image BLOB NOT NULL);
"""


class Jobs:
    """Every create that was ever accepted: committed before it is answered, kept when the video is
    deleted.

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
        marks = ", ".join("?" for _ in fields(Job))
        with self._database as transaction:
            transaction.execute(f"INSERT INTO jobs ({_COLUMNS}) VALUES ({marks})", astuple(job))
            if reference is not None:
                transaction.execute("INSERT INTO reference_images VALUES (?, ?)", (job.id, reference))

    def find(self, job_id: str) -> Job | None:
        found = self._select("WHERE id = ? AND deleted_at IS NULL", job_id)
        return found[0] if found else None

    def reference(self, job_id: str) -> bytes | None:
        with closing(self._database.execute("SELECT image FROM reference_images WHERE id = ?", (job_id,))) as found:
            row = found.fetchone()
        return row[0] if row else None

    def page(self, *, limit: int, newest_first: bool, after: str | None) -> list[Job]:
        """Up to `limit` jobs that are not deleted, following the job named `after`."""
        direction, further = ("DESC", "<") if newest_first else ("ASC", ">")
        where, values = "WHERE deleted_at IS NULL", []
        if after is not None:
            where += f" AND number {further} (SELECT number FROM jobs WHERE id = ?)"
            values = [after]
        return self._select(f"{where} ORDER BY number {direction} LIMIT ?", *values, limit)

    def accepted(self) -> list[Job]:
        """Every accepted create in order, deleted ones too."""
        return self._select("ORDER BY number")

    def accepted_since(self, deployment: str, moment: float) -> int:
        return len(self._select("WHERE deployment = ? AND created_at > ?", deployment, moment))

    def running(self, deployment: str, now: float) -> int:
        unended = self._select(
            "WHERE deployment = ? AND deleted_at IS NULL AND (ends_at IS NULL OR ends_at > ?)", deployment, now
        )
        return len(unended)

    def delete(self, job_id: str, now: float) -> None:
        with self._database as transaction:
            transaction.execute("UPDATE jobs SET deleted_at = ? WHERE id = ?", (now, job_id))

    def clear(self) -> None:
        with self._database as transaction:
            transaction.execute("DELETE FROM jobs")
            transaction.execute("DELETE FROM reference_images")

    def _select(self, rest: str, *values: object) -> list[Job]:
        with closing(self._database.execute(f"SELECT {_COLUMNS} FROM jobs {rest}", values)) as rows:
            return [Job(*row) for row in rows]
